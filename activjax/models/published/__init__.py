"""Published weights: folders of safetensors as models of this package, and back.

`load`, `save` and the adapters of PEFT; and what a family of one's own is written with.
"""

from activjax.models.published._adapters import (
    load_adapters as load_adapters,
    save_adapters as save_adapters,
)
from activjax.models.published._family import CannotExpress as CannotExpress, Family as Family
from activjax.models.published._layout import (
    BESIDE as BESIDE,
    BY_HEAD as BY_HEAD,
    SAME as SAME,
    STACKED as STACKED,
    TURNED as TURNED,
    Entry as Entry,
    Layout as Layout,
    by_head as by_head,
    conv1d as conv1d,
    linear as linear,
    norm as norm,
    plain as plain,
)
from activjax.models.published._load import Loaded as Loaded, load as load
from activjax.models.published._options import Options as Options
from activjax.models.published._safetensors import WeightsError as WeightsError
from activjax.models.published._save import save as save
