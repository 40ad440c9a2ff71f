"""Search a backbone under budgets, and leave a run folder behind."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from .. import costs
from ..architecture.genotype import Architecture, from_document, lower, to_document
from ..architecture.graph import Size
from ..architecture.spaces import Candidate, Space
from ..errors import UsageError, did_you_mean
from ..scores import catalog
from ..scores.entropy import EntropyScore
from ..searchers.certified import Solver, gap
from ..searchers.evolution import CHUNK, ITERATIONS, POPULATION, Evolution, RandomSearch, Sampler
from ..searchers.loop import Judge, Moment, Progress, resume, run
from ..searchers.mutation import DEFAULT_MUTATION, MUTATIONS
from ..searchers.scoring import ScoreEvaluator
from ..store.files import write_atomic
from .problem import (
    Problem,
    Request,
    budgets_document,
    costs_document,
    starting_point,
    understand,
)
from .runs import RunFolder, free_path

METHODS = ("auto", "certified", "evolution", "random")
TORCH_ITERATIONS, TORCH_POPULATION = 2_000, 8
"""The defaults where each evaluation runs a network: a short search needs a small population."""

TORCH_CHUNK = 16
"""Iterations between two checkpoints where each evaluation runs a network."""


def affordable(score: str) -> tuple[int, int]:
    """Return iterations and population of a search for that score, where the user names none.

    Raises:
        UsageError: there is no score of that name.
    """
    if catalog.find(score).kind == "closed form":
        return ITERATIONS, POPULATION
    return TORCH_ITERATIONS, TORCH_POPULATION


@dataclass(frozen=True)
class Settings:
    """How to search.

    Attributes:
        method: `auto` is `certified` where the score is the entropy, every budget is additive and
            nothing of what follows is given, else `evolution`.
        mutation, iterations, population: of evolution; None stands for the default, which for
            iterations and population is what the score affords.
        seed: of evolution and random search; a certified search has nothing random.
        start: an architecture's JSON data that evolution starts from, or None for the narrowest.
        alternatives: how many architectures of a certified search to return, the best included.
    """

    method: str = "auto"
    mutation: str | None = None
    iterations: int | None = None
    population: int | None = None
    seed: int = 0
    start: dict[str, Any] | None = None
    alternatives: int = 1

    def __post_init__(self) -> None:
        for value, known, what in (
            (self.method, METHODS, "method"),
            (self.mutation or DEFAULT_MUTATION, tuple(MUTATIONS), "mutation"),
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
            (self.alternatives, 1, "alternatives"),
        ):
            if number is not None and number < low:
                raise UsageError(f"{what} is {number}; it must be at least {low}.")
        if self.method == "certified" and self._evolves():
            raise UsageError(
                f"{self._evolves()} belongs to evolution; a certified search has no such thing. "
                "Leave it out, or use --method evolution."
            )
        if self.alternatives > 1 and (self.method in ("evolution", "random") or self._evolves()):
            raise UsageError(
                "alternatives come from a certified search: leave --alternatives out, or use "
                "--method certified."
            )

    def resolved(self, problem: Problem) -> tuple[Settings, str]:
        """Return the settings with `auto` replaced, and why, in one line.

        Raises:
            UsageError: a certificate is asked for under a budget that is not additive, or of a
                score that is not the entropy.
        """
        others = [str(question) for question in problem.questions if not question.oracle.additive]
        if problem.unprovable:
            if self.method == "certified" or self.alternatives > 1:
                raise UsageError(f"{problem.unprovable}. Use --method evolution.")
            if self.method == "auto":
                why = f"method evolution: {problem.unprovable}"
                return replace(self, method="evolution"), why
            return self, f"method {self.method}"
        if self.method == "auto" and (self._evolves() or (others and self.alternatives == 1)):
            why = f"{self._evolves()} was given"
            if others:
                why = f"no optimum can be proven under {others[0]}, a maximum and not a sum"
            return replace(self, method="evolution"), f"method evolution: {why}"
        if self.method in ("auto", "certified"):
            if others:
                raise UsageError(
                    f"{others[0]}: this is a maximum over layers, not a sum, so no optimum can "
                    "be proven under it. Use --method evolution; its bound leaves this budget out."
                )
            return replace(self, method="certified"), "method certified: the optimum, with a proof"
        return self, f"method {self.method}"

    def _evolves(self) -> str:
        """Return the name of an option that only evolution has, or ''."""
        names = ("mutation", "iterations", "population", "start")
        return next((f"--{name}" for name in names if getattr(self, name) is not None), "")


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
    announce: Callable[[list[str]], None] = lambda lines: None,
    report: Callable[[Moment], None] = lambda moment: None,
) -> Result:
    """Search the architecture of highest score within the budgets.

    Args:
        request: budgets, device and space.
        settings: method, length and seed.
        out: the run folder to make; by default a new one in `runs/`.
        announce: told what was understood, a line each, before the search begins.
        report: told how the search goes.

    Raises:
        UsageError: something in the request cannot be understood, or `out` exists.
        InfeasibleError: no architecture of the space keeps the budgets.
    """
    began = _clocks()
    problem = understand(request)
    resolved, why = settings.resolved(problem)
    announce([*problem.understood(), why])
    first = _first(problem, settings)
    name = "-".join([problem.space.name, request.budgets[0].replace("@", "-at-").replace("=", "-")])
    if request.score != catalog.DEFAULT:
        name += f"-{request.score}"
    if resolved.method != "certified":
        name += f"-seed{settings.seed}"
    folder = RunFolder.create(
        out or free_path(name), {"request": asdict(request), "settings": asdict(resolved)}
    )
    if resolved.method == "certified":
        return _certify(problem, request, resolved, folder, first, began, report)
    judge = _judge(problem, resolved)
    sampler = _sampler(problem, judge, resolved, first)
    return _search(problem, request, resolved, judge, sampler, folder, Progress(), began, report)


def resume_search(
    path: Path,
    *,
    announce: Callable[[list[str]], None] = lambda lines: None,
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
    resolved, why = settings.resolved(problem)
    announce([*problem.understood(), why])
    first = _first(problem, resolved)
    if resolved.method == "certified":
        announce(["a certified search keeps no state: it starts over"])
        return _certify(problem, request, resolved, folder, first, began, report)
    judge = _judge(problem, resolved)
    sampler = _sampler(problem, judge, resolved, first)
    state = folder.checkpoint()
    progress = resume(sampler, state) if state is not None else Progress()
    return _search(problem, request, resolved, judge, sampler, folder, progress, began, report)


def _first(problem: Problem, settings: Settings) -> Candidate:
    start = from_document(settings.start, "--start") if settings.start is not None else None
    return starting_point(problem, start)


def _judge(problem: Problem, settings: Settings) -> Judge:
    """Return what scores the candidates: the entropy's own tables, or an evaluator around them."""
    if isinstance(problem.score, EntropyScore):
        return problem.evaluator
    return ScoreEvaluator(problem.evaluator, problem.score, settings.seed)


def _sampler(problem: Problem, judge: Judge, settings: Settings, first: Candidate) -> Sampler:
    score = judge.evaluate(first)
    assert score is not None  # the starting point keeps all budgets
    scored = (first, score)
    rng = np.random.default_rng(settings.seed)
    if settings.method == "random":
        return RandomSearch(problem.space, scored, rng)
    mutation = MUTATIONS[settings.mutation or DEFAULT_MUTATION](problem.space)
    iterations, population = affordable(problem.score.name)
    return Evolution(
        problem.space,
        mutation,
        scored,
        rng,
        settings.iterations or iterations,
        settings.population or population,
    )


def _search(
    problem: Problem,
    request: Request,
    settings: Settings,
    judge: Judge,
    sampler: Sampler,
    folder: RunFolder,
    progress: Progress,
    began: tuple[float, float],
    report: Callable[[Moment], None],
) -> Result:
    """Evolve, then bound what was found where the score has a bound."""
    iterations = settings.iterations or affordable(problem.score.name)[0]
    chunk = CHUNK if problem.score.kind == "closed form" else TORCH_CHUNK
    run(sampler, judge, iterations, folder, progress, report, chunk)
    score, candidate = sampler.best()
    searched = _clocks()
    bound = None
    if not problem.unprovable:
        bound = Solver(problem.evaluator).solve(start=candidate).bound
    took = _clocks()
    document: dict[str, Any] = {
        "mutation": (
            (settings.mutation or DEFAULT_MUTATION) if settings.method == "evolution" else None
        ),
        "iterations": iterations,
        "evaluations": sampler.evaluations,
        "bound_elapsed_s": took[0] - searched[0],
        "bound_cpu_s": took[1] - searched[1],
    }
    return _finish(
        problem,
        request,
        settings,
        folder,
        (score, candidate),
        bound,
        progress.history,
        document,
        began,
    )


def _certify(
    problem: Problem,
    request: Request,
    settings: Settings,
    folder: RunFolder,
    first: Candidate,
    began: tuple[float, float],
    report: Callable[[Moment], None],
) -> Result:
    """Find the optimum and prove it."""
    solver = Solver(problem.evaluator)
    found = solver.solve(start=first, alternatives=settings.alternatives)
    moment = Moment(1, found.paths, found.score, found.candidate)
    report(moment)
    document: dict[str, Any] = {
        "mutation": None,
        "iterations": None,
        "evaluations": found.paths,
        "binding": found.binding,
        "alternatives": [
            _alternative(problem, folder, number, candidate, score, found.bound)
            for number, (candidate, score) in enumerate(found.alternatives, 2)
        ],
    }
    best = (found.score, found.candidate)
    return _finish(problem, request, settings, folder, best, found.bound, [moment], document, began)


def _alternative(
    problem: Problem,
    folder: RunFolder,
    number: int,
    candidate: Candidate,
    score: float,
    bound: float,
) -> dict[str, Any]:
    """Write an alternative beside the result and describe it."""
    architecture = problem.space.decode(candidate, name=f"{folder.path.name}-{number}")
    file = f"architecture-{number}.json"
    write_atomic(folder.path / file, architecture.to_json())
    return {
        "file": file,
        "score": score,
        "gap": gap(score, bound),
        "costs": costs_document(problem, architecture),
        "architecture": to_document(architecture),
    }


def _finish(
    problem: Problem,
    request: Request,
    settings: Settings,
    folder: RunFolder,
    best: tuple[float, Candidate],
    bound: float | None,
    moments: list[Moment],
    more: dict[str, Any],
    began: tuple[float, float],
) -> Result:
    """Describe the best architecture and write it into the run folder."""
    score, candidate = best
    architecture = problem.space.decode(candidate, name=folder.path.name)
    size = request.resolution or problem.device.resolution
    if problem.score.kind == "closed form":  # tables and graph agree
        exact = problem.score.value(architecture, settings.seed)
        assert abs(exact - score) <= 1e-6 * max(1.0, abs(score)), (exact, score)
    if bound is not None:
        assert score <= bound + 1e-9 * abs(bound), (score, bound)  # or the bound is none
    entropy = problem.evaluator.score(architecture)
    document: dict[str, Any] = {
        "schema": "hwnas.search/1",
        "score": score,
        "score_name": problem.score.name,
        "score_kind": problem.score.kind,
        "score_resolution": list(problem.score.resolution),
        "upper_bound": None if bound is None else max(score, bound),
        "gap": None if bound is None else gap(score, bound),
        "proven": bound is not None and score >= bound,
        "bound_ignores": [
            question.budget.key for question in problem.questions if not question.oracle.additive
        ],
        "entropy": {"stages": list(entropy.stages), "score": entropy.score},
        "costs": costs_document(problem, architecture),
        "budgets": budgets_document(problem, architecture),
        "architecture": to_document(architecture),
        "method": settings.method,
        "seed": settings.seed,
        **more,
        "device": problem.device.name,
        "space": problem.space.name,
        "detector": request.detector,
        "resolution": list(size),
        "batch": problem.device.batch,
        "run": str(folder.path),
    }
    history = _history(moments, problem.space, size)
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
