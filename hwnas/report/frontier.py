"""The trade-off curve as a picture."""

from __future__ import annotations

import io
from typing import Any

from ..units import axis_unit


def draw(document: dict[str, Any]) -> str | None:
    """Return a frontier's document as SVG, None where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        return None
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "hwnas"
    from matplotlib import pyplot as plt

    found = [point for point in document["points"] if point["found"]]
    unit, factor = axis_unit(found[-1]["cost"], document["quantity"])
    figure, axis = plt.subplots(figsize=(7, 4.5), layout="constrained")
    axis.plot(
        [point["limit"] / factor for point in found],
        [point["score"] for point in found],
        marker="o",
        markersize=4,
        label=f"best of the space {document['space']}",
    )
    for known in document["known"]:
        place = known["cost"] / factor, known["score"]
        axis.plot(*place, marker="x", color="tab:red", linestyle="none")
        axis.annotate(known["name"], place, xytext=(5, -3), textcoords="offset points", fontsize=8)
    where = f" on {document['device']}" if document["quantity"] == "latency" else ""
    axis.set_xlabel(f"{document['quantity']}{where} ({unit})" if unit else document["quantity"])
    axis.set_ylabel("multi-scale entropy")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, loc="lower right")
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    plt.close(figure)
    return text.getvalue()
