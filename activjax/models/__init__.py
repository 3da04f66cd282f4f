"""Networks as pure functions, with every activation named."""

from activjax.models._model import Model as Model
from activjax.models.cnn import cnn as cnn
from activjax.models.mlp import mlp as mlp
