"""What every block family keeps to: the same checks on each, inherited by a class per family.

A subclass names the family and how its rows read in a space; everything else follows from the
layers that the family makes.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from small_spaces import everything
from test_onnx import executed, predicted

from hwnas import costs
from hwnas.architecture import Architecture, from_json, lower, main_path, spaces
from hwnas.architecture.builder import GraphBuilder
from hwnas.architecture.families import family
from hwnas.architecture.graph import Graph
from hwnas.architecture.spaces import Space
from hwnas.budgets.oracles import LayerSum, graph_oracle
from hwnas.devices import spec
from hwnas.errors import UsageError
from hwnas.latency.oracle import LatencyOracle
from hwnas.lowering.fusing import fuse
from hwnas.lowering.kernels import Fusion, Kernel
from hwnas.lowering.onnx_reader import of_model
from hwnas.lowering.onnx_writer import to_onnx
from hwnas.lowering.torch_writer import to_source, to_torch
from hwnas.lowering.weights import he_normal
from hwnas.scores.entropy import EntropyScore
from hwnas.scores.forward import forward_entropy
from hwnas.searchers.certified import Solver
from hwnas.searchers.evaluator import Evaluator
from hwnas.searchers.fragments import row_fragments
from hwnas.searchers.mutation import DRAWS, MUTATIONS
from hwnas.workflows.predict import load_predictor

torch = pytest.importorskip("torch")

SIZE = (128, 160)
DEVICES = ("v100-trt-fp16", "pixel2-cpu-fp32")
SEEDS = range(4)


class Nominal:
    """A predictor without a device: every kernel takes a time that its sizes tell apart."""

    constant_s = 1e-4

    def table(self, kernel: Kernel, where: Any = None) -> Any:
        """Return the made-up seconds of a kernel."""
        into, out, groups = kernel.in_channels, kernel.out_channels, kernel.groups
        work = (into // groups) * out * kernel.out_size[0] * kernel.kernel[0] ** 2 + 7 * into
        seconds = 1e-9 * work * (1 + len(kernel.op) % 5 + 0.5 * kernel.fused_add) + 1e-6
        if kernel.unless_multiple:
            seconds = np.where(np.asarray(into) % kernel.unless_multiple == 0, 0.0, seconds)
        return np.asarray(seconds)


def fusions() -> list[Fusion]:
    """Return what the runtimes fuse; that of a processor with blocks of 8 and of 16 channels."""
    blocks = [replace(spec.load("cpu").fusion, block=block) for block in (8, 16)]
    return [*(spec.load(device).fusion for device in DEVICES), *blocks]


class FamilyContract:
    """Twenty checks of a family, with the options that a subclass states.

    Attributes:
        name: the family's.
        inner: how a row of a space gives the inner size.
        options: further lines of each row: activation, groups, se.
        stem: further lines of the stem.
    """

    name: str
    inner: str = "mid = [16, 32]"
    options: str = ""
    stem: str = ""

    # What is checked: a small space, some of its architectures, and one wide enough for statistics.

    @cached_property
    def space(self) -> Space:
        """A space of some hundred architectures."""
        rows = (
            (2, [3], [32, 48], [1, 1]),
            (3, [3, 5], [32, 48], [1, 2]),
            (4, [5], [48, 64], [1, 1]),
            (5, [3, 5], [64, 64], [1, 2]),
        )
        return self._space(16, "[16, 32]", self.inner, rows)

    @cached_property
    def wide(self) -> Architecture:
        """An architecture whose layers are wide enough for the closed form of finite width."""
        inner = self.inner.replace("[16, 32]", "[48, 48]")
        rows = tuple((stage, [3], [64, 64], [2, 2]) for stage in (2, 3, 4, 5))
        space = self._space(16, "[64, 64]", inner, rows)
        return space.decode(space.narrowest())

    def _space(self, step: int, stem: str, inner: str, rows: Any) -> Space:
        pooled = "max_pool = true" in self.stem
        text = f'schema = "hwnas.space/1"\nname = "small"\nwidth_step = {step}\nlayers = 91\n'
        text += f"[stem]\nchannels = {stem}\n{self.stem}\n"
        for stage, kernels, out, blocks in rows:
            stride = 1 if pooled and stage == 2 else 2
            text += (
                f'[[rows]]\nstage = {stage}\nfamily = "{self.name}"\nstride = {stride}\n'
                f"kernels = {kernels}\nout = {out}\ngrowth = [1.0, 3.0]\n{inner}\n"
                f"blocks = {blocks}\n{self.options}\n"
            )
        return spaces.parse(text, self.name)

    def architectures(self) -> list[Architecture]:
        """Return some random architectures of the space."""
        return [self.space.decode(self.space.sample(np.random.default_rng(s))) for s in SEEDS]

    def graphs(self) -> list[Graph]:
        """Return their graphs."""
        return [lower(architecture, SIZE) for architecture in self.architectures()]

    # The family and its files.

    def test_it_is_found_by_its_name(self) -> None:
        blocks = family(self.name)
        assert blocks.name == self.name
        assert blocks.inner in self.inner
        assert all(self.name == row.family for row in self.architectures()[0].rows)

    def test_an_architecture_survives_json(self) -> None:
        for architecture in self.architectures():
            assert from_json(architecture.to_json()) == architecture

    def test_an_architecture_is_found_in_its_space_again(self) -> None:
        for architecture in self.architectures():
            assert self.space.decode(self.space.encode(architecture)) == architecture
        with pytest.raises(UsageError, match="families and strides must agree"):
            spaces.load("mobile").encode(architecture)

    # The graph.

    def test_feature_maps_halve_stage_by_stage(self) -> None:
        for graph in self.graphs():
            sizes = {stage: layer.out_size for stage, layer in graph.outputs().items()}
            assert sizes == {2: (32, 40), 3: (16, 20), 4: (8, 10), 5: (4, 5)}

    def test_every_layer_reads_what_was_written(self) -> None:
        for graph in self.graphs():
            for i, layer in enumerate(graph.layers):
                for source in layer.inputs:
                    assert source < i
                before = graph.layers[layer.inputs[0]] if layer.inputs[0] >= 0 else None
                assert layer.in_channels == (before.out_channels if before else 3)
                assert layer.in_size == (before.out_size if before else SIZE)
                if layer.op == "add":
                    a, b = (graph.layers[source] for source in layer.inputs)
                    assert (a.out_channels, a.out_size) == (b.out_channels, b.out_size)

    def test_the_plain_network_is_a_chain(self) -> None:
        for graph in self.graphs():
            path = [layer for layer, _ in main_path(graph)]
            assert costs.main_layers(graph) == len(path)
            for before, layer in itertools.pairwise(path):
                assert layer.in_channels == before.out_channels

    def test_kernels_larger_than_their_map_are_refused(self) -> None:
        wide = self.space.decode(max(everything(self.space), key=lambda c: (c[-1][0], c[-1][3])))
        lower(wide, (64, 64))
        with pytest.raises(UsageError, match="larger than its feature map"):
            lower(wide, (32, 32))

    # Costs.

    def test_parameters_are_those_of_the_torch_module(self) -> None:
        for architecture, graph in zip(self.architectures(), self.graphs(), strict=True):
            counted = sum(p.numel() for p in to_torch(architecture).parameters())
            assert costs.total_params(graph) == counted

    def test_flops_are_those_that_hooks_count(self) -> None:
        def count(module: Any, inputs: Any, output: Any) -> None:
            each = math.prod(module.weight.shape[1:])
            counted.append(each * output.numel())

        for architecture, graph in zip(self.architectures(), self.graphs(), strict=True):
            counted: list[int] = []
            backbone = to_torch(architecture).eval()
            for module in backbone.modules():
                if isinstance(module, torch.nn.Conv2d):
                    module.register_forward_hook(count)
            with torch.no_grad():
                backbone(torch.zeros(1, 3, *SIZE))
            assert costs.flops(graph) == sum(counted)

    def test_blocks_on_all_widths_cost_what_each_costs(self) -> None:
        blocks = family(self.name)
        for fragments in row_fragments(self.space, SIZE, 1):
            for f in fragments:
                like = f.row.row((f.kind, f.row.outs[0], f.inners[0], f.row.depths[0]))
                shape = (len(f.ins), len(f.inners), len(f.row.outs))
                for formula in (costs.macs, costs.params, costs.elements):
                    table = np.broadcast_to(sum(map(formula, f.first.layers)), shape)
                    for i, m, o in np.ndindex(shape):
                        b = GraphBuilder(f.ins[i], f.first.size)
                        options = replace(like.options(0), out=f.row.outs[o], inner=f.inners[m])
                        blocks.block(b, b.input, options)
                        assert table[i, m, o] == sum(map(formula, b.layers))

    def test_tables_add_up_to_the_graph(self) -> None:
        quantities = ("flops", "params", "layers", "memory")
        oracles = [graph_oracle(quantity, SIZE) for quantity in quantities]
        evaluator = Evaluator(self.space, EntropyScore(), oracles, [math.inf] * len(oracles))
        for architecture, graph in zip(self.architectures(), self.graphs(), strict=True):
            candidate = self.space.encode(architecture)
            expected = [oracle.cost(graph) for oracle in oracles]
            assert evaluator.costs(candidate) == pytest.approx(expected, rel=1e-12)

    # The torch module and the ONNX file.

    def test_onnx_computes_what_torch_computes(self) -> None:
        import onnxruntime

        from hwnas.lowering.torch_backbone import load_arrays

        rng = np.random.default_rng(0)
        architecture, graph = self.architectures()[0], self.graphs()[0]
        weights = he_normal(graph, 0)
        for key, value in weights.items():  # statistics that a folding error would show in
            if not key.endswith("conv.weight"):
                noise = np.abs(rng.normal(0, 0.1, value.shape))
                weights[key] = value + noise.astype(np.float32)
        backbone = to_torch(architecture).eval()
        load_arrays(backbone, weights)
        images = rng.standard_normal((1, 3, *SIZE)).astype(np.float32)
        with torch.no_grad():
            expected = [m.numpy() for m in backbone(torch.from_numpy(images))]
        for fold_norm in (True, False):
            model = to_onnx(graph, weights, fold_norm=fold_norm)
            onnx.checker.check_model(model, full_check=True)
            session = onnxruntime.InferenceSession(
                model.SerializeToString(), providers=["CPUExecutionProvider"]
            )
            for ours, theirs in zip(session.run(None, {"images": images}), expected, strict=True):
                scale = float(np.abs(theirs).max())
                np.testing.assert_allclose(ours / scale, theirs / scale, atol=1e-4)

    def test_the_module_trains(self) -> None:
        backbone = to_torch(self.architectures()[1]).train()
        loss = sum(m.square().mean() for m in backbone(torch.randn(2, 3, 64, 64)))
        loss.backward()
        for parameter in backbone.parameters():
            assert parameter.grad is not None
            assert bool(parameter.grad.isfinite().all())

    def test_the_source_builds_the_same_module(self) -> None:
        architecture = self.architectures()[2]
        source = to_source(architecture)
        assert "import hwnas" not in source
        assert "from hwnas" not in source
        names: dict[str, Any] = {"__name__": "net"}
        exec(compile(source, "net.py", "exec"), names)
        ours, theirs = to_torch(architecture).eval(), names["backbone"]().eval()
        theirs.load_state_dict(ours.state_dict())
        images = torch.randn(1, 3, *SIZE)
        with torch.no_grad():
            for a, b in zip(ours(images), theirs(images), strict=True):
                torch.testing.assert_close(a, b)

    # Kernels and latency.

    def test_the_file_reads_back_as_the_same_kernels(self) -> None:
        for graph in self.graphs():
            read = of_model(to_onnx(graph, he_normal(graph, 0)), "net.onnx")
            for name in (*DEVICES, "cpu"):
                fusion = spec.load(name).fusion
                ours, theirs = fuse(graph, fusion), fuse(read, fusion)
                assert sorted(map(str, ours)) == sorted(map(str, theirs))

    def test_onnxruntime_executes_the_predicted_kernels(self, tmp_path: Path) -> None:
        for graph in self.graphs()[:2]:
            model = to_onnx(graph, he_normal(graph, 0))
            assert predicted(graph) == executed(model, tmp_path)

    def test_every_kernel_has_a_predicted_time(self) -> None:
        for device in DEVICES:
            place = spec.load(device)
            oracle = LatencyOracle(load_predictor(place), place.fusion, SIZE, place.batch)
            for architecture in self.architectures():
                graph = lower(architecture, SIZE, batch=place.batch)
                times = [float(np.sum(part)) for part in oracle.parts(graph)]
                assert len(times) == len(fuse(graph, place.fusion))
                assert all(0 < seconds < 1 for seconds in times)

    def test_latency_is_a_sum_over_rows(self) -> None:
        for fusion in fusions():
            oracle = LatencyOracle(Nominal(), fusion, SIZE, 1)
            try:
                evaluator = Evaluator(self.space, EntropyScore(), [oracle], [math.inf])
            except UsageError as error:
                assert "groups of fewer channels" in str(error)  # some widths only fill blocks
                assert "groups" in self.options
                continue
            for architecture, graph in zip(self.architectures(), self.graphs(), strict=True):
                (total,) = evaluator.costs(self.space.encode(architecture))
                assert total == pytest.approx(oracle.cost(graph), rel=1e-12)

    # Entropy and search.

    def test_the_closed_form_is_the_mean_of_forward_passes(self) -> None:
        size, count = (96, 96), 12
        passes = np.array([forward_entropy(self.wide, size, seed) for seed in range(count)])
        mean, error = passes.mean(axis=0), passes.std(axis=0, ddof=1) / math.sqrt(count)
        expected = np.array(EntropyScore(resolution=size)(self.wide).stages)
        assert (np.abs(expected - mean)[1:] <= (4 * error + 0.005 * np.abs(mean))[1:]).all()

    def test_the_tables_score_what_the_graph_scores(self) -> None:
        for score in (EntropyScore(), EntropyScore(alpha=(1, 2, 0, 0, 3), resolution=(96, 160))):
            evaluator = Evaluator(self.space, score, [], [])
            for architecture in self.architectures():
                found = evaluator.evaluate(self.space.encode(architecture))
                assert found == pytest.approx(score(architecture).score, rel=1e-9)

    def test_mutants_stay_in_the_space_and_reach_every_gene(self) -> None:
        for make in MUTATIONS.values():
            mutate, rng = make(self.space), np.random.default_rng(0)
            parent, changed = self.space.narrowest(), set()
            for _ in range(1500):
                mutant = mutate(parent, iter(rng.random(DRAWS).tolist()), False)
                if self.space.problem(mutant):
                    assert "channels" in self.space.problem(mutant)
                    continue
                changed |= {
                    (row, gene)
                    for row, (a, b) in enumerate(zip(parent[1:], mutant[1:], strict=True))
                    for gene in range(4)
                    if a[gene] != b[gene]
                }
                parent = mutant
            expected = {
                (r, gene)
                for r, row in enumerate(self.space.rows)
                for gene, values in enumerate(row.choices())
                if len(values) > 1
            }
            assert changed == expected

    def test_the_certified_search_is_brute_force(self) -> None:
        oracles = [LayerSum(costs.macs, SIZE), LayerSum(costs.params, SIZE)]
        evaluator = Evaluator(
            self.space, EntropyScore(resolution=SIZE), oracles, [math.inf] * len(oracles)
        )
        candidates = everything(self.space)
        scores = np.array([evaluator.score_of(candidate) for candidate in candidates])
        spent = np.array([evaluator.costs(candidate) for candidate in candidates])
        solver, rng = Solver(evaluator), np.random.default_rng(0)
        for _ in range(6):
            limits = np.array([spent[rng.integers(len(spent)), k] for k in range(2)])
            within = (spent <= limits).all(axis=1)
            if not within.any():
                continue
            start = candidates[int(np.flatnonzero(within)[0])]
            found = solver.solve(limits.tolist(), start=start)
            assert found.proven
            assert found.score == pytest.approx(float(scores[within].max()), rel=1e-12)
