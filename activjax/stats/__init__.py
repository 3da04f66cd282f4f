"""Statistics of activations in one pass, what they tell, and estimates with their intervals."""

from activjax.stats._accumulator import (
    Accumulator as Accumulator,
    Rows as Rows,
    together as together,
)
from activjax.stats._activity import (
    Massive as Massive,
    SparsityCurve as SparsityCurve,
    massive_activations as massive_activations,
    massive_table as massive_table,
    sparsity_curve as sparsity_curve,
)
from activjax.stats._auroc import Delong as Delong, auroc as auroc, delong as delong
from activjax.stats._bootstrap import bootstrap as bootstrap
from activjax.stats._calibration import ece as ece
from activjax.stats._coactive import Coactivation as Coactivation, coactive as coactive
from activjax.stats._count import Count as Count
from activjax.stats._cross import (
    Cross as Cross,
    RangeSketch as RangeSketch,
    cross as cross,
    range_sketch as range_sketch,
)
from activjax.stats._detectors import (
    auprc as auprc,
    fpr_at_tpr as fpr_at_tpr,
    tpr_at_fpr as tpr_at_fpr,
)
from activjax.stats._estimate import Estimate as Estimate
from activjax.stats._exceedances import Exceedances as Exceedances, exceedances as exceedances
from activjax.stats._harvest import (
    Harvest as Harvest,
    HarvestState as HarvestState,
    harvest as harvest,
)
from activjax.stats._histogram import Histogram as Histogram, histogram as histogram
from activjax.stats._intervals import (
    mean_interval as mean_interval,
    ratio_interval as ratio_interval,
    wilson as wilson,
)
from activjax.stats._moments import Moments as Moments, moments as moments
from activjax.stats._reservoir import Sample as Sample, reservoir as reservoir
from activjax.stats._similarity import (
    SVCCA as SVCCA,
    cka as cka,
    cka_from_scatter as cka_from_scatter,
    svcca as svcca,
)
from activjax.stats._spectra import (
    MarchenkoPastur as MarchenkoPastur,
    Spectrum as Spectrum,
    effective_rank as effective_rank,
    marchenko_pastur as marchenko_pastur,
    spectral_entropy as spectral_entropy,
    spectrum as spectrum,
)
from activjax.stats._top_k import TopK as TopK, top_k as top_k
