"""The trade-off curve as a picture."""

from __future__ import annotations

import io
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from ..units import axis_unit
from .labels import GAP, Box, placed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINTS_PER_INCH = 72
MARK = 3.0
"""Half the width of a point's mark, in points."""


def draw(document: dict[str, Any]) -> str | None:
    """Return a frontier's document as SVG, None where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        return None
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "hwnas"
    from matplotlib import pyplot as plt

    drawn = figure(document)
    text = io.StringIO()
    drawn.savefig(text, format="svg", metadata={"Date": None})
    plt.close(drawn)
    return text.getvalue()


def figure(document: dict[str, Any]) -> Figure:
    """Return the picture as matplotlib's figure, with known networks named beside their marks."""
    from matplotlib import pyplot as plt

    found = [point for point in document["points"] if point["found"]]
    unit, factor = axis_unit(found[-1]["cost"], document["quantity"])
    # As SVG has it: a length on the screen is one on the paper, in points.
    drawn, axis = plt.subplots(figsize=(7, 4.5), dpi=POINTS_PER_INCH, layout="constrained")
    curve = [(point["limit"] / factor, point["score"]) for point in found]
    axis.plot(
        *zip(*curve, strict=True),
        marker="o",
        markersize=4,
        label=f"best of the space {document['space']}",
    )
    marks = [(known["cost"] / factor, known["score"]) for known in document["known"]]
    for mark in marks:
        axis.plot(*mark, marker="x", color="tab:red", linestyle="none")
    where = f" on {document['device']}" if document["quantity"] == "latency" else ""
    axis.set_xlabel(f"{document['quantity']}{where} ({unit})" if unit else document["quantity"])
    axis.set_ylabel("multi-scale entropy")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, loc="lower right")
    _label(drawn, axis, curve, marks, [known["name"] for known in document["known"]])
    return drawn


def _label(
    drawn: Figure,
    axis: Axes,
    curve: list[tuple[float, float]],
    marks: list[tuple[float, float]],
    names: list[str],
) -> None:
    """Write names beside marks, off each other, the curve and the legend."""
    texts = [
        axis.annotate(name, mark, xytext=(0, 0), textcoords="offset points", fontsize=8)
        for name, mark in zip(names, marks, strict=True)
    ]
    for text in texts:
        text.set_in_layout(False)  # places depend on the layout, not the other way round
    drawn.draw_without_rendering()
    axis.set_xlim(axis.get_xlim())
    axis.set_ylim(axis.get_ylim())
    legend = axis.get_legend()
    assert legend is not None
    points = [(float(x), float(y)) for x, y in map(axis.transData.transform, marks)]
    taken = [Box(x - MARK, y - MARK, x + MARK, y + MARK) for x, y in points]
    taken += [_extent(legend), *_along(axis.transData.transform(curve))]
    boxes = [_extent(text) for text in texts]
    sizes = [(box.right - box.left, box.top - box.bottom) for box in boxes]
    places = placed(points, sizes, taken, _extent(axis))
    for text, mark, point, box, place in zip(texts, marks, points, boxes, places, strict=True):
        text.set_position((place.left - box.left, place.bottom - box.bottom))
        x, y = place.nearest(point)
        if max(abs(x - point[0]), abs(y - point[1])) > GAP:  # not beside it: a line leads there
            axis.annotate(
                "",
                mark,
                xytext=(x - point[0], y - point[1]),
                textcoords="offset points",
                arrowprops={"arrowstyle": "-", "linewidth": 0.5, "color": "gray", "shrinkA": 0},
            ).set_in_layout(False)


def _along(curve: Any) -> list[Box]:
    """Return boxes that cover a line between points."""
    boxes = []
    for (x0, y0), (x1, y1) in itertools.pairwise(curve):
        count = 2 + int(max(abs(x1 - x0), abs(y1 - y0)) / MARK)
        for x, y in zip(np.linspace(x0, x1, count), np.linspace(y0, y1, count), strict=True):
            boxes.append(Box(x - MARK, y - MARK, x + MARK, y + MARK))
    return boxes


def _extent(artist: Any) -> Box:
    """Return the rectangle that something takes, in points."""
    extent = artist.get_window_extent()
    return Box(extent.x0, extent.y0, extent.x1, extent.y1)
