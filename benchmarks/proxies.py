"""What each score finds under one budget of FLOPs, and what an evaluation costs (Table 9).

    python benchmarks/proxies.py
    python benchmarks/proxies.py --scores naswot --iterations 1000 --population 64
    python benchmarks/proxies.py --correlate 20

The paper's setting: the space of MAE-DET, 91 GFLOPs at 800x1280 as mmcv counts, which for networks
of this kind are 4.429 GFLOPs of multiply-adds at 224x224, at most 91 layers, and the paper's
initial structure to start from. With --correlate: how the scores rank random networks of 80 to
100 % of that budget, as Spearman's coefficients.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from hwnas import costs
from hwnas.architecture import Architecture, lower, spaces, to_document, zoo
from hwnas.budgets import parse
from hwnas.scores import catalog
from hwnas.scores.base import Score
from hwnas.scores.entropy import EntropyScore
from hwnas.workflows.problem import Request
from hwnas.workflows.search import Settings, search

POPULATION = 16
"""Of the searches that run networks: with 2,000 iterations the one that does best by entropy."""

BUDGETS = ("flops=4.429G", "layers=91")
PAPER = {"entropy": "25.8 M", "synflow": "67.4 M", "naswot": "28.1 M", "zen": "67.9 M"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scores", nargs="+", default=list(catalog.SCORES))
    parser.add_argument("--iterations", type=int)
    parser.add_argument("--population", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--correlate", type=int, metavar="NETWORKS")
    options = parser.parse_args()
    if options.correlate:
        correlate(options.scores, options.correlate, options.seed)
    else:
        compare(options.scores, options.iterations, options.population, options.seed)


def compare(scores: list[str], iterations: int | None, population: int | None, seed: int) -> None:
    """Search by each score and print what it found."""
    print(
        "| score | iterations | evaluations | ms each | ms on MAE-DET-M | params | paper "
        "| GFLOPs 800x1280 | layers | entropy | C1; out, inner x blocks of C2 to C5 |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for name in scores:
        slow = catalog.make(name).kind != "closed form"
        # Evolution under a random score only drifts around its start.
        method = "random" if name == "random" else "evolution"
        settings = Settings(
            method,
            iterations=iterations,
            population=population or (POPULATION if slow else None),
            seed=seed,
            start=to_document(zoo.get("maedet-initial")),
        )
        request = Request(BUDGETS, "v100-trt-fp16", "resnet", (224, 224), score=name)
        with tempfile.TemporaryDirectory() as folder:
            result = search(request, settings, Path(folder) / "run")
        found, document = result.architecture, result.document
        searched = document["cpu_s"] - document["bound_cpu_s"]
        graph = lower(found, (800, 1280))
        print(
            f"| {name} | {document['iterations']:,} | {document['evaluations']:,} "
            f"| {1e3 * searched / document['evaluations']:.3g} "
            f"| {1e3 * cost(catalog.make(name)):.3g} "
            f"| {costs.total_params(graph) / 1e6:.1f} M | {PAPER.get(name, '')} "
            f"| {costs.mmcv_flops(graph, 'maedet') / 1e9:.1f} | {costs.main_layers(graph)} "
            f"| {EntropyScore().value(found):.0f} | {shape(found)} |",
            flush=True,
        )


def correlate(scores: list[str], networks: int, seed: int) -> None:
    """Rank random networks of nearly the whole budget by each score, and compare the rankings."""
    space = spaces.load("resnet")
    rng = np.random.default_rng(seed)
    limit = parse(BUDGETS[0], "").limit
    sample: list[Architecture] = []
    while len(sample) < networks:
        architecture = space.decode(space.sample(rng))
        graph = lower(architecture, (224, 224))
        if 0.8 * limit <= costs.flops(graph) <= limit and costs.main_layers(graph) <= 91:
            sample.append(architecture)
    against = {
        "entropy": EntropyScore(),
        "single-scale entropy": EntropyScore(alpha=(0, 0, 0, 0, 1)),
        "params": catalog.make("params"),
        "flops": catalog.make("flops"),
        "the score with another seed": None,
    }
    print(f"| score | {' | '.join(against)} |")
    print("|---" * (1 + len(against)) + "|")
    for name in scores:
        score = catalog.make(name)
        values = [score.value(architecture, seed) for architecture in sample]
        row = []
        for other in against.values():
            of, with_seed = (other, seed) if other is not None else (score, seed + 1)
            row.append(spearman(values, [of.value(a, with_seed) for a in sample]))
        print(f"| {name} | {' | '.join(f'{r:.2f}' for r in row)} |", flush=True)


def spearman(a: list[float], b: list[float]) -> float:
    ranks = [np.argsort(np.argsort(values)) for values in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


def cost(score: Score) -> float:
    """Return the CPU time in seconds of scoring MAE-DET-M, the least of three."""
    times = []
    for _ in range(3):
        began = time.process_time()
        score.value(zoo.get("maedet-m"))
        times.append(time.process_time() - began)
    return min(times)


def shape(architecture: Architecture) -> str:
    rows = (f"{row.out}, {row.inner} x{row.depth}" for row in architecture.rows)
    return "; ".join([str(architecture.stem.channels), *rows])


if __name__ == "__main__":
    main()
