"""Is the promise kept? Search under latency budgets on this machine, export, measure afterwards.

    hwnas profile --device cpu
    python benchmarks/promise.py --seeds 5 --verify

Each found network is exported, loaded again and timed in a process state of its own. `--verify`
closes the loop during the search; then the measurement afterwards may exceed the budget by 2 %.
Evolution finds another network for each seed, where the certified search would find one.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from hwnas.workflows.export import export
from hwnas.workflows.measure import measure
from hwnas.workflows.problem import Request
from hwnas.workflows.search import Settings, search
from hwnas.workflows.verify import verified_search

BUDGETS_MS = {"resnet": (5, 20, 60), "mobile": (3, 8, 20)}
PREDICTED = (0.90, 1.05)
VERIFIED = (0.0, 1.02)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--verify", action="store_true", help="close the loop during the search")
    options = parser.parse_args()
    low, high = VERIFIED if options.verify else PREDICTED
    print("| space | budget | measured / budget, by seed | kept | rounds | contended |")
    print("|---|---|---|---|---|---|")
    kept = runs = 0
    for space, budgets in BUDGETS_MS.items():
        for budget_ms in budgets:
            ratios, rounds, contended = [], [], 0
            for seed in range(options.seeds):
                with tempfile.TemporaryDirectory() as name:
                    folder = Path(name)
                    request = Request((f"latency={budget_ms}ms",), options.device, space)
                    settings = Settings("evolution", seed=seed)
                    look = verified_search if options.verify else search
                    found = look(request, settings, folder / "run")
                    export(found.architecture, "onnx", folder / "net.onnx")
                    measured = measure(folder / "net.onnx", options.device)
                ratios.append(measured["latency_s"] * 1e3 / budget_ms)
                verification = found.document.get("verification", {"rounds": []})
                rounds.append(str(len(verification["rounds"])))
                contended += measured["contended"]
            good = sum(low <= ratio <= high for ratio in ratios)
            kept, runs = kept + good, runs + len(ratios)
            cells = ", ".join(f"{ratio:.3f}" for ratio in ratios)
            print(
                f"| {space} | {budget_ms} ms | {cells} | {good} of {len(ratios)} "
                f"| {' '.join(rounds)} | {contended} |",
                flush=True,
            )
    print(f"\n{kept} of {runs} between {low:.2f} and {high:.2f} of the budget ({kept / runs:.0%})")


if __name__ == "__main__":
    main()
