"""Codebook bottlenecks: an activation replaced by the sum of its nearest codes.

Train through them, read what each code means, and steer with them (Tamkin, Taufeeque and Goodman
2023, "Codebook Features", arXiv 2310.17230).
"""

from activjax.codebooks._bottleneck import bottleneck as bottleneck
from activjax.codebooks._build import index as index
from activjax.codebooks._ema import Ema as Ema, ema as ema, ema_init as ema_init
from activjax.codebooks._index import (
    Code as Code,
    Found as Found,
    Hit as Hit,
    Index as Index,
    IndexWriter as IndexWriter,
    Layout as Layout,
    cooccurrence as cooccurrence,
    find as find,
    labels as labels,
    open_index as open_index,
    reported_half as reported_half,
    token_table as token_table,
    topic_coverage as topic_coverage,
)
from activjax.codebooks._init import init as init
from activjax.codebooks._io import load as load, save as save
from activjax.codebooks._loss import loss as loss
from activjax.codebooks._overrides import (
    Override as Override,
    Overrides as Overrides,
    overrides as overrides,
)
from activjax.codebooks._rows import Inputs as Inputs
from activjax.codebooks._run import inputs as inputs, run as run
from activjax.codebooks._spec import Spec as Spec
from activjax.codebooks._strategy import Strategy as Strategy
from activjax.codebooks._trace import Trace as Trace
from activjax.codebooks._train import (
    TrainState as TrainState,
    init_state as init_state,
    optimiser as optimiser,
    train_step as train_step,
)
from activjax.codebooks._tune import tune as tune
from activjax.codebooks._usage import (
    Usage as Usage,
    revive as revive,
    track as track,
    usage as usage,
)
from activjax.codebooks._viewer import save_view as save_view, write_page as write_page
