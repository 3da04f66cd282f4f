"""Membership inference: drift-based scores, published attacks, and audits that cannot flatter.

Every score is oriented: higher means member. What is fitted is fitted on examples that are not
scored afterwards, and nothing is flipped.
"""

from activjax.membership._all_scores import scores as scores
from activjax.membership._ascent import Ascent as Ascent, ascend as ascend
from activjax.membership._attack import (
    Attack as Attack,
    fit_attack as fit_attack,
    halves as halves,
    stacked as stacked,
)
from activjax.membership._controls import (
    Blind as Blind,
    Permuted as Permuted,
    blind as blind,
    blind_features as blind_features,
    permuted as permuted,
)
from activjax.membership._distribution_scores import (
    TokenStatistics as TokenStatistics,
    confidence as confidence,
    entropy_score as entropy_score,
    margin_score as margin_score,
    min_k as min_k,
    min_k_plus_plus as min_k_plus_plus,
    token_statistics as token_statistics,
)
from activjax.membership._drift import (
    Drift as Drift,
    Features as Features,
    drift as drift,
    features as features,
    random_directions as random_directions,
)
from activjax.membership._duplicates import (
    check_overlap as check_overlap,
    duplicates as duplicates,
    near_duplicates as near_duplicates,
)
from activjax.membership._evaluate import (
    Evaluation as Evaluation,
    Row as Row,
    compare as compare,
    evaluate as evaluate,
    roc as roc,
)
from activjax.membership._loss import cross_entropy as cross_entropy
from activjax.membership._measures import OutDrift as OutDrift, SiteDrift as SiteDrift
from activjax.membership._references import lira as lira, mean_out as mean_out, rmia as rmia
from activjax.membership._scores import (
    grad_norm_score as grad_norm_score,
    loss_score as loss_score,
    recall_losses as recall_losses,
    recall_score as recall_score,
    reference_score as reference_score,
    zlib_bytes as zlib_bytes,
    zlib_score as zlib_score,
)
from activjax.membership._shadows import (
    Shadows as Shadows,
    half_splits as half_splits,
    train_shadows as train_shadows,
)
from activjax.membership._spec import DriftSpec as DriftSpec
