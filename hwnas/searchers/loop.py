"""The search loop: ask, check the budgets, score, tell; the state is saved as it goes."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..architecture.spaces import Candidate
from .evolution import CHUNK, Sampler, thaw

SAVE_EVERY_S = 2.0


@dataclass(frozen=True)
class Moment:
    """The state of a search after so many iterations."""

    iteration: int
    evaluations: int
    score: float
    candidate: Candidate


@dataclass
class Progress:
    """How far a run has come: what a checkpoint holds besides the sampler's state."""

    iteration: int = 0
    history: list[Moment] = field(default_factory=list)


class Judge(Protocol):
    """Says what a candidate scores."""

    def evaluate(self, candidate: Candidate) -> float | None:
        """Return the score of a candidate, None where it exceeds a budget or leaves the space."""


class Checkpoint(Protocol):
    """Keeps the state of a run where it survives the process."""

    def save(self, state: dict[str, Any]) -> None:
        """Keep a state, in place of the one before."""


def run(
    sampler: Sampler,
    evaluator: Judge,
    iterations: int,
    checkpoint: Checkpoint,
    progress: Progress,
    report: Callable[[Moment], None] = lambda moment: None,
    chunk: int = CHUNK,
) -> Progress:
    """Run a search to its last iteration and return its history.

    An iteration is one proposal, kept or not. The state is saved between chunks of iterations, so
    a run that goes on from a checkpoint ends as if it had never stopped. A `chunk` shorter than
    `CHUNK` is for evaluators that take long.
    """
    due = time.monotonic() + SAVE_EVERY_S
    while progress.iteration < iterations:
        end = min(progress.iteration + chunk, iterations)
        sampler.begin(progress.iteration)
        with _uncollected():
            for _ in range(progress.iteration, end):
                candidate = sampler.ask()
                if candidate is None:
                    continue
                score = evaluator.evaluate(candidate)
                if score is not None:
                    sampler.tell(candidate, score)
        progress.iteration = end
        moment = Moment(end, sampler.evaluations, *sampler.best())
        progress.history.append(moment)
        report(moment)
        now = time.monotonic()
        if now >= due:
            checkpoint.save(freeze(sampler, progress))
            took = time.monotonic() - now
            due = now + took + max(SAVE_EVERY_S, 20 * took)  # saving stays below 5 % of the time
    return progress


@contextmanager
def _uncollected() -> Iterator[None]:
    """Hold back the search for cycles of garbage: candidates are many and have none."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def freeze(sampler: Sampler, progress: Progress) -> dict[str, Any]:
    """Return the state of a run as JSON data."""
    return {
        "iteration": progress.iteration,
        "history": [[m.iteration, m.evaluations, m.score, m.candidate] for m in progress.history],
        "sampler": sampler.state(),
    }


def resume(sampler: Sampler, state: dict[str, Any]) -> Progress:
    """Put a sampler back into a saved state and return how far the run had come."""
    sampler.restore(state["sampler"])
    history = [Moment(i, n, score, thaw(c)) for i, n, score, c in state["history"]]
    return Progress(state["iteration"], history)
