"""A tiny experiment under the plain contract."""

import dataclasses
import time

import numpy as np

from activjax import runs


@dataclasses.dataclass(frozen=True)
class Config:
    n: int = runs.static(10, ge=1)
    sleep: float = 0.0


def main(config, out):
    out.log("sampling")
    time.sleep(config.sleep)
    means = [np.random.default_rng(seed).random(config.n).mean() for seed in out.seeds]
    out.array("means", np.asarray(means))
    row = runs.Row.over("mean", means, baseline=0.5, baseline_name="expected")
    return runs.Result("Is it a half?", "About.", (row,))
