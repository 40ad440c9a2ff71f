"""Makes torchvision import where its compiled operators do not load.

torchvision's wheels are compiled against the CUDA build of torch. Beside a CPU build the operators
do not load and `import torchvision` fails. Its detectors are Python all the same: they call one
operator, non-maximum suppression, and have RoIAlign in Python for such a case. So the tests give
torch a definition of that operator and run torchvision's own code on it.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec

import pytest

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    # Only has to exist: it is for quantised boxes.
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries = []


def importorskip() -> None:
    """Make `import torchvision` work, or skip where it or torch is not installed."""
    pytest.importorskip("torch")
    if find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed: pip install torchvision==RELEASE, of the "
                    "release that belongs to the installed torch")  # fmt: skip
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        from torch import library as operators

        library = operators.Library("torchvision", "FRAGMENT")
        for schema in SCHEMAS:
            library.define(schema)
        library.impl("nms", _nms, "CPU")
        _libraries.append(library)  # the definitions last as long as the object

        from torchvision.ops import boxes

        boxes._assert_has_ops = lambda: None
        # `torchvision.ops` has a function of the same name as the module. The plain one: compiling
        # it for the first time takes longer than every call of the tests.
        roi_align = sys.modules["torchvision.ops.roi_align"]
        roi_align._roi_align = roi_align._roi_align.__wrapped__


def _nms(boxes, scores, iou_threshold):
    """Return the boxes that no better-scored kept box overlaps by more, best first."""
    import torch
    from torchvision.ops import box_iou

    order = scores.argsort(descending=True)
    overlaps = box_iou(boxes[order], boxes[order]) > iou_threshold
    kept = torch.ones(len(order), dtype=torch.bool)
    for i in range(len(order)):
        if kept[i]:
            kept[i + 1 :] &= ~overlaps[i, i + 1 :]
    return order[kept]
