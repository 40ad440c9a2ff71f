"""The trade-off curve: the best score under each of many budgets, each proven."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..architecture import zoo
from ..architecture.genotype import Architecture, to_document
from ..budgets import Budget
from ..errors import InfeasibleError, UsageError
from ..searchers.certified import Certificate, Solver
from ..searchers.feasibility import cheapest_within
from ..store.files import new_folder
from ..units import format_amount
from .problem import Problem, Request, costs_document, question_cost, understand

SCHEMA = "hwnas.frontier/1"


@dataclass(frozen=True)
class Span:
    """Budgets of one quantity, from `low` to `high`, spaced evenly in the logarithm.

    Raises:
        UsageError: the ends are in the wrong order, or the points are too few or too many.
    """

    quantity: str
    low: float
    high: float
    points: int

    def __post_init__(self) -> None:
        if not 2 <= self.points <= 1000:
            raise UsageError(f"--points is {self.points}; give 2 to 1000.")
        if not self.low < self.high:
            low, high = (format_amount(end, self.quantity) for end in (self.low, self.high))
            raise UsageError(f"--from {low} is not below --to {high}.")

    def limits(self) -> list[float]:
        """Return the budgets, ascending."""
        limits: list[float] = np.geomspace(self.low, self.high, self.points).tolist()
        return limits


def frontier(
    request: Request,
    span: Span,
    out: Path,
    *,
    announce: Callable[[list[str]], None] = lambda lines: None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Find the best network under each budget of a span, and write the curve.

    Known networks of the zoo stand beside: each with its cost and score, and with the best network
    of the space that costs no more.

    Args:
        request: device, space and further budgets, which hold at every point.
        span: the budgets.
        out: the folder to make: `frontier.json`, `frontier.csv`, the networks' JSON files and,
            where matplotlib is installed, `frontier.svg`.
        announce: told what was understood, a line each.
        report: told how many networks were searched, of how many.

    Raises:
        UsageError: a budget cannot be understood or is not additive, or `out` exists.
        InfeasibleError: no network of the space keeps the largest budget.
    """
    if out.exists():
        raise UsageError(f"{out} exists already. Choose another folder with --out.")
    began = time.perf_counter()
    device = request.device if span.quantity == "latency" else None
    widest = Budget(span.quantity, span.high, device)
    problem = understand(replace(request, budgets=(*request.budgets, widest.text())))
    position = next(k for k, q in enumerate(problem.questions) if q.budget.key == widest.key)
    for question in problem.questions:
        if not question.oracle.additive:
            raise UsageError(
                f"{question}: this is a maximum over layers, not a sum, so no optimum can be "
                "proven under it. Leave the budget out."
            )
    if problem.unprovable:
        raise UsageError(f"{problem.unprovable}. A frontier is one of entropies.")
    announce(_understood(problem, position, span))
    known = list(_known(problem, position, span))
    limits = span.limits()
    solver = Solver(problem.evaluator)
    points = []
    for limit in (asked := [*limits, *(cost for _, cost, _ in known)]):
        points.append(_point(problem, position, limit, _solved(solver, position, limit)))
        report(len(points), len(asked))
    if not points[len(limits) - 1]["found"]:
        raise InfeasibleError("no architecture of the space keeps the largest budget; raise --to.")
    curve, beside = points[: len(limits)], points[len(limits) :]
    document = {
        "schema": SCHEMA,
        "quantity": span.quantity,
        "device": problem.questions[position].device.name,
        "space": problem.space.name,
        "detector": request.detector,
        "budgets": [str(q) for k, q in enumerate(problem.questions) if k != position],
        "points": curve,
        "known": [
            {
                **_described(problem, architecture, cost, score),
                "name": architecture.name,
                "best": best,
            }
            for (architecture, cost, score), best in zip(known, beside, strict=True)
        ],
        "elapsed_s": time.perf_counter() - began,
        "run": str(out),
    }
    _write(document, out)
    return document


def _understood(problem: Problem, position: int, span: Span) -> list[str]:
    low, high = (format_amount(end, span.quantity) for end in (span.low, span.high))
    lines = problem.understood()
    lines[position - len(problem.questions)] += f"; {span.points} budgets from {low} to {high}"
    return lines


def _known(
    problem: Problem, position: int, span: Span
) -> Iterator[tuple[Architecture, float, float]]:
    """Yield the zoo's networks within the span, each with its cost and score."""
    for name in zoo.names():
        architecture = zoo.get(name)
        cost = question_cost(problem.questions[position], architecture)
        if span.low <= cost <= span.high:
            yield architecture, cost, problem.score.value(architecture)


def _solved(solver: Solver, position: int, limit: float) -> Certificate | None:
    """Return the optimum under one limit, None where nothing fits."""
    limits = list(solver.evaluator.limits)
    limits[position] = limit
    cheapest = cheapest_within(solver.evaluator, limits)
    return solver.solve(limits, cheapest.candidate) if cheapest.fits else None


def _point(
    problem: Problem, position: int, limit: float, found: Certificate | None
) -> dict[str, Any]:
    if found is None:
        return {"limit": limit, "found": False}
    architecture = problem.space.decode(found.candidate)
    cost = question_cost(problem.questions[position], architecture)
    return {
        "limit": limit,
        "found": True,
        **_described(problem, architecture, cost, found.score),
        "upper_bound": found.bound,
        "gap": found.gap,
        "proven": found.proven,
    }


def _described(
    problem: Problem, architecture: Architecture, cost: float, score: float
) -> dict[str, Any]:
    return {
        "cost": cost,
        "score": score,
        "costs": costs_document(problem, architecture),
        "architecture": to_document(architecture),
    }


def _write(document: dict[str, Any], out: Path) -> None:
    """Write the folder; it appears whole."""
    from ..report.frontier import draw

    with new_folder(out) as folder:
        (folder / "frontier.json").write_text(json.dumps(document, indent=2) + "\n", "utf-8")
        (folder / "frontier.csv").write_text(_table(document), "utf-8")
        for number, point in enumerate(document["points"], 1):
            if point["found"]:
                named = {**point["architecture"], "name": f"{out.name}-{number}"}
                path = folder / f"architecture-{number}.json"
                path.write_text(json.dumps(named, indent=2) + "\n", "utf-8")
        picture = draw(document)
        if picture is not None:
            (folder / "frontier.svg").write_text(picture, "utf-8")


def _table(document: dict[str, Any]) -> str:
    """Return the curve and the known networks as CSV; amounts in SI units."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["name", "limit", "cost", "score", "upper_bound", "proven", "flops", "params", "layers"]
    )
    for row in (*document["points"], *document["known"]):
        costs = row.get("costs", {})
        values = [row.get(key) for key in ("name", "limit", "cost", "score")]
        values += [row.get(key) for key in ("upper_bound", "proven")]
        writer.writerow(values + [costs.get(key) for key in ("flops", "params", "layers")])
    return text.getvalue()
