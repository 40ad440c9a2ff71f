"""The certified search under random budgets: time, share proven, gap, evolution beside it.

    python benchmarks/certified.py --budgets 100 --runs 20

Budgets are drawn log-uniformly, from an exponential of what the cheapest network costs to what the
best network of the space costs. `in process` is the time of one more search with the tables at
hand, `from start` that of the whole command, interpreter, predictor and all, with one thread.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hwnas.architecture import zoo
from hwnas.scores.entropy import EntropyScore
from hwnas.searchers.certified import Solver
from hwnas.searchers.evolution import Evolution
from hwnas.searchers.feasibility import cheapest_within
from hwnas.searchers.loop import Progress, run
from hwnas.searchers.mutation import DEFAULT_MUTATION, MUTATIONS
from hwnas.units import format_amount
from hwnas.workflows.problem import Request, understand

V100, INT8 = "latency@v100-trt-fp16", "latency@v100-trt-int8"
RANGES = {
    ("resnet", "flops"): (0.3e9, 30e9),
    ("resnet", "params"): (1e6, 80e6),
    ("resnet", V100): (4e-3, 80e-3),
    ("resnet", INT8): (3e-3, 60e-3),
    ("mobile", "flops"): (0.1e9, 3e9),
    ("mobile", "params"): (0.3e6, 10e6),
    ("mobile", V100): (2e-3, 40e-3),
}
CASES = [
    ("resnet", ("flops",)),
    ("resnet", (V100,)),
    ("mobile", ("flops",)),
    ("mobile", (V100,)),
    ("resnet", (V100, "params")),
    ("resnet", ("flops", "params")),
    ("mobile", ("flops", "params")),
    ("resnet", (V100, INT8)),
    ("resnet", (V100, "flops", "params")),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budgets", type=int, default=100, help="random budgets per row")
    parser.add_argument("--runs", type=int, default=20, help="of them, run as a command")
    parser.add_argument("--evolution", type=int, default=10, help="of them, evolved as well")
    parser.add_argument("--case", type=int, action="append", help="only these rows, from 0")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    known_paper(options)
    print(
        "| space | budgets | in process s: median, 95 %, most | from start s: median, most "
        "| proven | greatest gap | evolution below the optimum: median, most |\n"
        "|---|---|---|---|---|---|---|"
    )
    for number, (space, quantities) in enumerate(CASES):
        if not options.case or number in options.case:
            print(row(space, quantities, options), flush=True)


def row(space: str, quantities: tuple[str, ...], options: argparse.Namespace) -> str:
    """Return one line of the table."""
    rng = np.random.default_rng(options.seed)
    problem = understand(Request(tuple(map(widest, quantities)), "v100-trt-fp16", space))
    evaluator = problem.evaluator
    solver = Solver(evaluator)
    solver.solve()  # what only the first search pays is part of the time from the start
    seconds, gaps, starts, below = [], [], [], []
    proven = 0
    draws = feasible(problem, space, quantities, rng)
    for number in range(options.budgets):
        limits = next(draws)
        began = time.perf_counter()
        found = solver.solve(limits)
        seconds.append(time.perf_counter() - began)
        proven += found.proven
        gaps.append(found.gap)
        if number < options.evolution:
            below.append(1 - evolved(problem, limits) / found.bound)
        if number < options.runs:
            starts.append(from_start(space, quantities, limits))
    names = " and ".join(name.replace("latency@", "") for name in quantities)
    cells = [
        space,
        names,
        f"{np.median(seconds):.2f}, {np.quantile(seconds, 0.95):.2f}, {max(seconds):.2f}",
        f"{np.median(starts):.2f}, {max(starts):.2f}" if starts else "",
        f"{proven} of {len(seconds)}",
        f"{max(gaps):.3%}",
        f"{np.median(below):.2%}, {max(below):.2%}" if below else "",
    ]
    return f"| {' | '.join(cells)} |"


def widest(quantity: str) -> str:
    """Return a budget that everything meets."""
    name, _, device = quantity.partition("@")
    return f"{name}=1000s@{device}" if device else f"{name}=1e6G"


def feasible(problem, space, quantities, rng) -> Iterator[list[float]]:
    """Yield random limits that some architecture keeps, layers last."""
    while True:
        limits = [
            math.exp(rng.uniform(*map(math.log, RANGES[space, quantity])))
            for quantity in quantities
        ]
        limits.append(float(problem.space.layers))
        if cheapest_within(problem.evaluator, limits).fits:
            yield limits


def evolved(problem, limits: list[float]) -> float:
    """Return what evolution finds in its default length."""
    evaluator = problem.evaluator.within(limits)
    first = problem.space.narrowest()
    score = evaluator.evaluate(first)
    if score is None:
        first = cheapest_within(evaluator).candidate
        score = evaluator.score_of(first)
    mutation = MUTATIONS[DEFAULT_MUTATION](problem.space)
    sampler = Evolution(problem.space, mutation, (first, score), np.random.default_rng(0))
    run(sampler, evaluator, 96_000, _Nowhere(), Progress())
    return sampler.best()[0]


def from_start(space: str, quantities: tuple[str, ...], limits: list[float]) -> float:
    """Return the seconds of the command."""
    budgets = []
    for quantity, limit in zip(quantities, limits, strict=False):
        name, _, device = quantity.partition("@")
        amount = f"{1e3 * limit:.6f}ms@{device}" if device else f"{limit / 1e6:.6f}M"
        budgets += ["--budget", f"{name}={amount}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "hwnas", "-q", "search", "--space", space, *budgets]
        began = time.perf_counter()
        result = subprocess.run(
            [*command, "--json", "--out", str(Path(folder) / "run")],
            env=environment,
            capture_output=True,
            check=True,
        )
        seconds = time.perf_counter() - began
    json.loads(result.stdout)
    return seconds


def known_paper(options: argparse.Namespace) -> None:
    """Print the optimum at the costs of MAE-DET-M beside its score."""
    goal = EntropyScore()(zoo.get("maedet-m")).score
    request = Request(("flops=4.4G", "params=25.8M"), "v100-trt-fp16", resolution=(224, 224))
    problem = understand(request)
    found = Solver(problem.evaluator).solve()
    flops, params, layers = problem.evaluator.costs(found.candidate)
    print(
        f"at 4.4 GFLOPs (224x224) and 25.8 M parameters: {found.score:.1f}"
        f"{' proven' if found.proven else f' bound {found.bound:.1f}'}, with "
        f"{format_amount(flops, 'flops')}, {format_amount(params, 'params')}, {layers:g} layers; "
        f"MAE-DET-M scores {goal:.1f}\n"
    )


class _Nowhere:
    def save(self, state: object) -> None:
        """Keep nothing."""


if __name__ == "__main__":
    main()
