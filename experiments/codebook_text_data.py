"""Text for `codebook_text.py`: rows to train on, excerpts of held-out files, and what they show.

Every held-out excerpt is one example, so that whatever is chosen on some excerpts is measured on
other files. A token of an excerpt is seen in one window, with half a window before it. A token has
a concept if one of its bytes has it, which takes a tokenizer that loses no byte of a text.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import re
import tokenize
from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from activjax import data

#: Folders of the library that are tables of one form.
LEFT_OUT = ("pydoc_data/*", "encodings/*")
CODER = data.byte_tokenizer()


@dataclasses.dataclass(frozen=True)
class Concept:
    """Something that bytes of a program are, or are not.

    Attributes:
        label: a regular expression, whose group 1 is meant; or "tokenize": the mask of that name.
        shows: what a text that has the concept has somewhere, for steering.
    """

    label: str
    shows: str


#: Written down before any code was looked at.
CONCEPTS = {
    "in a string": Concept("tokenize", r"['\"]\w"),
    "in a docstring": Concept("tokenize", r'"""'),
    "in a comment": Concept("tokenize", r"(?m)(?:^|[ \t])#"),
    "attribute of self": Concept(r"\bself\.(\w+)", r"\bself\.\w"),
    "line at depth 1": Concept(r"(?m)^ {4}(\S)", r"(?m)^ {4}\S"),
    "line at depth 2": Concept(r"(?m)^ {8}(\S)", r"(?m)^ {8}\S"),
    "name after def": Concept(r"\bdef (\w+)", r"\bdef \w"),
    "in an import": Concept(
        r"(?m)^ *(?:import|from [.\w]+ import) ([^\n]+)",
        r"(?m)^ *(?:import|from [.\w]+ import) [^\n]",
    ),
}


@functools.cache
def library() -> data.Corpus:
    """The standard library's source."""
    return data.stdlib(leave_out=LEFT_OUT)


@dataclasses.dataclass(frozen=True)
class Held:
    """Excerpts of held-out files.

    Attributes:
        names: of the files.
        tokens: the ids, `[documents, size]`.
        context: tokens of a window; windows begin half of it apart.
        masks: for each concept that Python's tokenizer tells, which tokens have it, as `tokens`.
        pieces: what each id of them stands for.
        tokenizer: of the ids.
    """

    names: tuple[str, ...]
    tokens: Int[np.ndarray, "documents size"]
    context: int
    masks: dict[str, Bool[np.ndarray, "documents size"]]
    pieces: dict[int, bytes] = dataclasses.field(default_factory=dict)
    tokenizer: data.Tokenizer = CODER

    @property
    def sizes(self) -> Float[np.ndarray, " documents"]:
        """Bytes of each excerpt without its first token, which is not predicted."""
        return self.tokenizer.byte_lengths[self.tokens[:, 1:]].sum(1).astype(np.float64)

    @property
    def ends_line(self) -> Bool[np.ndarray, "documents size"]:
        """Which tokens end with a line."""
        ids = [i for i, piece in self.pieces.items() if piece.endswith(b"\n")]
        return np.isin(self.tokens, ids)

    def vocabulary(self, size: int) -> list[bytes]:
        """What every one of a model's `size` ids stands for, exactly for those in the excerpts."""
        known = range(min(size, self.tokenizer.vocab))
        if self.tokenizer == CODER:
            own = [bytes([i]) if i < CODER.end else b"" for i in known]
        else:
            own = [self.pieces.get(i) or self.tokenizer.decode([i]).encode() for i in known]
        return own + [b""] * (size - len(own))

    @property
    def windows(self) -> Int[np.ndarray, "rows context"]:
        """All windows, document by document."""
        starts = np.arange(0, self.tokens.shape[1] - self.context + 1, self.context // 2)
        at = starts[:, None] + np.arange(self.context)
        return self.tokens[:, at].reshape(-1, self.context)

    def joined(self, values: Any, lost: int = 0) -> np.ndarray:
        """What was found in windows, `[..., rows, context - lost, *rest]` of axis 0, as excerpts.

        Of every window but a document's first, the last `context / 2` places count.

        Args:
            values: `[rows, context - lost, ...]`.
            lost: places that a window lacks at its beginning (a first byte is not predicted).

        Returns:
            `[documents, size - lost, ...]`.
        """
        values = np.asarray(values)
        documents, stride = len(self.tokens), self.context // 2
        by = values.reshape(documents, -1, *values.shape[1:])
        later = by[:, 1:, self.context - lost - stride :]
        rest = later.reshape(documents, -1, *values.shape[2:])
        return np.concatenate([by[:, 0], rest], axis=1)

    def query(self, name: str) -> Any:
        """The concept as `codebooks.find` takes it."""
        label = CONCEPTS[name].label
        return self.masks[name].reshape(-1) if label == "tokenize" else label


def split(held_out: float, modules: int | None) -> tuple[data.Corpus, data.Corpus]:
    """Files to train on, and files that nothing is trained on."""
    corpus = library()
    if modules is not None:
        order = np.random.default_rng(0).permutation(len(corpus))[:modules]
        kept = np.isin(np.arange(len(corpus)), order)
        pairs = [p for p, keep in zip(zip(corpus.names, corpus.texts), kept) if keep]
        corpus = data.Corpus.of(pairs, label="modules", files=corpus.files)
    return corpus.split(held_out)


def excerpts(
    held: data.Corpus, documents: int, size: int, context: int, tokenizer: data.Tokenizer = CODER
) -> Held:
    """One excerpt, from a random line on, of each of the first files that are long enough."""
    if (size - context) % (context // 2) or size < context:
        raise ValueError(
            f"excerpt: expected {context} + a multiple of {context // 2} tokens, so that windows "
            f"fit, got {size}"
        )
    names, tokens, masks, pieces = [], [], [], {}
    for name, text in held_files(held):
        ids, raw, ends = in_bytes(tokenizer, text)
        starts = ends - tokenizer.byte_lengths[ids]
        after = np.flatnonzero(raw[starts[1 : len(ids) - size + 1] - 1] == ord("\n")) + 1
        marks = None if len(ids) < size or not len(after) else marked(text)
        if marks is None:
            continue
        start = int(np.random.default_rng([*name.encode()]).choice(after))
        kept = slice(start, start + size)
        names.append(name)
        tokens.append(ids[kept])
        whole, lead = raw.tobytes(), np.zeros(len(raw) - len(text.encode()), bool)
        masks.append({
            k: any_of(np.concatenate([lead, v]), starts[kept], ends[kept]) for k, v in marks.items()
        })  # fmt: skip
        pieces |= {int(i): whole[a:b] for i, a, b in zip(ids[kept], starts[kept], ends[kept])}
        if len(names) == documents:
            break
    if len(names) < 4:
        raise ValueError(
            f"documents: {len(names)} held-out files have {size} tokens and can be tokenized, "
            "expected at least 4: shorten excerpts, or hold more out"
        )
    stacked = {k: np.stack([m[k] for m in masks]) for k in masks[0]}
    return Held(tuple(names), np.stack(tokens), context, stacked, pieces, tokenizer)


def in_bytes(
    tokenizer: data.Tokenizer, text: str
) -> tuple[Int[np.ndarray, " n"], UInt8[np.ndarray, " bytes"], Int[np.ndarray, " n"]]:
    """A text's ids, its bytes as they have them, and where each of them ends in these.

    Raises:
      ValueError: the tokenizer loses some of the text: no byte could be said to have a concept.
    """
    ids, raw = tokenizer.encode(text), text.encode()
    ends = np.cumsum(tokenizer.byte_lengths[ids], dtype=np.int64)
    more = int(ends[-1]) - len(raw) if len(ids) else 0
    # some put a space before a text, and take it away again
    if more not in (0, 1) or (tokenizer != CODER and tokenizer.decode(ids) != text):
        raise ValueError(
            "model: its tokenizer does not give a text back as it was; this experiment marks bytes "
            "of programs, and needs one of bytes, byte-level, or with a token for every byte"
        )
    return ids, np.frombuffer(b" " * more + raw, np.uint8), ends


def any_of(
    marked: Bool[np.ndarray, " bytes"], starts: Int[np.ndarray, " n"], ends: Int[np.ndarray, " n"]
) -> Bool[np.ndarray, " n"]:
    """Which tokens have a marked byte."""
    before = np.concatenate([[0], np.cumsum(marked)])
    return before[ends] > before[starts]


def held_files(held: data.Corpus) -> list[tuple[str, str]]:
    """The files in random order: names sort by package."""
    order = np.random.default_rng(0).permutation(len(held))
    return [(held.names[i], held.texts[i]) for i in order]


def marked(text: str) -> dict[str, Bool[np.ndarray, " bytes"]] | None:
    """Which bytes lie in strings, docstrings and comments; None of what is no Python.

    Quotes and a comment's `#` are outside. A docstring is a string that is a statement of its own.
    """
    lines = [*(line + "\n" for line in text.split("\n")), ""]  # the end is a line further
    size = len(text.encode())
    begins = np.cumsum([0, *(len(line.encode()) for line in lines)])

    def byte(place: tuple[int, int]) -> int:
        row, column = place
        return int(begins[row - 1]) + len(lines[row - 1][:column].encode())

    found = {n: np.zeros(size, bool) for n, c in CONCEPTS.items()
             if c.label == "tokenize"}  # fmt: skip
    fresh, opened = True, None  # at the beginning of a statement; where an f-string began
    skipped = (tokenize.NL, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT)
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO("".join(lines), newline="").readline))
    except (tokenize.TokenError, SyntaxError):
        return None
    for token, after in zip(tokens, [*tokens[1:], None]):
        kind = tokenize.tok_name[token.type]
        start, stop = byte(token.start), min(byte(token.end), size)
        if kind == "COMMENT":
            found["in a comment"][start + 1 : stop] = True
        elif kind == "STRING":
            alone = fresh and after is not None and after.type == tokenize.NEWLINE
            quotes = re.match(r"""\w*('''|\"\"\"|'|")""", token.string)
            head = len(quotes.group(0)) if quotes else 1
            tail = len(quotes.group(1)) if quotes else 1
            name = "in a docstring" if alone else "in a string"
            found[name][start + head : stop - tail] = True
        elif kind == "FSTRING_START":  # tokens of their own from Python 3.12 on
            opened = stop
        elif kind == "FSTRING_END" and opened is not None:
            found["in a string"][opened:start] = True
            opened = None
        if token.type not in skipped:
            fresh = token.type in (tokenize.NEWLINE, tokenize.ENCODING)
    return found


def rows(train: Iterable[str], length: int, tokenizer: data.Tokenizer = CODER) -> data.Packed:
    """The training files, end to end, in rows."""
    return data.pack([tokenizer.encode(t) for t in train], length, end=tokenizer.end)
