"""How large the shipped V100 predictors are and how quickly they answer, on one core."""

from __future__ import annotations

import time
from collections.abc import Callable

from v100_networks import DEFAULT_BATCH, DEFAULT_SIZE, PRECISIONS, swept_kernels

from hwnas.architecture import lower, zoo
from hwnas.devices import spec
from hwnas.latency.columns import from_kernels
from hwnas.lowering.fusing import fuse
from hwnas.lowering.kernels import Fusion
from hwnas.store import shelf
from hwnas.workflows.predict import load_predictor

NETWORK = 100
"""Kernels of a network."""

TIMES = 15


def speed_report() -> str:
    """Return size, kernels a second in a batch, and the time of a network, by precision.

    Times are the processor's, the least of several: other work on the machine hardly shows.
    """
    lines = [
        f"| precision | card and model, MB | kernels a second, {len(swept_kernels()):,} at once | "
        f"a network of {NETWORK} kernels, ms |",
        "|---|---|---|---|",
    ]
    batch = from_kernels(swept_kernels())
    network = fuse(lower(zoo.get("resnet101"), DEFAULT_SIZE, batch=DEFAULT_BATCH), Fusion())
    for precision in PRECISIONS:
        device = spec.load(f"v100-trt-{precision}")
        folder, predictor = shelf.find("predictors", device.name), load_predictor(device)
        size = sum(path.stat().st_size for path in folder.iterdir())
        rate = len(batch) / _least(lambda p=predictor: p.seconds(batch))
        alone = _least(lambda p=predictor: p.predict(network[:NETWORK]))
        lines.append(
            f"| {precision.upper()} | {size / 1e6:.2f} | {rate:,.0f} | {1e3 * alone:.2f} |"
        )
    return "\n".join(lines) + "\n"


def _least(work: Callable[[], object]) -> float:
    found = []
    for _ in range(TIMES):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)
