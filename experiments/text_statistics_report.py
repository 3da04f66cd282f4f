"""Summary, figure and tables of `text_statistics.py`."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Sequence
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float

from activjax import data, runs, stats
from activjax.runs import figures


@dataclasses.dataclass(frozen=True)
class Measure:
    """One statistic by layer.

    Attributes:
        name: what it is.
        values: `[layers]`.
        low, high: ends of the 95 % interval over documents; None for a maximum, which has none.
        level: what to read it against.
        meaning: what that is.
        unit: of the values.
        log: whether it is drawn on a logarithmic axis.
    """

    name: str
    values: Float[np.ndarray, " layers"]
    low: Float[np.ndarray, " layers"] | None
    high: Float[np.ndarray, " layers"] | None
    level: float
    meaning: str
    unit: str = ""
    log: bool = False


@dataclasses.dataclass(frozen=True)
class Text:
    """What is spent on each document, `[documents]`, in bits, and on a byte by the compressor."""

    bits: Float[np.ndarray, " documents"]
    sizes: Float[np.ndarray, " documents"]
    fivegram: Float[np.ndarray, " documents"]
    unigram: Float[np.ndarray, " documents"]
    xz: float


def normal_largest(n: int) -> float:
    """The median of the largest magnitude of `n` normal values, over their median magnitude."""
    from scipy.special import ndtri

    return float(-ndtri((1 - 0.5 ** (1 / n)) / 2) / ndtri(0.75))


@dataclasses.dataclass(frozen=True)
class Largest:
    """The largest residual value of a layer, and how many of the largest are massive.

    Attributes:
        layer: from 0.
        value: the value.
        ratio: its magnitude over the median magnitude.
        document: the name of the document it is in.
        position: the token's place in its excerpt, from 0.
        token: the token, as text.
        channel: of the residual stream.
        massive: of the largest values those above 100 and 1,000 times the median.
    """

    layer: int
    value: float
    ratio: float
    document: str
    position: int
    token: str
    channel: int
    massive: int


def massive_lines(resid: Any, found: Any, tokenizer: data.Tokenizer) -> list[Largest]:
    """The largest residual value of each layer, and where it is."""
    names = {i: text for text, i in tokenizer.special.items()}
    median = resid["sizes"].quantile(0.5)
    out = []
    for layer in range(len(median)):
        top, sizes = jax.tree.map(lambda a, layer=layer: a[layer],
                                  (resid["largest"], resid["sizes"]))  # fmt: skip
        row, place = int(top.example[0]), int(top.position[0])
        token = int(found.tokens[row, place])
        text = names.get(token) or ("end" if token == tokenizer.end else tokenizer.decode([token]))
        value = float(top.value[0])
        out.append(
            Largest(layer, value, abs(value) / float(median[layer]),
                    found.names[found.source[row]], place, text, int(top.channel[0]),
                    len(stats.massive_activations(top, sizes)))
        )  # fmt: skip
    return out


# --- the answer ---------------------------------------------------------------------------------


def summary(text: Text, made: Sequence[Measure], documents: int) -> tuple[runs.Row, ...]:
    """Bits a byte against each baseline, and every statistic of every layer."""
    total, where = text.sizes.sum(), {"bytes": int(text.sizes.sum())}
    value, low, high = stats.ratio_interval(text.bits, text.sizes)
    levels = {
        "5-gram": text.fivegram.sum() / total,
        "1-gram": text.unigram.sum() / total,
        "xz -9": text.xz,
    }
    rows = [
        runs.Row("bits a byte", value, low, high, documents, "bits", float(level), name, where)
        for name, level in levels.items()
    ]
    gain, low, high = stats.ratio_interval(text.fivegram - text.bits, text.sizes)
    rows.append(
        runs.Row("gain over the 5-gram model", gain, low, high, documents, "bits", 0.0, "no gain",
                 where)
    )  # fmt: skip
    for m in made:
        for layer, value in enumerate(m.values.tolist()):
            ends = (None, None) if m.low is None or m.high is None else (
                float(m.low[layer]), float(m.high[layer])
            )  # fmt: skip
            rows.append(
                runs.Row(m.name, value, *ends, documents, m.unit, m.level, m.meaning,
                         {"layer": layer})
            )  # fmt: skip
    return tuple(rows)


def answer(text: Text, made: Sequence[Measure], largest: Sequence[Largest], seen: bool) -> str:
    """One paragraph."""
    of = {m.name: m for m in made}
    bits, low, high = stats.ratio_interval(text.bits, text.sizes)
    directions = of["directions of the residual stream"]
    strongest, use = of["share of the strongest direction"], of["share of MLP units in use"]
    sink = of["attention to the first token"]
    top = max(largest, key=lambda x: x.ratio)
    massive = sum(x.massive > 0 for x in largest)
    at = int(strongest.values.argmax())
    return (
        f"It needs {bits:.3f} bits a byte [{low:.3f}, {high:.3f}] for {len(text.bits)} documents "
        f"(a 5-gram model {text.fivegram.sum() / text.sizes.sum():.3f}, single bytes "
        f"{text.unigram.sum() / text.sizes.sum():.3f}, xz -9 {text.xz:.3f})"
        + (", which it may have been trained on. " if seen else ". ")
        + f"Its residual stream uses {directions.values.min():.1f} to "
        f"{directions.values.max():.1f} directions, of which the strongest carries up to "
        f"{strongest.values[at]:.0%} of the variance (layer {at}; noise: {strongest.level:.0%}). "
        f"{use.values.min():.0%} to {use.values.max():.0%} of MLP units are in use (normal values: "
        f"{use.level:.0%}). The largest residual value is {top.ratio:.3g} times the median (noise: "
        f"{of['largest residual value over the median'].level:.2g}), in layer {top.layer} at token "
        f"{top.position} of its excerpt, {top.token!r}; {massive} of {len(largest)} layers have "
        f"massive activations. {sink.values.max():.0%} of the attention of layer "
        f"{int(sink.values.argmax())} is on the first token (no preference: {sink.level:.0%})."
    )


# --- the report ---------------------------------------------------------------------------------

CAPTION = (
    "The decoder by layer: directions that carry the variance of the residual stream "
    "(participation ratio), share of the strongest, largest value over the median magnitude; "
    "share of MLP units that would carry as much if all carried the same; entropy of attention, "
    "and its share on the first token, means over heads. Bands: 95 % over documents. Dotted: "
    "{meanings}."
)
LARGEST_CAPTION = "The largest value of the residual stream of each layer, and the token it is at."
LARGEST_COLUMNS = (
    "layer", "value", "over the median", "document", "position", "token", "channel", "massive",
)  # fmt: skip
DOCUMENTS_CAPTION = "Bits a byte of each document."
DOCUMENTS_COLUMNS = ("document", "bytes", "decoder", "5-gram", "1-gram")


def report(
    out: Any, text: Text, made: Sequence[Measure], largest: Sequence[Largest],
    names: Sequence[str], resid: Any,
) -> None:  # fmt: skip
    """The figure, the tables and the arrays."""
    meanings = "; ".join(f"{m.name}: {m.meaning}" for m in made)
    with figures.style():
        out.figure("layers", layers_figure(made), caption=CAPTION.format(meanings=meanings))
    lines = [[*dataclasses.astuple(x)] for x in largest]
    lines = [[*line[:5], repr(line[5]), *line[6:]] for line in lines]
    out.table("largest", lines, LARGEST_COLUMNS, LARGEST_CAPTION)
    found = zip(names, text.sizes, text.bits, text.fivegram, text.unigram, strict=True)
    out.table(
        "documents",
        [[name, int(size), *(float(b / size) for b in bits)] for name, size, *bits in found],
        DOCUMENTS_COLUMNS, DOCUMENTS_CAPTION,
    )  # fmt: skip
    for m in made:
        name = m.name.replace(" ", "_")
        out.array(name, m.values)
        if m.low is not None and m.high is not None:
            out.array(f"{name}.interval", np.stack([m.low, m.high]))
    out.array("bits", text.bits)
    out.array("bytes", text.sizes)
    out.array("resid.mean", np.asarray(resid["moments"].mean))
    out.array("resid.variance", np.asarray(resid["moments"].variance()))


def layers_figure(made: Sequence[Measure]) -> Any:
    """A panel for each statistic, layers from left to right."""
    fig, axes = plt.subplots(2, 3, figsize=(9.6, 5.0), sharex=True)
    for ax, m, colour in zip(axes.flat, made, figures.COLOURS, strict=False):
        layers = np.arange(len(m.values))
        if m.low is not None and m.high is not None:
            ax.fill_between(layers, m.low, m.high, color=colour, alpha=0.2, linewidth=0)
        ax.plot(layers, m.values, marker="o", color=colour)
        ax.axhline(m.level, color="black", linestyle=":", linewidth=1)
        ax.set(ylabel=textwrap.fill(m.name + (f" ({m.unit})" if m.unit else ""), 26))
        if m.log:
            ax.set_yscale("log")
            figures.plain_ticks(ax.yaxis, round_numbers(*m.values, m.level))
        else:
            ax.set_ylim(0, None)
        ax.xaxis.get_major_locator().set_params(integer=True)
    for ax in axes[-1]:
        ax.set(xlabel="layer")
    return fig


def round_numbers(*values: float) -> np.ndarray:
    """1, 2, 5, 10, ... from below the smallest of some values to above the largest."""
    low, high = np.floor(np.log10(min(values))), np.ceil(np.log10(max(values)))
    steps = (10.0 ** np.arange(low, high + 1)[:, None] * [1, 2, 5]).ravel()
    first = int(np.searchsorted(steps, min(values), side="right")) - 1
    return steps[first : int(np.searchsorted(steps, max(values))) + 1]
