"""The closed-form entropy against the mean of real forward passes. Needs the extra `torch`.

    python benchmarks/entropy_vs_forward.py --passes 32 --resolution 192 --random 20

A stage agrees where the difference is within 3 standard errors of the mean + 0.3 %.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np

from hwnas import costs
from hwnas.architecture import Architecture, lower, spaces, zoo
from hwnas.scores.entropy import EntropyScore
from hwnas.scores.forward import forward_entropy

NAMES = ("maedet-s", "maedet-m", "maedet-l", "maedet-single-scale")
MOST_FLOPS = 1e9  # random networks above this would only make the run longer


def networks(resolution: int, count: int) -> Iterator[tuple[str, Architecture]]:
    for name in NAMES:
        yield name, zoo.get(name)
    for name in spaces.SHIPPED:
        space, rng, found = spaces.load(name), np.random.default_rng(1), 0
        while found < count:
            architecture = space.decode(space.sample(rng))
            if costs.flops(lower(architecture, (resolution, resolution))) < MOST_FLOPS:
                found += 1
                yield f"{name} {found}", architecture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passes", type=int, default=32)
    parser.add_argument("--resolution", type=int, default=192)
    parser.add_argument("--random", type=int, default=20)
    options = parser.parse_args()
    size = (options.resolution, options.resolution)
    score = EntropyScore(resolution=size)
    closed_scores, forward_scores, agreed, stages = [], [], 0, 0
    print("| network | closed form | mean of forward passes | standard error | agree |")
    print("|---|---|---|---|---|")
    for number, (name, architecture) in enumerate(networks(options.resolution, options.random)):
        closed = np.array(score(architecture).stages)
        # Fresh seeds for every network: the same images would err for all in the same way.
        seeds = range(number * options.passes, (number + 1) * options.passes)
        passes = np.array([forward_entropy(architecture, size, seed) for seed in seeds])
        mean, error = passes.mean(axis=0), passes.std(axis=0, ddof=1) / options.passes**0.5
        within = np.abs(closed - mean) <= 3 * error + 0.003 * np.abs(mean)
        agreed, stages = agreed + int(within.sum()), stages + len(within)
        closed_scores.append(float(np.dot(score.alpha, closed)))
        forward_scores.append(float(np.dot(score.alpha, mean)))
        cells = (" ".join(f"{v:.3f}" for v in values) for values in (closed, mean, error))
        print(f"| {name} | {' | '.join(cells)} | {int(within.sum())} of 5 |", flush=True)
    from scipy.stats import spearmanr

    correlation = spearmanr(closed_scores[len(NAMES) :], forward_scores[len(NAMES) :]).statistic
    print(f"\n{agreed} of {stages} stages agree; Spearman over random networks {correlation:.5f}")


if __name__ == "__main__":
    main()
