"""From what the user asked for to a search problem: device, space, budgets, oracles, evaluator."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

from ..architecture import detectors, spaces
from ..architecture.detectors import Detector
from ..architecture.genotype import Architecture, lower, to_document
from ..architecture.graph import Size
from ..architecture.spaces import Candidate, Space
from ..budgets import Budget, parse, tightest
from ..budgets.detection import WholeDetector
from ..budgets.oracles import Oracle, PeakMemory, graph_oracle
from ..devices import spec as device_specs
from ..devices.spec import DeviceSpec
from ..errors import InfeasibleError, UsageError
from ..latency.oracle import LatencyOracle
from ..scores import catalog
from ..scores.base import Score
from ..scores.entropy import EntropyScore
from ..searchers.evaluator import Evaluator
from ..searchers.feasibility import cheapest_within
from ..units import format_amount
from .predict import load_predictor

CONFIDENCE = 0.9
"""Of the intervals beside predicted costs, where the request names none."""


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    `budgets` are texts such as `latency=20ms@v100-trt-fp16`. `space` and `resolution` default to
    the device's, `score_resolution` and `alpha` to the score's; `feature_size` is for the entropy.
    With a `confidence`, the upper end of that interval of a predicted latency must
    lie within the budget, not the prediction alone. `corrections` are devices, each with
    what a measured network took over what was predicted; `latency_share` is how much of a latency
    budget predictions may use. With a `detector`, such as `gfl`, FLOPs, parameters, memory and
    latency are those of the whole detector.
    """

    budgets: tuple[str, ...]
    device: str
    space: str | None = None
    resolution: Size | None = None
    score: str = catalog.DEFAULT
    score_resolution: Size | None = None
    alpha: tuple[float, ...] | None = None
    feature_size: bool = False
    confidence: float | None = None
    corrections: tuple[tuple[str, float], ...] = ()
    latency_share: float = 1.0
    detector: str | None = None

    def __post_init__(self) -> None:
        self.make_score()

    def make_score(self) -> Score:
        """Return the score that the request is about.

        Raises:
            UsageError: there is no such score, its weights are not five or one is negative, or an
                option does not belong to it.
            DeviceUnavailableError: the score needs torch, which is not installed.
        """
        score = catalog.make(self.score, resolution=self.score_resolution, alpha=self.alpha)
        if isinstance(score, EntropyScore):
            return replace(score, feature_size=self.feature_size)
        if self.feature_size:
            raise UsageError(f"--feature-size belongs to the entropy, not to '{score.name}'.")
        return score


@dataclass(frozen=True)
class Question:
    """One budget with the oracle that answers it and the device that it is about.

    `interval` holds the factors that make a predicted latency into its interval of `confidence`.
    With `strict` the upper end of the interval has to keep the budget. `share` is how much of the
    budget may be used.
    """

    budget: Budget
    oracle: Oracle
    device: DeviceSpec
    interval: tuple[float, float] | None = None
    confidence: float = CONFIDENCE
    strict: bool = False
    share: float = 1.0

    @property
    def limit(self) -> float:
        """What a predicted cost may be: a network's interval grows with its prediction, so its
        upper end keeps the budget where the prediction keeps this."""
        usable = self.share * self.budget.limit
        if self.interval is None or not self.strict:
            return usable
        return usable / self.interval[1]

    def __str__(self) -> str:
        """Return the budget as it was understood."""
        whole = isinstance(self.oracle, WholeDetector) and self.budget.quantity != "layers"
        return self._understood() + (" (the whole detector)" if whole else "")

    def _understood(self) -> str:
        size = f"{self.oracle.resolution[0]}x{self.oracle.resolution[1]}"
        match self.budget.quantity:
            case "latency":
                images = (
                    f"per batch of {self.oracle.batch}" if self.oracle.batch > 1 else "per image"
                )
                limit, place = str(self.budget).rsplit(" on ", 1)
                understood = f"{limit} {images} at {size} on {place}, predicted"
                if self.strict:
                    understood += (
                        f", by the upper end of the {self.confidence * 100:g} % interval: "
                        f"a prediction of at most {format_amount(self.limit, 'latency')}"
                    )
                return understood
            case "flops":
                return f"{self.budget} (multiply-adds of one image at {size})"
            case "memory":
                precision = self.device.precision
                return f"{self.budget} (peak activations of one image at {size}, {precision})"
            case _:
                return str(self.budget)


@dataclass(frozen=True)
class Problem:
    """A search problem, understood: what may be built, what it may cost, how it is scored.

    `evaluator` knows costs and entropies; the score may be another one (`searchers.scoring`).
    """

    device: DeviceSpec
    space: Space
    score: Score
    questions: tuple[Question, ...]
    evaluator: Evaluator = field(compare=False)
    detector: Detector | None = None

    def understood(self) -> list[str]:
        """Return what was understood, a line each."""
        lines = [f"space {self.space.name}: {self.space.about}"]
        if self.detector is not None:
            lines.append(f"detector {detectors.spelled(self.detector)}: {self.detector.about}")
        lines += [str(question) for question in self.questions]
        if self.unprovable:
            height, width = self.score.resolution
            lines.append(f"score {self.score.name}: {self.score.kind}, at {height}x{width}")
        return lines

    @property
    def unprovable(self) -> str:
        """Why no optimum of the score can be proven, whatever the budgets; '' where it can."""
        if isinstance(self.score, EntropyScore):
            return ""
        return (
            f"no optimum of the score '{self.score.name}' can be proven: the proof is for the "
            "entropy, as a sum over rows"
        )


def understand(request: Request) -> Problem:
    """Return the search problem of a request.

    Raises:
        UsageError: a device, a space or a budget cannot be understood.
        HwnasError: a device has no predictor yet.
    """
    device, space, questions = read(request)
    score = request.make_score()
    evaluator = Evaluator(
        space,
        score if isinstance(score, EntropyScore) else EntropyScore(),
        [question.oracle for question in questions],
        [question.limit for question in questions],
    )
    return Problem(device, space, score, questions, evaluator, _detector(request))


def read(request: Request) -> tuple[DeviceSpec, Space, tuple[Question, ...]]:
    """Return what a request names: its device, its space, and its budgets with their oracles.

    Raises:
        UsageError: a device, a space or a budget cannot be understood.
        HwnasError: a device has no predictor yet.
    """
    if not request.budgets:
        raise UsageError("a search needs a budget: give --budget latency=20ms, or flops=4.4G.")
    device = device_specs.load(request.device)
    space = spaces.load(request.space or device.space)
    budgets = tightest([parse(text, request.device) for text in request.budgets])
    if not any(budget.quantity == "layers" for budget in budgets):
        limit = space.layers if request.space else device.layers
        budgets.append(Budget("layers", limit))
    questions = tuple(_question(budget, device, request) for budget in budgets)
    multiples = (place.channel_multiple for place in (device, *(q.device for q in questions)))
    return device, space.aligned(math.lcm(*multiples)), questions


def _detector(request: Request) -> Detector | None:
    return detectors.parse(request.detector) if request.detector else None


def _counted(oracle: Oracle, detector: Detector | None) -> Oracle:
    """Return the oracle of a whole detector, or as it was where there is none."""
    return oracle if detector is None else WholeDetector(oracle, detector)


def starting_point(problem: Problem, start: Architecture | None) -> Candidate:
    """Return the candidate that a search starts from, within all budgets.

    Without a `start` it is the narrowest network of the space, or, where that is too costly, the
    cheapest that can be found.

    Raises:
        UsageError: `start` lies outside the space or exceeds a budget.
        InfeasibleError: no architecture of the space keeps the budgets; carries the cheapest.
    """
    evaluator = problem.evaluator
    if start is not None:
        candidate = problem.space.encode(start)
        if evaluator.evaluate(candidate) is None:
            raise UsageError(
                f"the start exceeds a budget: {_comparison(problem, candidate)}. "
                "Leave --start out to begin with the narrowest network of the space."
            )
        return candidate
    candidate = problem.space.narrowest()
    if evaluator.evaluate(candidate) is not None:
        return candidate
    found = cheapest_within(evaluator)
    if found.fits:
        return found.candidate
    if found.alone is not None:
        why = f"{problem.questions[found.alone].budget} cannot be kept"
    elif found.impossible:
        why = "the budgets contradict each other"
    else:
        why = "no architecture was found that keeps all budgets at once"
    raise _infeasible(problem, found.candidate, why)


def _infeasible(problem: Problem, candidate: Candidate, why: str) -> InfeasibleError:
    architecture = problem.space.decode(candidate, name="cheapest")
    return InfeasibleError(
        f"{why}: the cheapest architecture of the space '{problem.space.name}' needs "
        f"{_comparison(problem, candidate)}. Raise the budget or choose another space.",
        {
            "architecture": to_document(architecture),
            "costs": costs_document(problem, architecture),
            "budgets": budgets_document(problem, architecture),
        },
    )


def _comparison(problem: Problem, candidate: Candidate) -> str:
    parts = []
    for question, cost in zip(problem.questions, problem.evaluator.costs(candidate), strict=True):
        actual = replace(question.budget, limit=cost)
        if cost > question.limit:
            allowed = (
                f", which allows a prediction of "
                f"{format_amount(question.limit, question.budget.quantity)}"
                if question.strict
                else ""
            )
            parts.append(
                f"{str(actual).replace('<= ', '')}, the budget is {question.budget}{allowed}"
            )
    return "; ".join(parts)


def costs_document(problem: Problem, architecture: Architecture) -> dict[str, Any]:
    """Return what an architecture costs: FLOPs, params, layers, and latency by device."""
    resolution = problem.questions[0].oracle.resolution
    for question in problem.questions:
        if question.budget.quantity == "flops":
            resolution = question.oracle.resolution
    graph = lower(architecture, resolution)
    document: dict[str, Any] = {
        name: int(_counted(graph_oracle(name, resolution), problem.detector).cost(graph))
        for name in ("flops", "params", "layers")
    }
    document["resolution"] = list(resolution)
    document["latency_s"] = {
        question.budget.device: question_cost(question, architecture)
        for question in problem.questions
        if question.budget.quantity == "latency"
    }
    return document


def question_cost(question: Question, architecture: Architecture) -> float:
    """Return what an architecture costs by a budget's oracle, whether in the space or not."""
    oracle = question.oracle
    return oracle.cost(lower(architecture, oracle.resolution, batch=oracle.batch))


def budgets_document(problem: Problem, architecture: Architecture) -> list[dict[str, Any]]:
    """Return each budget with the architecture's cost, and its interval where it is predicted."""
    document = []
    for question in problem.questions:
        cost = question_cost(question, architecture)
        document.append(
            {
                "quantity": question.budget.quantity,
                "limit": question.budget.limit,
                "device": question.budget.device,
                "cost": cost,
                "understood": str(question),
            }
        )
        if question.interval is not None:
            low, high = question.interval
            document[-1] |= {
                "interval": [low * cost, high * cost],
                "confidence": question.confidence,
                "interval_within_budget": question.strict,
            }
    return document


def _question(budget: Budget, device: DeviceSpec, request: Request) -> Question:
    if budget.device is None:
        oracle = graph_oracle(budget.quantity, request.resolution or device.resolution)
        if isinstance(oracle, PeakMemory):
            oracle = replace(oracle, bytes_per_value=device.bytes_per_value)
        return Question(budget, _counted(oracle, _detector(request)), device)
    place = device_specs.load(budget.device)
    predictor = load_predictor(place)
    resolution = request.resolution or place.resolution
    correction = dict(request.corrections).get(place.name, 1.0)
    confidence = CONFIDENCE if request.confidence is None else request.confidence
    oracle = LatencyOracle(predictor, place.fusion, resolution, place.batch, correction)
    return Question(
        budget,
        _counted(oracle, _detector(request)),
        place,
        predictor.card.network_quantiles.factors(confidence),
        confidence,
        request.confidence is not None,
        request.latency_share,
    )
