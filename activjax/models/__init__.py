"""Networks as pure functions, with every activation named."""

from activjax.models._model import Model as Model
from activjax.models.cnn import cnn as cnn
from activjax.models.decoder import (
    Cache as Cache,
    Decoder as Decoder,
    DecoderConfig as DecoderConfig,
    RotaryScaling as RotaryScaling,
    decoder as decoder,
)
from activjax.models.encoder import (
    Encoder as Encoder,
    EncoderConfig as EncoderConfig,
    encoder as encoder,
)
from activjax.models.generation import (
    Generated as Generated,
    generate as generate,
    last_token as last_token,
    prefill as prefill,
    sample as sample,
    sweep_last_token as sweep_last_token,
)
from activjax.models.mlp import mlp as mlp
from activjax.models.published import (
    Loaded as Loaded,
    WeightsError as WeightsError,
    load as load,
    load_adapters as load_adapters,
    save as save,
    save_adapters as save_adapters,
)
from activjax.models.sharding import (
    SHARDING_RULES as SHARDING_RULES,
    Placement as Placement,
    mesh as mesh,
    sharding as sharding,
)
