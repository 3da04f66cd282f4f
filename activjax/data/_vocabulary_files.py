"""Tokenizers from before `tokenizer.json`: `vocab.json` with `merges.txt`, or `vocab.txt`."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from activjax.data._library_tokenizer import reported
from activjax.data._tokenizer_files import Beside, added_tokens, read, read_dict

#: Classes of the transformers library, and its model types, whose vocabulary files say all.
_GPT2 = ("GPT2Tokenizer", "gpt2", "gpt_neo", "gptj")
_BERT = (
    "BertTokenizer",
    "DistilBertTokenizer",
    "ElectraTokenizer",
    "bert",
    "distilbert",
    "electra",
)
_GPT2_END = "<|endoftext|>"
_SENTENCES = ("*.model", "*.tiktoken", "tekken.json")


def build(library: Any, folder: Path, files: Beside) -> Any:
    """A library object from a folder without `tokenizer.json`; None if it has no vocabulary.

    Raises:
      ValueError: the files are another kind of tokenizer's, or damaged.
    """
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        _check_kind(folder, files, "vocab.json and merges.txt", _GPT2)
        return _gpt2(library, folder, files)
    if (folder / "vocab.txt").is_file():
        _check_kind(folder, files, "vocab.txt", _BERT)
        return _bert(library, folder, files)
    for pattern in _SENTENCES:
        for path in folder.glob(pattern):
            raise ValueError(
                f"{path}: a vocabulary of another library, and no tokenizer.json beside it. "
                + _convert(folder)
            )
    return None


def _convert(folder: Path) -> str:
    return (
        "Let transformers write one, once: "
        f"AutoTokenizer.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"
    )


def _check_kind(folder: Path, files: Beside, what: str, known: tuple[str, ...]) -> None:
    """Refuse vocabulary files whose tokenizer has rules that they do not say."""
    model = read_dict(folder / "config.json")
    named = [files.config.get("tokenizer_class"), model.get("tokenizer_class")]
    kind = next((k for k in [*named, model.get("model_type")] if k is not None), None)
    if kind is not None and str(kind).removesuffix("Fast") not in known:
        near = difflib.get_close_matches(str(kind), known, n=1)
        hint = f" (nearest: {near[0]})" if near else ""
        raise ValueError(
            f"{folder}: {what} of a {kind}, whose other rules are not in its files; read without "
            f"tokenizer.json are {', '.join(known)}{hint}. {_convert(folder)}"
        )


def _gpt2(library: Any, folder: Path, files: Beside) -> Any:
    lines = read(folder / "merges.txt").split("\n")
    start = 1 if lines[0].startswith("#version") else 0
    merges = [tuple(line.rstrip("\r").split(" ")) for line in lines[start:] if line.strip()]
    if bad := [pair for pair in merges if len(pair) != 2]:
        raise ValueError(f"{folder / 'merges.txt'}: expected pairs, got {' '.join(bad[0])!r:.60}")
    prefix = bool(files.config.get("add_prefix_space", False))
    with reported(f"{folder}: vocab.json and merges.txt"):
        inner = library.Tokenizer(library.models.BPE(read_dict(folder / "vocab.json"), merges))
    inner.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=True)
    inner.decoder = library.decoders.ByteLevel()
    _add(library, inner, folder, files, (_GPT2_END,))
    ends = [
        files.names.get(f"{kind}_token", _GPT2_END) if files.config.get(f"add_{kind}_token") else ""
        for kind in ("bos", "eos")
    ]
    _template(library, inner, folder, ends[0], ends[1])
    return inner


def _bert(library: Any, folder: Path, files: Beside) -> Any:
    lines = read(folder / "vocab.txt").split("\n")
    lines = lines[:-1] if lines[-1] == "" else lines
    vocabulary = {line.rstrip("\r"): i for i, line in enumerate(lines)}
    usual = {f"{kind}_token": f"[{kind.upper()}]" for kind in ("unk", "sep", "pad", "cls", "mask")}
    names = {**usual, **files.names}
    for kind in ("unk", "cls", "sep"):
        if (token := names[f"{kind}_token"]) not in vocabulary:
            raise ValueError(f"{folder / 'vocab.txt'}: no {token!r}, which a BERT vocabulary has")
    say = files.config.get
    if not isinstance(accents := say("strip_accents"), (bool, type(None))):
        raise ValueError(f"{folder}: strip_accents: expected true, false or null, got {accents!r}")
    inner = library.Tokenizer(library.models.WordPiece(vocabulary, unk_token=names["unk_token"]))
    inner.normalizer = library.normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=bool(say("tokenize_chinese_chars", True)),
        strip_accents=accents,
        lowercase=bool(say("do_lower_case", True)),
    )
    inner.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
    inner.decoder = library.decoders.WordPiece(prefix="##")
    _add(library, inner, folder, files, tuple(usual.values()))
    _template(library, inner, folder, names["cls_token"], names["sep_token"])
    return inner


def _add(library: Any, inner: Any, folder: Path, files: Beside, usual: tuple[str, ...]) -> None:
    """Add tokens that are not in the vocabulary file, and mark those that are special."""
    added = _more(folder, files)
    special = {*files.special, *(t for t in usual if inner.token_to_id(t) is not None)}
    _extend(library, inner, folder, added, special)
    rest = sorted(special - {token["content"] for token in added.values()})
    known = [text for text in rest if inner.token_to_id(text) is not None]
    inner.add_special_tokens([library.AddedToken(text, normalized=False) for text in known])


def add_missing(library: Any, inner: Any, folder: Path, files: Beside) -> None:
    """Add the tokens that the files beside a `tokenizer.json` have, and it has not.

    Raises:
      ValueError: they cannot have the ids that they are to have.
    """
    added = _more(folder, files)
    new = {i: token for i, token in added.items() if inner.token_to_id(token["content"]) is None}
    _extend(library, inner, folder, new, {*files.special})


def _more(folder: Path, files: Beside) -> dict[int, dict[str, Any]]:
    """Tokens that the files beside a vocabulary add to it, by id."""
    added = added_tokens(folder / "tokenizer_config.json", files.config)
    for text, i in read_dict(folder / "added_tokens.json").items():
        if type(i) is not int:
            raise ValueError(f"{folder / 'added_tokens.json'}: {text!r}: expected an id, got {i!r}")
        added.setdefault(i, {"content": text})
    return added


def _extend(
    library: Any, inner: Any, folder: Path, added: dict[int, dict[str, Any]], special: set[str]
) -> None:
    for i, token in sorted(added.items()):
        text = token["content"]
        kinds = {k: token[k] is True for k in ("lstrip", "rstrip", "single_word") if k in token}
        normal = token.get("normalized", text not in special) is True
        one = library.AddedToken(text, normalized=normal, **kinds)
        as_special = text in special or token.get("special") is True
        (inner.add_special_tokens if as_special else inner.add_tokens)([one])
        if (got := inner.token_to_id(text)) != i:
            raise ValueError(
                f"{folder}: {text!r} is to have the id {i}, but comes out as {got}: ids are "
                f"missing before it. {_convert(folder)}"
            )


def _template(library: Any, inner: Any, folder: Path, begin: str, finish: str) -> None:
    ends = [text for text in (begin, finish) if text]
    for text in ends:
        if inner.token_to_id(text) is None:
            raise ValueError(f"{folder}: {text!r}, put around texts, is not in the vocabulary")
    if ends:
        parts = [part for part in (begin, "$A", finish) if part]
        pairs = [(text, inner.token_to_id(text)) for text in dict.fromkeys(ends)]
        inner.post_processor = library.processors.TemplateProcessing(
            single=parts, special_tokens=pairs
        )
