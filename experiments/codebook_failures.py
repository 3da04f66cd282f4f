"""What makes codebooks fail to train, one thing changed at a time: the picture of the guide.

    python experiments/codebook_failures.py docs/guide/codebooks-failures.png

The network and the machine are those of `codebook_fsm.py`, with shorter training.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
from codebook_fsm import smooth
from codebook_fsm_lab import Config, Lab, lab_of, sampled_books, train_base, train_codes

from activjax import training
from activjax.runs import figures

SHORT = Config(base_steps=800, steps=600)
CHANGED: dict[str, dict[str, Any]] = {
    "as recommended": {},
    "no normalisation": {"norm": "none"},
    "the network's rate and clipping": {},
    "no revival": {"revive_every": 0},
    "64 codes": {"mlp_codes": 64},
}


def rate_of_the_network(lab: Lab) -> Any:
    """An optimiser for codes like the network's."""
    return training.adamw(lab.config.rate, steps=lab.config.steps, decay=0.0)


def curves() -> dict[str, dict[str, np.ndarray]]:
    """The metrics of every step, by what was changed."""
    params, _ = train_base(lab_of(SHORT), jax.random.key(0))
    found = {}
    for name, fields in CHANGED.items():
        lab = lab_of(dataclasses.replace(SHORT, **fields))
        books = sampled_books(lab, params, jax.random.key(1))
        other = rate_of_the_network(lab) if "rate" in name else None
        found[name] = train_codes(lab, params, books, jax.random.key(2), other)[1]
        print(name, {k: float(v[-50:].mean()) for k, v in found[name].items()}, flush=True)
    return found


def picture(found: dict[str, dict[str, np.ndarray]]) -> Any:
    """Loss, error and dead codes over training."""
    fig, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
    for name, metrics in found.items():
        for ax, metric in zip(axes, ("loss", "codebook_loss", "dead")):
            ax.plot(*smooth(metrics[metric]), label=name)
    axes[0].set(xlabel="step with codebooks", ylabel="loss (nats a token)")
    axes[1].set(xlabel="step with codebooks", ylabel="squared error of the codes", yscale="log")
    axes[2].set(xlabel="step with codebooks", ylabel="codes unused since revival (share)")
    figures.legend_below(fig, axes)
    return fig


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python experiments/codebook_failures.py FILE.png")
    with figures.style():
        picture(curves()).savefig(sys.argv[1], dpi=110, metadata={"Software": None})
