"""Search a backbone under budgets, and leave a run folder behind."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from .. import costs
from ..architecture.genotype import Architecture, from_document, lower, to_document
from ..architecture.graph import Size
from ..architecture.spaces import Space
from ..errors import UsageError, did_you_mean
from ..searchers.evolution import ITERATIONS, POPULATION, Evolution, RandomSearch, Sampler
from ..searchers.loop import Moment, Progress, resume, run
from ..searchers.mutation import MUTATIONS
from .problem import (
    Problem,
    Request,
    budgets_document,
    costs_document,
    starting_point,
    understand,
)
from .runs import RunFolder, free_path

METHODS = ("evolution", "random")


@dataclass(frozen=True)
class Settings:
    """How to search. `start` is an architecture's JSON data, or None for the narrowest."""

    method: str = "evolution"
    mutation: str = "attributes"
    iterations: int = ITERATIONS
    population: int = POPULATION
    seed: int = 0
    start: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        for value, known, what in (
            (self.method, METHODS, "method"),
            (self.mutation, tuple(MUTATIONS), "mutation"),
        ):
            if value not in known:
                raise UsageError(
                    f"unknown {what} '{value}'.{did_you_mean(value, known)} "
                    f"Known: {', '.join(known)}."
                )
        for number, low, what in (
            (self.iterations, 1, "iterations"),
            (self.population, 2, "population"),
            (self.seed, 0, "seed"),
        ):
            if number < low:
                raise UsageError(f"{what} is {number}; it must be at least {low}.")


@dataclass(frozen=True)
class Result:
    """A finished search."""

    architecture: Architecture
    document: dict[str, Any]
    run: Path


def search(
    request: Request,
    settings: Settings,
    out: Path | None = None,
    *,
    announce: Callable[[Problem], None] = lambda problem: None,
    report: Callable[[Moment], None] = lambda moment: None,
) -> Result:
    """Search the architecture of highest score within the budgets.

    Args:
        request: budgets, device and space.
        settings: method, length and seed.
        out: the run folder to make; by default a new one in `runs/`.
        announce: told what was understood, before the search begins.
        report: told how the search goes.

    Raises:
        UsageError: something in the request cannot be understood, or `out` exists.
        InfeasibleError: no architecture of the space keeps the budgets.
    """
    began = _clocks()
    problem = understand(request)
    announce(problem)
    sampler = _sampler(problem, settings)
    name = "-".join([problem.space.name, request.budgets[0].replace("@", "-at-").replace("=", "-")])
    folder = RunFolder.create(
        out or free_path(f"{name}-seed{settings.seed}"),
        {"request": asdict(request), "settings": asdict(settings)},
    )
    return _search(problem, request, settings, sampler, folder, Progress(), began, report)


def resume_search(
    path: Path,
    *,
    announce: Callable[[Problem], None] = lambda problem: None,
    report: Callable[[Moment], None] = lambda moment: None,
) -> Result:
    """Go on with an interrupted search; its result is that of one that never stopped.

    Raises:
        UsageError: `path` is not a run folder.
    """
    began = _clocks()
    folder = RunFolder.open(path)
    finished = folder.result()
    if finished is not None:
        return Result(from_document(finished["architecture"], str(path)), finished, path)
    saved = folder.settings()
    try:
        request = msgspec.convert(saved.get("request"), Request)
        settings = msgspec.convert(saved.get("settings"), Settings)
    except msgspec.ValidationError as error:
        raise UsageError(f"{path / 'search.json'}: {error}.") from None
    problem = understand(request)
    announce(problem)
    sampler = _sampler(problem, settings)
    state = folder.checkpoint()
    progress = resume(sampler, state) if state is not None else Progress()
    return _search(problem, request, settings, sampler, folder, progress, began, report)


def _sampler(problem: Problem, settings: Settings) -> Sampler:
    start = from_document(settings.start, "--start") if settings.start is not None else None
    first = starting_point(problem, start)
    score = problem.evaluator.evaluate(first)
    assert score is not None  # the starting point keeps all budgets
    scored = (first, score)
    rng = np.random.default_rng(settings.seed)
    if settings.method == "random":
        return RandomSearch(problem.space, scored, rng)
    mutation = MUTATIONS[settings.mutation](problem.space)
    return Evolution(problem.space, mutation, scored, rng, settings.iterations, settings.population)


def _search(
    problem: Problem,
    request: Request,
    settings: Settings,
    sampler: Sampler,
    folder: RunFolder,
    progress: Progress,
    began: tuple[float, float],
    report: Callable[[Moment], None],
) -> Result:
    run(sampler, problem.evaluator, settings.iterations, folder, progress, report)
    score, candidate = sampler.best()
    architecture = problem.space.decode(candidate, name=folder.path.name)
    size = request.resolution or problem.device.resolution
    exact = problem.score(architecture)
    assert abs(exact.score - score) <= 1e-6 * max(1.0, abs(score)), (exact.score, score)
    document: dict[str, Any] = {
        "schema": "hwnas.search/1",
        "score": score,
        "upper_bound": None,
        "entropy": {"stages": list(exact.stages), "score": exact.score},
        "costs": costs_document(problem, architecture),
        "budgets": budgets_document(problem, architecture),
        "architecture": to_document(architecture),
        "method": settings.method,
        "mutation": settings.mutation if settings.method == "evolution" else None,
        "iterations": settings.iterations,
        "seed": settings.seed,
        "evaluations": sampler.evaluations,
        "device": problem.device.name,
        "space": problem.space.name,
        "resolution": list(size),
        "batch": problem.device.batch,
        "run": str(folder.path),
    }
    history = _history(progress.history, problem.space, size)
    wall, cpu = _clocks()
    document["elapsed_s"] = wall - began[0]
    document["cpu_s"] = cpu - began[1]
    folder.finish(architecture.to_json(), history, document)
    return Result(architecture, document, folder.path)


def _history(moments: Iterable[Moment], space: Space, resolution: Size) -> str:
    """Return the course of the search as CSV: the best network's layers, FLOPs, params by stage."""
    names = ("layers", "flops", "params")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["iteration", "evaluations", "score"]
        + [f"{name}_c{i}" for name in names for i in range(1, 6)]
    )
    shape: list[int] = []
    before = None
    for moment in moments:
        if moment.candidate != before:
            before = moment.candidate
            graph = lower(space.decode(moment.candidate), resolution)
            shape = [
                sum(formula(layer) for layer in graph.layers if layer.stage == stage)
                for formula in (lambda layer: int(layer.main), costs.macs, costs.params)
                for stage in range(1, 6)
            ]
        writer.writerow([moment.iteration, moment.evaluations, repr(moment.score), *shape])
    return text.getvalue()


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()
