"""A causal transformer with every activation named, and a cache for decoding."""

from activjax.models.decoder._rotary import RotaryScaling as RotaryScaling
from activjax.models.decoder.cache import Cache as Cache
from activjax.models.decoder.config import DecoderConfig as DecoderConfig
from activjax.models.decoder.model import Decoder as Decoder, decoder as decoder
