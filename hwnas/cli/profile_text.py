"""What a profile tells of a device, as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def told(document: Mapping[str, Any], took: str) -> str:
    """Return how much was measured and how good the predictor is.

    Args:
        document: what `workflows.profiled.keep` returns.
        took: what stands behind the counts, such as the time.
    """
    text = f"{document['networks']} networks, {document['kernels']:,} kernels {took}".rstrip()
    for accuracy, which in (
        (document["accuracy"], ""),
        (document["accuracy_calm"], " calmly measured"),
    ):
        if accuracy is not None:
            text += (
                f"\non {accuracy['networks']}{which} networks held out: MAPE "
                f"{accuracy['mape']:.2%}, within 5 % {accuracy['within_5']:.1%}, within 10 % "
                f"{accuracy['within_10']:.1%}"
            )
    return text


def predictor_text(document: Mapping[str, Any]) -> str:
    """Return where the predictor is, and what is to be known about it.

    Args:
        document: what `workflows.profiled.keep` returns, and the `predictor`'s folder.
    """
    text = f"predictor written to {document['predictor']}"
    if document["adapted_from"]:
        text += f"\nadapted from {document['adapted_from']}; its intervals rest on these networks"
    if document["contended_networks"] or document["networks_left_out"]:
        text += (
            f"\nthe machine was busy during {document['contended_networks']} networks (their CPU "
            f"time counts); {document['networks_left_out']} were left out or measured again"
        )
    return text
