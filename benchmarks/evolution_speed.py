"""Speed of evolution: distinct candidates scored a CPU second, and how it grows.

    python benchmarks/evolution_speed.py
    python benchmarks/evolution_speed.py --reference FOLDER --python PYTHON --seconds 60

FOLDER is a checkout of github.com/alibaba/lightweight-neural-architecture-search, the reference
toolbox, PYTHON an interpreter with what it needs (torch, modelscope, thop, addict). It searches
under the same budgets, FLOPs at 224x224 and layers, in its own space of bottleneck blocks from the
start that its configuration for detection ships, without the one block of stride 1: as shipped, and
with its own switch `no_create`, by which no weights are made.

A candidate counts once, where it was within the budgets and scored. Everything runs on one thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from hwnas.architecture import spaces
from hwnas.workflows.problem import Request, starting_point, understand
from hwnas.workflows.search import Settings

DEVICE = "v100-trt-fp16"
BUDGETS = ("flops=4.4G", "layers=91")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--reference", type=Path, metavar="FOLDER")
    parser.add_argument("--python", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--seconds", type=float, default=60.0, help="CPU time of the reference")
    parser.add_argument("--fast", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--measure-reference", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure_reference:
        measure_reference(options.reference, options.seconds, options.fast)
        return
    if options.reference:
        compare(options)
    else:
        grow(options.seeds)


def grow(seeds: int) -> None:
    """Print how the speed changes with depth, rows, population, budgets and length."""
    print("\n| | distinct candidates | CPU s to prepare | CPU s to search | candidates a CPU s |")
    print("|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, request, settings in _cases(Path(folder)):
            found = [ours(request, settings, seed) for seed in range(seeds)]
            count, prepared, searched = (
                statistics.median(column) for column in zip(*found, strict=True)
            )
            rate = statistics.median(count / spent for count, _, spent in found)
            print(
                f"| {name} | {count:,.0f} | {prepared:.2f} | {searched:.2f} | {rate:,.0f} |",
                flush=True,
            )


def _cases(folder: Path) -> Iterator[tuple[str, Request, Settings]]:
    """Yield what is measured: each differs from the first in one respect."""

    def request(budgets: tuple[str, ...] = BUDGETS, space: str = "resnet") -> Request:
        return Request(budgets, DEVICE, space, (224, 224))

    yield "4.4 GFLOPs, 91 layers; 4 rows, population 256, 96,000 iterations", request(), Settings()
    for rows in (6, 8, 12):
        space = _space(folder, rows, 5)
        yield f"{rows} rows", request(space=space), Settings()
    for pairs in (10, 20):
        budgets = (BUDGETS[0], f"layers={18 * pairs + 1}")
        space = _space(folder, 4, pairs)
        yield f"up to {pairs} pairs a row, {budgets[1]}", request(budgets, space), Settings()
    for population in (64, 1024):
        yield f"population {population:,}", request(), Settings(population=population)
    for iterations in (24_000, 384_000):
        yield f"{iterations:,} iterations", request(), Settings(iterations=iterations)
    for budgets in (
        (*BUDGETS, "params=26M"),
        (*BUDGETS, "params=26M", "latency=20ms"),
        (*BUDGETS, "memory=8MB"),
    ):
        yield ", ".join(budgets), request(budgets), Settings()
    yield "space mobile (7 rows), flops=400M", request(("flops=400M",), "mobile"), Settings()


def _space(folder: Path, rows: int, pairs: int) -> str:
    """Write a space like `resnet` with more rows, the later stages taking several, or deeper."""
    per_stage = [rows // 4 + (stage >= 4 - rows % 4) for stage in range(4)]
    text = 'schema = "hwnas.space/1"\nname = "x"\nwidth_step = 8\nlayers = 91\n'
    text += "[stem]\nchannels = [16, 128]\n"
    for stage, count in enumerate(per_stage, 2):
        for position in range(count):
            text += (
                f'[[rows]]\nstage = {stage}\nfamily = "bottleneck"\nstride = {2 - (position > 0)}\n'
                f"kernels = [3, 5]\nout = [32, 2048]\ngrowth = [1.0, 4.0]\nmid = [16, 512]\n"
                f"pairs = [1, {pairs}]\n"
            )
    path = folder / f"rows{rows}-pairs{pairs}.toml"
    path.write_text(text)
    assert len(spaces.load(str(path)).rows) == rows
    return str(path)


def ours(request: Request, settings: Settings, seed: int) -> tuple[int, float, float]:
    """Return the distinct candidates scored, and the CPU seconds to prepare and to search."""
    from hwnas.searchers.evolution import ITERATIONS, POPULATION, Evolution
    from hwnas.searchers.loop import Progress, run
    from hwnas.searchers.mutation import DEFAULT_MUTATION, MUTATIONS

    class Forget:
        def save(self, state: dict[str, Any]) -> None:
            """Keep nothing: what a checkpoint costs depends on the disk."""

    iterations = settings.iterations or ITERATIONS
    began = time.process_time()
    problem = understand(request)
    first = starting_point(problem, None)
    score = problem.evaluator.evaluate(first)
    assert score is not None
    sampler = Evolution(
        problem.space,
        MUTATIONS[DEFAULT_MUTATION](problem.space),
        (first, score),
        np.random.default_rng(seed),
        iterations,
        settings.population or POPULATION,
    )
    ready = time.process_time()
    run(sampler, problem.evaluator, iterations, Forget(), Progress())
    return sampler.evaluations, ready - began, time.process_time() - ready


def compare(options: argparse.Namespace) -> None:
    """Print our speed beside the reference toolbox's, measured in turns."""
    request = Request(BUDGETS, DEVICE, "resnet", (224, 224))
    print("| | distinct candidates | CPU s | candidates a CPU s | ours / reference |")
    print("|---|---|---|---|---|", flush=True)
    rates = []
    for name, fast in (("reference, as shipped", False), ("reference, `no_create`", True)):
        before = _our_rate(request, options.seeds, rates)
        command = [options.python, __file__, "--measure-reference"]
        command += ["--reference", str(options.reference), "--seconds", str(options.seconds)]
        command += ["--fast"] if fast else []
        told = subprocess.run(command, capture_output=True, text=True)
        if told.returncode:
            sys.exit(told.stderr)
        count, spent = json.loads(told.stdout.splitlines()[-1])
        after = _our_rate(request, options.seeds, rates)
        ratio = (before + after) / 2 / (count / spent)
        print(f"| {name} | {count:,} | {spent:.1f} | {count / spent:,.1f} | {ratio:,.0f} |")
    low, high = min(rates), max(rates)
    print(f"| ours, least to greatest of {len(rates)} | | | {low:,.0f} to {high:,.0f} | |")


def _our_rate(request: Request, seeds: int, rates: list[float]) -> float:
    """Return our median rate over the seeds, preparation included, and note all of them."""
    found = [ours(request, Settings(), seed) for seed in range(seeds)]
    new = [count / (prepared + searched) for count, prepared, searched in found]
    rates += new
    return statistics.median(new)


CONFIG = """
work_dir = {work_dir!r}
log_level = 'ERROR'
image_size = 224
model = dict(
    type='CnnNet',
    structure_info=[
        {{'class': 'ConvKXBNRELU', 'in': 3, 'out': 32, 's': 2, 'k': 3}},
        {{'class': 'SuperResK1KXK1', 'in': 32, 'out': 256, 's': 2, 'k': 3, 'L': 1, 'btn': 64}},
        {{'class': 'SuperResK1KXK1', 'in': 256, 'out': 512, 's': 2, 'k': 3, 'L': 1, 'btn': 128}},
        {{'class': 'SuperResK1KXK1', 'in': 512, 'out': 1024, 's': 2, 'k': 3, 'L': 1, 'btn': 256}},
        {{'class': 'SuperResK1KXK1', 'in': 1024, 'out': 2048, 's': 2, 'k': 3, 'L': 1, 'btn': 512}},
    ])
budgets = [dict(type='flops', budget=44e8), dict(type='layers', budget=91)]
score = dict(type='madnas', multi_block_ratio=[0, 0, 1, 1, 6])
space = dict(type='space_k1kxk1', image_size=224)
search = dict(minor_mutation=False, minor_iter=48000, popu_size=256, num_random_nets=96000,
              sync_size_ratio=1.0, num_network=1)
"""


class _TimeIsOver(BaseException):
    """Ends the reference's search loop."""


def measure_reference(folder: Path, seconds: float, fast: bool) -> None:
    """Run the reference's own search for so many CPU seconds; print candidates and seconds."""
    sys.path.insert(0, str(folder))
    import torch
    from tinynas.models.cnnnet import CnnNet
    from tinynas.searchers import build_searcher

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as work_dir:
        config = Path(work_dir) / "config.py"
        config.write_text(CONFIG.format(work_dir=work_dir))
        searcher = build_searcher(default_args={"cfg_file": str(config)})
        strategy = searcher.strategy
        if fast:
            strategy.super_model.build = lambda structure: CnnNet(structure, no_create=True)
        score, seen = strategy.do_compute_nas_score, set()

        def counted(model: Any) -> Any:
            if time.process_time() - began > seconds:
                raise _TimeIsOver
            seen.add(str(model.structure_info))
            return score(model)

        strategy.do_compute_nas_score = counted
        began = time.process_time()
        with suppress(_TimeIsOver):
            searcher.search_loop()
        print(json.dumps([len(seen), time.process_time() - began]))


if __name__ == "__main__":
    main()
