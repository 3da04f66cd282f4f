"""Trackers: TensorBoard, MLflow and Weights & Biases follow a run's or a sweep's folder.

    activjax run my.yaml --track tensorboard,mlflow
    activjax track RUN|SWEEP --track wandb            # after the fact, by the same code

The folder stays the truth: a thread reads what is appended to it and passes it on. No number of a
run depends on a tracker, and a tracker that fails or hangs never stops a run.
"""

from activjax.runs.trackers.choose import ENVIRONMENT, NAMES, chosen
from activjax.runs.trackers.follow import export, following
from activjax.runs.trackers.protocol import Tracked, Tracker

__all__ = ["ENVIRONMENT", "NAMES", "Tracked", "Tracker", "chosen", "export", "following"]
