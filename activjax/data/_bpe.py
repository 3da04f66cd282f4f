"""Byte-level byte-pair encoding, trained on texts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from activjax.data._library_tokenizer import as_str, wrap
from activjax.data._needs import needed
from activjax.data._tokenizer import Tokenizer

_END = "<|end|>"


def train_bpe(texts: Iterable[str], vocab: int, *, path: str | Path | None = None) -> Tokenizer:
    """Train byte-level byte-pair encoding; the same texts give the same tokenizer.

    It loses nothing: no normaliser, no added space, all 256 bytes in its alphabet. Words are
    split as by GPT-2, and a pair must occur twice to be merged. Its one special token is
    `<|end|>`, id 0. Sennrich, Haddow and Birch 2016; on bytes Radford et al. 2019.

    Args:
      texts: such as a `Corpus`, of which only the training part should be given.
      vocab: how many ids to make, 257 (no merge at all) or more.
      path: where to save it: a `.json` file, or a folder for its `tokenizer.json`.

    Raises:
      ImportError: the library is missing (`pip install 'activjax[text]'`).
      ValueError: `vocab` is below 257, or more than the texts have repeated pairs for; or a
        text has a lone surrogate.
    """
    library = needed("tokenizers", "text", "train_bpe")
    if vocab < 257:
        raise ValueError(f"vocab: expected at least 257 (256 bytes and {_END}), got {vocab}")
    byte_level = library.pre_tokenizers.ByteLevel
    inner = library.Tokenizer(library.models.BPE())
    inner.pre_tokenizer = byte_level(add_prefix_space=False, use_regex=True)
    inner.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocab,
        min_frequency=2,
        special_tokens=[_END],
        initial_alphabet=sorted(byte_level.alphabet()),
        show_progress=False,
    )
    # In full before training: an error inside the library's threads would lose its message.
    whole = [as_str(text) for text in texts]
    inner.train_from_iterator(whole, trainer)
    if (made := inner.get_vocab_size()) < vocab:
        raise ValueError(
            f"vocab: {vocab} ids were asked for, but the {len(whole)} texts have repeated pairs "
            f"for {made} only; ask for {made} or less, or give more text"
        )
    if path is not None:
        path = Path(path).expanduser()
        path = path if path.suffix == ".json" else path / "tokenizer.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(inner.to_str(pretty=True), encoding="utf-8")
    return wrap(inner, inner.token_to_id(_END))
