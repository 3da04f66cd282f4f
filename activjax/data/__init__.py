"""Embedded real data, and iterators whose position can be saved."""

from activjax.data import languages as languages
from activjax.data._batches import Batches as Batches, BatchState as BatchState
from activjax.data._bits import (
    bits_per_byte as bits_per_byte,
    xz_bits_per_byte as xz_bits_per_byte,
)
from activjax.data._bpe import train_bpe as train_bpe
from activjax.data._choose import corpus as corpus
from activjax.data._corpus import Corpus as Corpus, LeftOut as LeftOut
from activjax.data._digits import Split as Split, digits as digits, stratified as stratified
from activjax.data._find import find as find
from activjax.data._hub import hub as hub
from activjax.data._load_tokenizer import load_tokenizer as load_tokenizer
from activjax.data._ngram import (
    Ngram as Ngram,
    ngram as ngram,
    ngram_bits_per_byte as ngram_bits_per_byte,
)
from activjax.data._packing import Packed as Packed, pack as pack
from activjax.data._sources import jsonl as jsonl, parquet as parquet, text_files as text_files
from activjax.data._stdlib import stdlib as stdlib
from activjax.data._stream import TextStream as TextStream
from activjax.data._tokenizer import Tokenizer as Tokenizer, byte_tokenizer as byte_tokenizer
from activjax.data._tokenizer_files import (
    TOKENIZER_FILES as TOKENIZER_FILES,
    copy_tokenizer as copy_tokenizer,
    tokenizer_files as tokenizer_files,
)
from activjax.data._windows import Windows as Windows, windows as windows
