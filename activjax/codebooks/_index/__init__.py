"""Which tokens chose which codes: an index on disk, tables of it, and the search for a code."""

from activjax.codebooks._index._codebook import Codebook as Codebook, Postings as Postings
from activjax.codebooks._index._find import find as find
from activjax.codebooks._index._found import Found as Found, Half as Half, Hit as Hit
from activjax.codebooks._index._halves import reported_half as reported_half
from activjax.codebooks._index._labels import labels as labels
from activjax.codebooks._index._layout import Code as Code, Layout as Layout
from activjax.codebooks._index._open import Index as Index, open_index as open_index
from activjax.codebooks._index._score import Score as Score
from activjax.codebooks._index._tables import (
    CoactiveRow as CoactiveRow,
    Coverage as Coverage,
    TokenRow as TokenRow,
    coactivation as coactivation,
    cooccurrence as cooccurrence,
    token_counts as token_counts,
    token_table as token_table,
    topic_coverage as topic_coverage,
)
from activjax.codebooks._index._vocabulary import Vocabulary as Vocabulary
from activjax.codebooks._index._writer import IndexWriter as IndexWriter, write_index as write_index
