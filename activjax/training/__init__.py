"""Training: one pure optimiser step, one loop that runs it in chunks, checkpoints between them;
losses, optimisers, and LoRA as a transform of parameters."""

from activjax.training import lora as lora
from activjax.training._next_token import next_token as next_token, token_losses as token_losses
from activjax.training._optimiser import (
    adamw as adamw,
    partition as partition,
    warmup_cosine as warmup_cosine,
)
from activjax.training.loop import (
    Chunk as Chunk,
    Finished as Finished,
    Loop as Loop,
    run as run,
)
from activjax.training.model_folder import load_model as load_model, save_model as save_model
from activjax.training.step import (
    TrainState as TrainState,
    accuracy as accuracy,
    classification as classification,
    init_state as init_state,
    train_step as train_step,
)
