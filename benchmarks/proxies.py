"""What each score finds under one budget of FLOPs, and what an evaluation costs (Table 9).

    python benchmarks/proxies.py --out proxies --scores entropy madnas deepmad params flops random
    python benchmarks/proxies.py --out proxies --scores zen --seconds 110      # again, to go on
    python benchmarks/proxies.py --out proxies --pairs 10 --scores zen
    python benchmarks/proxies.py --out proxies --pairs 10 --scores entropy madnas --alpha 0,0,0,0,1
    python benchmarks/proxies.py --out proxies --pairs 10 --pool 30
    python benchmarks/proxies.py --cost
    python benchmarks/proxies.py --correlate 20

The paper's setting: 91 GFLOPs at 800x1280 as mmcv counts, which for networks of this kind are 4.429
GFLOPs of multiply-adds at 224x224, at most 91 layers, the paper's initial structure to start from,
and the space `resnet`, which has up to five pairs of blocks a stage as MAE-DET-M has; the paper's
could split deeper stages, for which there is --pairs. A search that --seconds interrupts goes on
where it was.

With --pool: which of the same networks each score likes best, one evaluation each. They were
evolved under the same budgets for entropies with random weights of the stages, and so differ in
where they are wide and deep. With --cost: what one evaluation takes, beside the entropy's. With
--correlate: how the scores rank random networks of 80 to 100 % of that budget. Rank correlations
are Spearman's.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from hwnas import costs
from hwnas.architecture import Architecture, from_document, lower, spaces, to_document, zoo
from hwnas.architecture.spaces import Candidate, Space
from hwnas.budgets import parse
from hwnas.scores import catalog
from hwnas.scores.entropy import EntropyScore
from hwnas.searchers.evolution import CHUNK, Evolution
from hwnas.searchers.loop import Judge, Moment, Progress, run
from hwnas.searchers.mutation import DRAWS, AttributeMutation
from hwnas.searchers.scoring import ScoreEvaluator
from hwnas.workflows.problem import Request, understand
from hwnas.workflows.search import Result, Settings, resume_search, search

ITERATIONS = {"zen": 2_000, "naswot": 800, "synflow": 800, "grad-norm": 400}
"""Of the searches that run networks: three to eight minutes each on one core."""

POPULATION = 16
"""Likewise: a short search needs a small population."""

BUDGETS = ("flops=4.429G", "layers=91")
PAPER = {"entropy": "25.8 M", "synflow": "67.4 M", "naswot": "28.1 M", "zen": "67.9 M"}
POOL_ITERATIONS, POOL_POPULATION = 6 * CHUNK, 64
WALK = 2_000
EVERY = 250


class OutOfTimeError(Exception):
    """The seconds that were granted are over."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scores", nargs="+", default=list(catalog.SCORES))
    parser.add_argument("--out", type=Path, default=Path("proxies"), help="where the runs are kept")
    parser.add_argument("--iterations", type=int, help="by default 96,000 or what is affordable")
    parser.add_argument("--pairs", type=int, default=5, help="pairs of blocks a stage, at most")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--alpha", default="", help="weights of C1 to C5 instead of the score's")
    parser.add_argument("--pool", type=int, metavar="NETWORKS")
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--correlate", type=int, metavar="NETWORKS")
    options = parser.parse_args()
    if options.pool:
        choose(options)
    elif options.cost:
        compare_costs(options.scores, options.seed)
    elif options.correlate:
        correlate(options.scores, options.correlate, options.seed)
    else:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    """Search by each score as far as the time allows, then print what was found."""
    end = time.monotonic() + options.seconds
    found: dict[str, Result] = {}
    for name in options.scores:
        try:
            found[name] = find(name, options, end)
        except OutOfTimeError as reached:
            print(f"{name}: {reached} iterations done, run this again to go on", file=sys.stderr)
            break
    print(
        "| score | iterations | evaluations | params | paper | GFLOPs 800x1280 | layers | entropy "
        "| C1; out, inner x blocks of C2 to C5 |"
    )
    print("|---" * 9 + "|")
    for name, result in found.items():
        graph = lower(result.architecture, (800, 1280))
        print(
            f"| {name} | {result.document['iterations']:,} | {result.document['evaluations']:,} "
            f"| {costs.total_params(graph) / 1e6:.1f} M | {PAPER.get(name, '')} "
            f"| {costs.mmcv_flops(graph, 'maedet') / 1e9:.1f} | {costs.main_layers(graph)} "
            f"| {EntropyScore().value(result.architecture):.0f} | {shape(result.architecture)} |"
        )


def find(name: str, options: argparse.Namespace, end: float) -> Result:
    """Return what a score finds; go on with a search that was begun."""

    def report(moment: Moment) -> None:
        if time.monotonic() > end:
            raise OutOfTimeError(f"{moment.iteration:,}")

    folder = options.out / f"pairs-{options.pairs}"
    place = folder / f"{name}{options.alpha and '-'}{options.alpha}"
    if place.exists():
        return resume_search(place, report=report)
    slow = catalog.make(name).kind != "closed form"
    # Evolution under a random score only drifts around its start.
    settings = Settings(
        "random" if name == "random" else "evolution",
        iterations=options.iterations or ITERATIONS.get(name),
        population=POPULATION if slow else None,
        seed=options.seed,
        start=to_document(zoo.get("maedet-initial")),
    )
    asked = request(name, folder, options.pairs)
    if options.alpha:
        asked = replace(asked, alpha=tuple(map(float, options.alpha.split(","))))
    return search(asked, settings, place, report=report)


def request(score: str, folder: Path, pairs: int = 5) -> Request:
    """Return the request of Table 9 for a score; the space goes into the folder."""
    text = files(spaces).joinpath("resnet.toml").read_text(encoding="utf-8")
    assert "pairs = [1, 5]" in text
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "space.toml"
    path.write_text(text.replace("pairs = [1, 5]", f"pairs = [1, {pairs}]"), encoding="utf-8")
    return Request(BUDGETS, "v100-trt-fp16", str(path), (224, 224), score=score)


def choose(options: argparse.Namespace) -> None:
    """Print which network of the pool each score likes best, and how it ranks the pool."""
    networks = pool(options.out / f"pairs-{options.pairs}", options)
    sizes = sorted(costs.total_params(lower(network)) / 1e6 for network in networks)
    print(f"{len(networks)} networks of {sizes[0]:.1f} M to {sizes[-1]:.1f} M parameters\n")
    print(
        "| score | params of the best, of the best five | paper | layers | entropy "
        "| C1; out, inner x blocks of C2 to C5 | rank correlation with entropy "
        "| with single-scale entropy | with params |"
    )
    print("|---" * 9 + "|")
    measures: list[Callable[[Architecture], float]] = [
        EntropyScore().value,
        EntropyScore(alpha=(0, 0, 0, 0, 1)).value,
        catalog.make("params").value,
    ]
    against = [[measure(network) for network in networks] for measure in measures]
    for name in options.scores:
        score = catalog.make(name)
        values = [score.value(network, options.seed) for network in networks]
        order = np.argsort(values)[::-1]
        first = networks[order[0]]
        sizes = [costs.total_params(lower(networks[i])) / 1e6 for i in order[:5]]
        ranks = " | ".join(f"{spearman(values, other):.2f}" for other in against)
        print(
            f"| {name} | {sizes[0]:.1f} M, {min(sizes):.1f} to {max(sizes):.1f} M "
            f"| {PAPER.get(name, '')} | {costs.main_layers(lower(first))} "
            f"| {EntropyScore().value(first):.0f} | {shape(first)} | {ranks} |",
            flush=True,
        )


def pool(folder: Path, options: argparse.Namespace) -> list[Architecture]:
    """Return the pool's networks; they are evolved once and kept in the folder."""
    path = folder / f"pool-{options.pool}-{options.seed}.json"
    if path.exists():
        return [from_document(data, str(path)) for data in json.loads(path.read_text())]
    rng = np.random.default_rng(options.seed)
    networks: list[Architecture] = []
    while len(networks) < options.pool:
        asked = replace(
            request("entropy", folder, options.pairs),
            alpha=tuple(rng.dirichlet(np.full(5, 0.5)).tolist()),
        )
        problem = understand(asked)
        first = problem.space.encode(zoo.get("maedet-initial"))
        score = problem.evaluator.evaluate(first)
        assert score is not None
        sampler = Evolution(
            problem.space,
            AttributeMutation(problem.space),
            (first, score),
            rng,
            POOL_ITERATIONS,
            POOL_POPULATION,
        )
        run(sampler, problem.evaluator, POOL_ITERATIONS, Forgetful(), Progress())
        networks.append(problem.space.decode(sampler.best()[1]))
    path.write_text(json.dumps([to_document(network) for network in networks]))
    return networks


class Forgetful:
    """A checkpoint that keeps nothing: the searches of the pool take a moment."""

    def save(self, state: dict[str, Any]) -> None: ...


def compare_costs(scores: list[str], seed: int) -> None:
    """Print what a score takes in a search and for one architecture on its own, in CPU time."""
    print(
        "| score | in a search, ms | over the entropy's | MAE-DET-M on its own, ms "
        "| over the entropy's |"
    )
    print("|---" * 5 + "|")
    network = zoo.get("maedet-m")
    within: dict[str, float] = {}
    alone: dict[str, float] = {}
    for name in dict.fromkeys(["entropy", *scores]):
        with tempfile.TemporaryDirectory() as folder:
            problem = understand(request(name, Path(folder)))
        score = problem.score
        candidates = walk(problem.space, problem.evaluator.evaluate, seed)
        if score.kind != "closed form":
            candidates = candidates[::EVERY]

        within[name] = min(search_cpu_s(name, candidates, seed) for _ in range(3))
        repeats = 3 if score.kind != "closed form" else 20
        alone[name] = min(cpu_s(lambda score=score: score.value(network)) for _ in range(repeats))
        print(
            f"| {name} | {1e3 * within[name]:.3g} | {within[name] / within['entropy']:.3g} "
            f"| {1e3 * alone[name]:.3g} | {alone[name] / alone['entropy']:.3g} |",
            flush=True,
        )


def search_cpu_s(name: str, candidates: list[Candidate], seed: int) -> float:
    """Return the time per candidate of a search that meets these, budgets and tables included."""
    with tempfile.TemporaryDirectory() as folder:
        problem = understand(request(name, Path(folder)))
    judge: Judge = problem.evaluator
    if name != "entropy":
        judge = ScoreEvaluator(problem.evaluator, problem.score, seed)

    def judged() -> None:
        for candidate in candidates:
            judge.evaluate(candidate)

    return cpu_s(judged) / len(candidates)


def walk(space: Space, score: Callable[[Candidate], float | None], seed: int) -> list[Candidate]:
    """Return networks as a search meets them: mutants in a row from the paper's coarse network."""
    rng = np.random.default_rng(seed)
    mutation = AttributeMutation(space)
    made = [space.encode(zoo.get("maedet-multi-scale"))]
    while len(made) < WALK:
        mutant = mutation(made[-1], iter(rng.random(DRAWS).tolist()), False)
        if mutant != made[-1] and score(mutant) is not None:
            made.append(mutant)
    return made


def cpu_s(call: Callable[[], object]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


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
    return float(spearmanr(a, b).statistic)


def shape(architecture: Architecture) -> str:
    rows = (f"{row.out}, {row.inner} x{row.depth}" for row in architecture.rows)
    return "; ".join([str(architecture.stem.channels), *rows])


if __name__ == "__main__":
    main()
