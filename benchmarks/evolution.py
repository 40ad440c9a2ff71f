"""Evolution over seeds: the default mutation, Algorithm 2 to the letter, and random search.

    python benchmarks/evolution.py --seeds 10

At 4.4 GFLOPs (224x224) and 91 layers in the space `resnet`, against MAE-DET-M by the same score.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from hwnas.architecture import zoo
from hwnas.scores.entropy import EntropyScore
from hwnas.workflows.problem import Request
from hwnas.workflows.search import Settings, search


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--budget", action="append", default=[])
    options = parser.parse_args()
    budgets = tuple(options.budget) or ("flops=4.4G", "layers=91")
    request = Request(budgets, "v100-trt-fp16", resolution=None if options.budget else (224, 224))
    goal = EntropyScore()(zoo.get("maedet-m")).score
    print(f"MAE-DET-M scores {goal:.1f}\n")
    print("| method | score, least to greatest | below MAE-DET-M | spread | candidates | seconds |")
    print("|---|---|---|---|---|---|")
    for method, mutation in (
        ("evolution", "attributes"),
        ("evolution", "paper"),
        ("random", "attributes"),
    ):
        results = []
        for seed in range(options.seeds):
            with tempfile.TemporaryDirectory() as folder:
                settings = Settings(method, mutation, seed=seed)
                results.append(search(request, settings, Path(folder) / "run").document)
        scores = [result["score"] for result in results]
        seconds = sorted(result["elapsed_s"] for result in results)
        candidates = [result["evaluations"] for result in results]
        name = f"{method}, `--mutation {mutation}`" if method == "evolution" else method
        print(
            f"| {name} | {min(scores):.1f} to {max(scores):.1f} "
            f"| {sum(score < goal for score in scores)} of {len(scores)} "
            f"| {(max(scores) - min(scores)) / max(scores):.2%} "
            f"| {min(candidates):,} to {max(candidates):,} "
            f"| {seconds[len(seconds) // 2]:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
