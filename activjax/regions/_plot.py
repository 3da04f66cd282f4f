"""Pictures of regions on a plane: one, a strip of several, a film."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from activjax.regions._polygons import Polygons

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURINGS = ("pattern", "function", "region", "active", "output", "layer")


def plot(
    polygons: Polygons,
    ax: Axes | None = None,
    colour_by: str | Float[np.ndarray, " cells"] = "pattern",
    *,
    output: int = 0,
    edges: bool = True,
) -> Axes:
    """Draws the cells of a plane.

    Args:
      polygons: from `on_plane`.
      ax: axes to draw on; by default new ones.
      colour_by: "pattern": similar patterns get similar colours; "function": one colour for each
        affine function on the plane; "region": one for each region by the definition of `polygons`;
        "active": the share of active units; "output": the value of an output at the centre of each
        cell; "layer": no filling, each hinge in the colour of its layer. Or a number for each cell.
      output: the output that "output" means.
      edges: whether hinges are drawn.

    Returns:
      The axes.

    Raises:
      ValueError: no such colouring or output, or an array that does not fit.
    """
    import matplotlib.pyplot as plt
    from matplotlib.collections import LineCollection, PolyCollection

    if ax is None:
        _, ax = plt.subplots(figsize=(5.2, 4.6), layout="constrained")
    colours, label = _colours(polygons, colour_by, output)
    shapes = np.split(polygons.vertices[polygons.ring], polygons.begins[1:-1])
    if colours is not None:
        cells = PolyCollection(shapes, edgecolors="face", linewidths=0.2)
        if colours.ndim == 1:
            cells.set_array(colours)
            cells.set_cmap("viridis")
            ax.figure.colorbar(cells, ax=ax, label=label)
        else:
            cells.set_facecolor(colours)  # pyright: ignore[reportArgumentType]
        ax.add_collection(cells)
    if edges:
        inner = np.flatnonzero(polygons.maker >= 0)
        # Thin enough that cells stay visible, whatever their number.
        width = float(np.clip(18 / np.sqrt(len(inner) + 1), 0.12, 1.0))
        colour: Any = "black"
        if colours is None:
            layer = _layers(polygons)[inner]
            colour = plt.get_cmap("viridis")(0.9 * layer / max(int(layer.max(initial=0)), 1))
            for k in np.unique(layer):
                tint = plt.get_cmap("viridis")(0.9 * k / max(int(layer.max()), 1))
                name = polygons.network.layers[k].name or f"layer {k}"
                ax.plot([], [], color=tint, label=name)
            if len(inner):
                ax.legend(loc="upper right", fontsize="small")
        lines = polygons.vertices[polygons.edges[inner]]
        alpha = 1.0 if colours is None else 0.7
        ax.add_collection(LineCollection(list(lines), colors=colour, linewidths=width, alpha=alpha))
    (x0, x1), (y0, y1) = polygons.box
    ax.grid(False)
    ax.set(xlim=(x0, x1), ylim=(y0, y1), xlabel="coordinate 1", ylabel="coordinate 2")
    ax.set_aspect("equal" if 0.2 < (x1 - x0) / (y1 - y0) < 5 else "auto")
    return ax


def strip(
    frames: Sequence[Polygons],
    titles: Sequence[str] | None = None,
    *,
    colour_by: str = "pattern",
    columns: int = 4,
    output: int = 0,
) -> Figure:
    """A film strip: one plane at several moments.

    Args:
      frames: from `on_plane`, in order.
      titles: one for each; by default the number of regions.
      colour_by: as for `plot`.
      columns: most pictures in a row.
      output: as for `plot`.

    Raises:
      ValueError: no frames, not a title for each, or no columns.
    """
    import matplotlib.pyplot as plt

    titles = _titles("strip", frames, titles)
    if columns < 1:
        raise ValueError(f"strip: columns is {columns}, expected at least 1")
    columns = min(columns, len(frames))
    rows = -(-len(frames) // columns)
    wide, high = frames[0].box[:, 1] - frames[0].box[:, 0]
    ratio = float(np.clip(high / wide, 0.4, 2.5)) if 0.2 < wide / high < 5 else 1.0
    size = (2.3 * columns + 0.6, (2.0 * ratio + 0.5) * rows + 0.3)
    fig, grid = plt.subplots(
        rows, columns, figsize=size, sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for ax, frame, title in zip(grid.ravel(), frames, titles, strict=False):
        plot(frame, ax, colour_by, output=output)
        ax.set_title(title, fontsize="medium")
        ax.label_outer()
    for empty, above in zip(grid[-1], grid[-2] if rows > 1 else grid[-1], strict=True):
        if empty not in grid.ravel()[: len(frames)]:
            empty.remove()
            above.tick_params(labelbottom=True)
            above.set_xlabel("coordinate 1")
    return fig


def film(
    frames: Sequence[Polygons],
    path: str | Path,
    titles: Sequence[str] | None = None,
    *,
    colour_by: str = "pattern",
    per_second: float = 4.0,
    output: int = 0,
) -> Path:
    """An animated picture (GIF) of one plane at several moments.

    Args:
      frames: from `on_plane`, in order.
      path: where to write it; ends in ".gif".
      titles: one for each frame; by default the number of regions.
      colour_by: as for `plot`, but "active" and "output" have no colour bar.
      per_second: frames.
      output: as for `plot`.

    Raises:
      ValueError: no frames, not a title for each, or another ending.
    """
    import matplotlib.pyplot as plt
    from matplotlib.animation import FuncAnimation, PillowWriter

    path = Path(path)
    titles = _titles("film", frames, titles)
    if path.suffix != ".gif":
        raise ValueError(f"film: expected a path that ends in .gif, got {str(path)!r}")
    fig, ax = plt.subplots(figsize=(4.4, 4.6), layout="constrained")

    def draw(k: int) -> list[Any]:
        for other in fig.axes[1:]:
            other.remove()
        ax.clear()
        plot(frames[k], ax, colour_by, output=output)
        ax.set_title(titles[k])
        return []

    film_ = FuncAnimation(fig, draw, frames=len(frames), init_func=lambda: [], blit=False)
    film_.save(path, writer=PillowWriter(fps=per_second))  # pyright: ignore[reportArgumentType]
    plt.close(fig)
    return path


def _titles(name: str, frames: Sequence[Polygons], titles: Sequence[str] | None) -> Sequence[str]:
    if not frames:
        raise ValueError(f"{name}: no frames")
    if titles is None:
        return [f"{len(frame):,} regions" for frame in frames]
    if len(titles) != len(frames):
        raise ValueError(f"{name}: {len(titles)} titles for {len(frames)} frames")
    return titles


def _layers(polygons: Polygons) -> np.ndarray:
    """`[edges]`, the layer of the unit that made each edge."""
    ends = np.cumsum([layer.size for layer in polygons.network.layers])
    return np.searchsorted(ends, polygons.maker, side="right")


def _colours(
    polygons: Polygons, colour_by: str | np.ndarray, output: int
) -> tuple[np.ndarray | None, str]:
    """A number or a colour for each cell, and what the number is."""
    if not isinstance(colour_by, str):
        values = np.asarray(colour_by, np.float64)
        if values.shape != (polygons.cells,):
            raise ValueError(
                f"plot: colour_by has shape {values.shape}, expected [{polygons.cells}]"
            )
        return values, ""
    if colour_by == "layer":
        return None, ""
    if colour_by == "pattern":
        # Signs at random keep distances: cells that differ in few units look alike.
        rng = np.random.default_rng(0)
        signs = rng.choice([-1.0, 1.0], (polygons.network.units, 3))
        return _pastel(polygons.states @ signs), ""
    if colour_by == "function":
        return _hues(polygons.map_labels), ""
    if colour_by == "region":
        return _hues(polygons.region), ""
    if colour_by == "active":
        share = (polygons.states > 0).sum(1) / max(polygons.network.units, 1)
        return share, "share of active units"
    if colour_by == "output":
        values = polygons.network(polygons.inputs(polygons.centroids))
        if output not in range(values.shape[1]):
            raise ValueError(f"plot: there is no output {output}, there are {values.shape[1]}")
        return values[:, output], f"output {output}"
    raise ValueError(f"plot: colour_by {colour_by!r} is not one of {', '.join(COLOURINGS)}")


def _pastel(points: np.ndarray) -> np.ndarray:
    """`[n, 3]` colours; each channel is spread evenly over the cells."""
    rank = points.argsort(0, kind="stable").argsort(0, kind="stable")
    return 0.35 + 0.6 * (rank + 0.5) / len(points)


def _hues(labels: np.ndarray) -> np.ndarray:
    """`[n, 3]` colours, neighbours in number far apart."""
    from matplotlib.colors import hsv_to_rgb

    hue = (labels * 0.618033988749895) % 1.0
    light = 0.75 + 0.2 * ((labels * 0.7548776662466927) % 1.0)
    return hsv_to_rgb(np.stack([hue, np.full_like(hue, 0.45), light], axis=1))
