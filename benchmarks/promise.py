"""Is the promise kept? Search under latency budgets on this machine, export, measure afterwards.

hwnas profile --device cpu
python benchmarks/promise.py --seeds 5
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from hwnas.workflows.export import export
from hwnas.workflows.measure import measure
from hwnas.workflows.problem import Request
from hwnas.workflows.search import Settings, search

BUDGETS_MS = {"resnet": (5, 20, 60), "mobile": (3, 8, 20)}
LOW, HIGH = 0.90, 1.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    print(
        "| space | budget | measured / budget, by seed | kept | contended |\n|---|---|---|---|---|"
    )
    kept = runs = 0
    for space, budgets in BUDGETS_MS.items():
        for budget_ms in budgets:
            ratios, contended = [], 0
            for seed in range(options.seeds):
                with tempfile.TemporaryDirectory() as name:
                    folder = Path(name)
                    request = Request((f"latency={budget_ms}ms",), options.device, space)
                    found = search(request, Settings(seed=seed), folder / "run")
                    export(found.architecture, "onnx", folder / "net.onnx")
                    measured = measure(folder / "net.onnx", options.device)
                ratios.append(measured["latency_s"] * 1e3 / budget_ms)
                contended += measured["contended"]
            good = sum(LOW <= ratio <= HIGH for ratio in ratios)
            kept, runs = kept + good, runs + len(ratios)
            cells = ", ".join(f"{ratio:.3f}" for ratio in ratios)
            print(
                f"| {space} | {budget_ms} ms | {cells} | {good} of {len(ratios)} | {contended} |",
                flush=True,
            )
    print(f"\n{kept} of {runs} between {LOW:.2f} and {HIGH:.2f} of the budget ({kept / runs:.0%})")


if __name__ == "__main__":
    main()
