"""Training: one pure optimiser step, one loop that runs it in chunks, checkpoints between them."""

from activjax.training.loop import (
    Chunk as Chunk,
    Finished as Finished,
    Loop as Loop,
    run as run,
)
from activjax.training.step import (
    TrainState as TrainState,
    accuracy as accuracy,
    classification as classification,
    init_state as init_state,
    train_step as train_step,
)
