"""A BERT-style encoder with every activation named."""

from activjax.models.encoder.config import EncoderConfig as EncoderConfig
from activjax.models.encoder.model import Encoder as Encoder, encoder as encoder
