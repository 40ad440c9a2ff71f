"""Mobile backbones under the budgets of the paper's Table 6, beside MobileNetV2.

    python benchmarks/mobile.py              searched, proven, predicted on a Pixel 2
    python benchmarks/mobile.py --measure    also timed on this machine's processor

FLOPs are counted in mmcv's way, at 320x320, as the paper's are. Each network is the proven optimum
of its space under both budgets. MobileNetV2 is timed and counted with its last 1x1 convolution, as
the paper does; the spaces have none.
"""

from __future__ import annotations

import argparse
from functools import partial

from hwnas import costs
from hwnas.architecture import Architecture, lower, spaces, zoo
from hwnas.budgets.oracles import LayerSum, graph_oracle
from hwnas.devices import spec
from hwnas.scores.entropy import EntropyScore
from hwnas.searchers.certified import Solver
from hwnas.searchers.evaluator import Evaluator
from hwnas.workflows.measure import measure
from hwnas.workflows.predict import predict

SIZE = (320, 320)
RULE = "mobilenetv2"
PHONE = "pixel2-cpu-fp32"
BUDGETS = {
    "MB-S": ("mobile", 201e6, 0.6e6),
    "MB-M": ("mobile", 645e6, 2.0e6),
    "MB-M-SE": ("mobile-se", 647e6, 2.3e6),
}
PAPER_FPS = {
    "mobilenetv2-0.5": 13.5,
    "mobilenetv2-1.0": 6.6,
    "MB-S": 13.8,
    "MB-M": 6.3,
    "MB-M-SE": 5.6,
}
"""Table 6: whole detectors (SSDLite) on a Pixel 2's processor, FP32, one image."""

ROUNDS = 3


def found(name: str) -> Architecture:
    """Return the backbone of highest entropy under the budgets of that name."""
    space_name, flops, params = BUDGETS[name]
    space = spaces.load(space_name)
    oracles = [
        LayerSum(partial(costs.mmcv_layer, rule=RULE), SIZE),
        LayerSum(costs.params, SIZE),
        graph_oracle("layers", SIZE),
    ]
    evaluator = Evaluator(space, EntropyScore(), oracles, [flops, params, space.layers])
    certificate = Solver(evaluator).solve()
    assert certificate.proven, f"{name}: not proven, the gap is {certificate.gap:.2%}"
    return space.decode(certificate.candidate, name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", action="store_true", help="time on this machine's processor")
    parser.add_argument("--rows", action="store_true", help="print the rows of what was found")
    options = parser.parse_args()
    networks = [zoo.get(name) for name in PAPER_FPS if name not in BUDGETS]
    networks += [found(name) for name in BUDGETS]
    phone = spec.load(PHONE)
    predicted = {n.name: predict(lower(n, SIZE), phone).prediction for n in networks}
    measured: dict[str, list[float]] = {}
    contended = 0
    for _ in range(ROUNDS if options.measure else 0):
        for network in networks:  # in turns, so that a slow spell meets all of them
            result = measure(network, "cpu", SIZE, seconds=1.0)
            measured.setdefault(network.name, []).append(result["latency_s"])
            contended += result["contended"]
    base = "mobilenetv2-1.0"
    head = ["network", "entropy", "FLOPs", "params", "layers", "Pixel 2, predicted (90 %)"]
    head += [f"speed over {base}", "the same in the paper"]
    head += ["this processor, measured", f"speed over {base}"] * options.measure
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for network in networks:
        graph, p = lower(network, SIZE), predicted[network.name]
        low, high = p.interval_s
        cells = [
            network.name,
            f"{EntropyScore()(network).score:.1f}",
            f"{costs.mmcv_flops(graph, RULE) / 1e6:.0f} M",
            f"{costs.total_params(graph) / 1e6:.2f} M",
            str(costs.main_layers(graph)),
            f"{p.latency_s * 1e3:.1f} ms ({low * 1e3:.1f} to {high * 1e3:.1f})",
            f"{predicted[base].latency_s / p.latency_s:.2f}",
            f"{PAPER_FPS[network.name] / PAPER_FPS[base]:.2f}",
        ]
        if options.measure:
            best = {name: min(seconds) for name, seconds in measured.items()}
            most = max(measured[network.name])
            cells.append(f"{best[network.name] * 1e3:.2f} ms (to {most * 1e3:.2f})")
            cells.append(f"{best[base] / best[network.name]:.2f}")
        print("| " + " | ".join(cells) + " |")
    if options.measure:
        print(f"\n{contended} of {ROUNDS * len(networks)} measurements were contended")
    if options.rows:
        for network in networks[-len(BUDGETS) :]:
            rows = [
                f"{r.family} k{r.kernel} out {r.out} s{r.stride} x{r.inner} blocks {r.depth}"
                for r in network.rows
            ]
            print(f"\n{network.name}: stem {network.stem.channels}; " + "; ".join(rows))


if __name__ == "__main__":
    main()
