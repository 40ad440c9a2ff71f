"""The paper's ablations, repeated without training: what is found, beside what the paper printed.

    python benchmarks/ablations.py --seeds 5 --docs docs

Table 8 (the weights of C3, C4 and C5), Table 4 (single scale; coarse against coarse-to-fine),
Figures 8 to 10 (layers, FLOPs and parameters by stage during a search) and Appendix F (random
networks). At 4.4 GFLOPs (224x224) and at most 91 layers. Needs the extra `docs` for the pictures.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from hwnas import costs
from hwnas.architecture import lower, spaces, zoo
from hwnas.architecture.spaces import Candidate
from hwnas.scores.entropy import EntropyScore
from hwnas.searchers.evolution import ITERATIONS, Evolution
from hwnas.searchers.loop import Moment, Progress, run
from hwnas.searchers.mutation import AttributeMutation
from hwnas.workflows.problem import Problem, Request, starting_point, understand

SIZE = (224, 224)
DETECTION = (800, 1280)
PAPER_TABLE_8 = {
    (1, 1, 1): 11.5, (1, 1, 2): 13.4, (1, 1, 4): 17.2, (1, 1, 6): 29.4, (1, 1, 8): 31.7,
    (1, 4, 1): 10.9, (4, 1, 1): 11.1,
}  # fmt: skip
SINGLE_SCALE = (0, 0, 1)
PAPER_SINGLE_SCALE = 60.1


class Forgetful:
    """A checkpoint that keeps nothing: these searches take a second."""

    def save(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class Found:
    """What one search found, and its course."""

    candidate: Candidate
    score: float
    history: list[Moment]


def problem(alpha: Sequence[float], pairs: int = 5) -> Problem:
    """Return the search problem of weights of C3 to C5, at most `pairs` pairs of blocks a stage."""
    text = files(spaces).joinpath("resnet.toml").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "space.toml"
        path.write_text(text.replace("pairs = [1, 5]", f"pairs = [1, {pairs}]"), encoding="utf-8")
        request = Request(
            ("flops=4.4G", "layers=91"), "v100-trt-fp16", str(path), SIZE, alpha=(0, 0, *alpha)
        )
        return understand(request)


def evolve(problem: Problem, seed: int, *, fine: bool = True) -> Found:
    """Run the default evolution; without `fine` all of it mutates coarsely."""
    first = starting_point(problem, None)
    score = problem.evaluator.evaluate(first)
    assert score is not None
    sampler = Evolution(
        problem.space,
        AttributeMutation(problem.space),
        (first, score),
        np.random.default_rng(seed),
        ITERATIONS if fine else 2 * ITERATIONS,  # the second half is the fine one
    )
    progress = run(sampler, problem.evaluator, ITERATIONS, Forgetful(), Progress())
    best, candidate = sampler.best()
    return Found(candidate, best, progress.history)


def params_m(problem: Problem, candidate: Candidate) -> float:
    return float(costs.total_params(lower(problem.space.decode(candidate), SIZE))) / 1e6


def table_8(seeds: int) -> str:
    lines = [
        "| C3:C4:C5 | paper, params | found, params: median (least to greatest) | pairs C2 to C5 |",
        "|---|---|---|---|",
    ]
    rows = [*PAPER_TABLE_8.items(), (SINGLE_SCALE, PAPER_SINGLE_SCALE)]
    for alpha, printed in rows:
        asked = problem(alpha, pairs=10 if alpha == SINGLE_SCALE else 5)
        found = [evolve(asked, seed) for seed in range(seeds)]
        sizes = sorted(params_m(asked, f.candidate) for f in found)
        best = max(found, key=lambda f: f.score).candidate
        depths = " ".join(str(genes[3]) for genes in best[1:])
        lines.append(
            f"| {':'.join(map(str, alpha))} | {printed} M "
            f"| {median(sizes):.1f} M ({sizes[0]:.1f} to {sizes[-1]:.1f}) | {depths} |"
        )
    return "\n".join(lines)


def strategies(seeds: int) -> str:
    asked = problem((1, 1, 6))
    goal = EntropyScore()(zoo.get("maedet-m")).score
    lines = ["| strategy | score, least to greatest | spread |", "|---|---|---|"]
    for name, fine in (("coarse", False), ("coarse to fine", True)):
        scores = [evolve(asked, seed, fine=fine).score for seed in range(seeds)]
        spread = (max(scores) - min(scores)) / max(scores)
        lines.append(f"| {name} | {min(scores):.1f} to {max(scores):.1f} | {spread:.2%} |")
    lines.append(f"| MAE-DET-M, the paper's own | {goal:.1f} | |")
    return "\n".join(lines)


def random_networks(count: int) -> tuple[str, list[float]]:
    """Appendix F: random networks of MAE-DET-M's size, by score."""
    asked = problem((1, 1, 6))
    rng = np.random.default_rng(0)
    scores: list[float] = []
    drawn = 0
    while len(scores) < count:
        candidate = asked.space.sample(rng)
        drawn += 1
        architecture = asked.space.decode(candidate)
        graph = lower(architecture, DETECTION)
        if (
            70e9 <= costs.mmcv_flops(graph, architecture.flops_rule) <= 95e9
            and 20e6 <= costs.total_params(graph) <= 30e6
            and costs.main_layers(graph) <= 91
        ):
            scores.append(asked.score(architecture).score)
    goal = asked.score(zoo.get("maedet-m")).score
    text = (
        f"{count} random networks of 70 to 95 GFLOPs (800x1280, as the paper's tables count), "
        f"20 to 30 M parameters and at most 91 layers, of {drawn:,} drawn: scores "
        f"{min(scores):.1f} to {max(scores):.1f}, median {median(scores):.1f}; MAE-DET-M has "
        f"{goal:.1f}, the default evolution at 4.4 GFLOPs {evolve(asked, 0).score:.1f}."
    )
    return text, scores


def shape(problem: Problem, candidate: Candidate) -> list[list[float]]:
    """Return layers, GFLOPs and params (M) of C1 to C5."""
    graph = lower(problem.space.decode(candidate), SIZE)
    formulas = (
        lambda layer: float(layer.main),
        lambda layer: costs.macs(layer) / 1e9,
        lambda layer: costs.params(layer) / 1e6,
    )
    by_stage = [[layer for layer in graph.layers if layer.stage == i] for i in range(1, 6)]
    return [[sum(map(formula, layers)) for layers in by_stage] for formula in formulas]


def course(folder: Path) -> None:
    """Draw Figures 8 to 10: layers, FLOPs and parameters by stage during three searches."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    searches = {
        "single scale, 0:0:1 (Figure 8)": (problem(SINGLE_SCALE, pairs=10), True),
        "multi-scale, 1:1:6, coarse (Figure 9)": (problem((1, 1, 6)), False),
        "multi-scale, 1:1:6, coarse to fine (Figure 10)": (problem((1, 1, 6)), True),
    }
    figure, axes = plt.subplots(3, 3, figsize=(12, 8), sharex=True, layout="constrained")
    for column, (title, (asked, fine)) in enumerate(searches.items()):
        described = cache(lambda candidate, asked=asked: shape(asked, candidate))
        history = evolve(asked, 0, fine=fine).history
        iterations = [moment.iteration / 1e3 for moment in history]
        values = np.array([described(moment.candidate) for moment in history])
        names = ("layers", "GFLOPs at 224x224", "parameters (M)")
        for row, name in enumerate(names):
            axis = axes[row][column]
            for stage in range(2, 6):
                axis.plot(iterations, values[:, row, stage - 1], label=f"C{stage}")
            axis.spines[["top", "right"]].set_visible(False)
            axis.set_ylim(bottom=0)
            if column == 0:
                axis.set_ylabel(name)
        axes[0][column].set_title(title, fontsize=10)
        axes[2][column].set_xlabel("iterations (thousands)")
    axes[0][0].legend(frameon=False)
    figure.savefig(folder / "course.svg", metadata={"Date": None})


HEAD = """# The paper's ablations, repeated

`python benchmarks/ablations.py --seeds {seeds} --random {count} --docs docs` prints this page.
Nothing is trained: it compares what the searches find with what the paper printed. 4.4 GFLOPs at
224x224, at most 91 layers and, but for the single scale, 5 pairs of blocks a stage; the space
`resnet` has one row a stage, the paper's could split deep ones.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--random", type=int, default=200, help="random networks of Appendix F")
    parser.add_argument("--docs", type=Path, help="folder for ablations.md and course.svg")
    options = parser.parse_args()
    random_text, _ = random_networks(options.random)
    page = "\n".join(
        [
            HEAD.format(seeds=options.seeds, count=options.random),
            "## Table 8: weights of the scales",
            "",
            table_8(options.seeds),
            "",
            "The last row is Table 4's single-scale search, here with up to 10 pairs a stage.",
            "",
            "## Table 4: coarse against coarse to fine",
            "",
            strategies(options.seeds),
            "",
            "## Appendix F: random networks",
            "",
            random_text,
            "",
            "## Figures 8 to 10: the course of the search",
            "",
            "![Layers, FLOPs and parameters of each stage during three searches](course.svg)",
            "",
        ]
    )
    print(page)
    if options.docs:
        (options.docs / "ablations.md").write_text(page, encoding="utf-8")
        course(options.docs)


if __name__ == "__main__":
    main()
