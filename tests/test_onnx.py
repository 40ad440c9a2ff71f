"""Any ONNX model: what is read, what a runtime makes of it, and what is said about the rest."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from hwnas.architecture import Graph, GraphBuilder, lower, zoo
from hwnas.cli import main
from hwnas.devices import spec
from hwnas.devices.measurement import KernelTiming
from hwnas.devices.onnxruntime_cpu import OnnxRuntimeCpu
from hwnas.errors import UsageError
from hwnas.latency.columns import CLASSES, kind_of
from hwnas.latency.roofline import Roofline
from hwnas.lowering import rules
from hwnas.lowering.fusing import fuse
from hwnas.lowering.kernels import Fusion, Kernel
from hwnas.lowering.onnx_reader import of_model, read
from hwnas.lowering.onnx_writer import to_onnx
from hwnas.lowering.weights import filler
from hwnas.profiling.probes import KINDS, probe, probes
from hwnas.profiling.profile import EXECUTED, from_record, match_graph, to_record
from hwnas.profiling.session import Sample, _measure
from hwnas.workflows.predict import load_predictor, predict

FUSION = OnnxRuntimeCpu().fusion()
SAME = {"scale": "mul", "shift": "add", "reorder_plain": "reorder_output"}


class Model:
    """Collects nodes; `images` is the input."""

    def __init__(self, *shape: int | str) -> None:
        self.shape = shape or (1, 3, 32, 32)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def const(self, value: Any) -> str:
        array = np.asarray(value)
        array = array if array.dtype == np.int64 else array.astype(np.float32)
        self.constants.append(numpy_helper.from_array(array, f"w{len(self.constants)}"))
        return self.constants[-1].name

    def ints(self, *values: int) -> str:
        return self.const(np.array(values, np.int64))

    def op(self, name: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        results = [f"t{len(self.nodes)}_{i}" for i in range(outputs)]
        node = helper.make_node(name, inputs, results, f"{name}{len(self.nodes)}", **attributes)
        self.nodes.append(node)
        return results if outputs > 1 else results[0]

    def conv(self, x: str, into: int, out: int, kernel: int = 1, groups: int = 1) -> str:
        weight = self.const(np.full((out, into // groups, kernel, kernel), 0.1))
        bias = self.const(np.zeros(out))
        pads = [kernel // 2] * 4
        return self.op("Conv", x, weight, bias, pads=pads, group=groups)

    def linear(self, x: str, into: int, out: int) -> str:
        product = self.op("MatMul", x, self.const(np.full((into, out), 0.1)))
        return self.op("Add", product, self.const(np.zeros(out)))

    def build(self, *outputs: str, opset: int = 17) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "model",
            [helper.make_tensor_value_info("images", 1, list(self.shape))],
            [helper.make_tensor_value_info(name, 1, None) for name in outputs],
            self.constants,
        )
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid("my.domain", 1)]
        model = helper.make_model(graph, ir_version=8, opset_imports=opsets)
        inferred: onnx.ModelProto = onnx.shape_inference.infer_shapes(model, data_prop=True)
        del inferred.graph.value_info[:]
        return inferred


def executed(model: onnx.ModelProto, folder: Path) -> Counter[str]:
    """Return the kernels that onnxruntime made of a model."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found: Counter[str] = Counter()
    for node in onnx.load(options.optimized_model_filepath).graph.node:
        if node.op_type in ("Reshape", "Flatten", "Squeeze", "Unsqueeze"):
            continue
        op = {"ReorderInput": "reorder_input", "ReorderOutput": "reorder_output"}.get(node.op_type)
        op = op or EXECUTED.get(node.op_type, node.op_type)
        if op == "div":
            op = "mul"
        if op == "conv":
            added = len(node.input) > 3 and node.input[3]
            op += " plain" * (FUSION.block > 0 and "nchwc" not in node.domain)
            op += " add" * bool(added)
        if any(attribute.name == "activation" for attribute in node.attribute):
            op += " activated"
        found[op] += 1
    return found


def predicted(graph: Graph) -> Counter[str]:
    found: Counter[str] = Counter()
    for kernel in fuse(graph, FUSION):
        op = SAME.get(kernel.op, kernel.op)
        if kernel.op == "conv":
            op += " plain" * kernel.plain + " add" * kernel.fused_add
        found[op + " activated" * kernel.activation] += 1
    return found


def activation(name: str) -> Callable[[Model, str], str]:
    def apply(m: Model, x: str) -> str:
        if name == "Clip":
            return m.op("Clip", x, m.const(0.0), m.const(6.0))
        if name == "Silu":
            return m.op("Mul", x, m.op("Sigmoid", x))
        if name == "Gelu":
            erf = m.op("Erf", m.op("Div", x, m.const(2**0.5)))
            both = m.op("Mul", x, m.op("Add", erf, m.const(1.0)))
            return m.op("Mul", both, m.const(0.5))
        if name == "GeluHalfFirst":
            half = m.op("Mul", x, m.const(0.5))
            erf = m.op("Erf", m.op("Div", x, m.const(2**0.5)))
            return m.op("Mul", half, m.op("Add", erf, m.const(1.0)))
        if name == "GeluHalfLast":
            erf = m.op("Erf", m.op("Div", x, m.const(2**0.5)))
            return m.op("Mul", x, m.op("Mul", m.op("Add", erf, m.const(1.0)), m.const(0.5)))
        return m.op(name, x)

    return apply


ACTIVATIONS = (
    "Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Elu", "Softplus",
    "Mish", "Silu", "Gelu", "GeluHalfFirst", "GeluHalfLast",
)  # fmt: skip


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("place", ["conv", "plain conv", "add", "plain add", "mul", "used twice"])
def test_where_an_activation_runs(name: str, place: str, tmp_path: Path) -> None:
    if (name, place) == ("Gelu", "mul"):
        pytest.skip("onnxruntime takes the product in front for one of GELU's own")
    m = Model()
    width = 30 if "plain" in place else 32
    x = m.conv("images", 3, width)
    y = m.conv(x, width, width)
    if "add" in place:
        y = m.op("Add", y, m.conv(x, width, width))
    elif place == "mul":
        y = m.op("Mul", y, m.conv(x, width, width))
    outputs = [m.conv(activation(name)(m, y), width, 32)]
    if place == "used twice":
        outputs.append(m.conv(y, width, 32))
    model = m.build(*outputs, opset=18)
    assert predicted(of_model(model, "m")) == executed(model, tmp_path)


def gated(m: Model, width: int, squeezed: int, pool: str) -> str:
    x = m.conv("images", 3, width)
    axes = {"axes": [2, 3]} if pool == "ReduceMean" else {}
    gate = m.op(pool, x, **axes)
    gate = m.op("Relu", m.conv(gate, width, squeezed))
    gate = m.op("Sigmoid", m.conv(gate, squeezed, width))
    return m.conv(m.op("Mul", x, gate), width, 32)


def sliced(m: Model, *bounds: int) -> list[str]:
    x = m.op("Relu", m.conv("images", 3, 32))
    pairs = zip(bounds[::2], bounds[1::2], strict=True)
    return [m.op("Slice", x, m.ints(a), m.ints(b), m.ints(1)) for a, b in pairs]


def shuffled(m: Model) -> str:
    x = m.op("Reshape", m.conv("images", 3, 32), m.ints(1, 2, 16, 32, 32))
    x = m.op("Transpose", x, perm=[0, 2, 1, 3, 4])
    return m.conv(m.op("Reshape", x, m.ints(1, 32, 32, 32)), 32, 32)


def resized(m: Model, mode: str, place: str, nearest: str, factor: float) -> str:
    x = m.conv("images", 3, 32)
    scales = m.const([1, 1, factor, factor])
    attributes = {"mode": mode, "coordinate_transformation_mode": place}
    y = m.op("Resize", x, "", scales, nearest_mode=nearest, **attributes)
    return m.conv(y, 32, 32)


def norm(m: Model, x: str, width: int = 64) -> str:
    return m.op("LayerNormalization", x, m.const(np.ones(width)), m.const(np.zeros(width)), axis=-1)


def norm_in_steps(m: Model) -> str:
    d = m.op("Sub", "images", m.op("ReduceMean", "images", axes=[-1]))
    variance = m.op("ReduceMean", m.op("Pow", d, m.const(2.0)), axes=[-1])
    y = m.op("Div", d, m.op("Sqrt", m.op("Add", variance, m.const(1e-6))))
    return m.op("Add", m.op("Mul", y, m.const(np.ones(64))), m.const(np.zeros(64)))


def attention(m: Model, form: str) -> str:
    def heads(x: str, order: list[int]) -> str:
        apart = m.op("Reshape", m.linear(x, 64, 64), m.ints(1, 50, 4, 16))
        return m.op("Transpose", apart, perm=order)

    q, v = heads("images", [0, 2, 1, 3]), heads("images", [0, 2, 1, 3])
    if form == "transposed apart":
        k = m.op("Transpose", heads("images", [0, 2, 1, 3]), perm=[0, 1, 3, 2])
    else:
        k = heads("images", [0, 2, 3, 1])
    if form == "scaled before":
        q = m.op("Mul", q, m.const(0.25))
    s = m.op("MatMul", q, k)
    if form == "scaled behind":
        s = m.op("Div", s, m.const(4.0))
    y = m.op("MatMul", m.op("Softmax", s, axis=-1), v)
    y = m.op("Reshape", m.op("Transpose", y, perm=[0, 2, 1, 3]), m.ints(1, 50, 64))
    return m.op("Add", "images", m.linear(y, 64, 64))


def packed_attention(m: Model) -> str:
    """Query, key and value from one product, as PyTorch's exporter writes it."""
    x = m.op("Reshape", m.linear("images", 64, 192), m.ints(1, 50, 3, 4, 16))
    x = m.op("Transpose", x, perm=[2, 0, 3, 1, 4])
    parts = [m.op("Slice", x, m.ints(i), m.ints(i + 1), m.ints(0)) for i in range(3)]
    q, k, v = (m.op("Squeeze", part, m.ints(0)) for part in parts)
    k = m.op("Transpose", k, perm=[0, 1, 3, 2])
    s = m.op("MatMul", m.op("Mul", q, m.const(0.5)), m.op("Mul", k, m.const(0.5)))
    return m.op("MatMul", m.op("Softmax", s, axis=-1), v)


def head(m: Model, last: str) -> str:
    x = m.op("Flatten", m.op("GlobalAveragePool", m.conv("images", 3, 32)))
    y = m.op("Gemm", x, m.const(np.ones((10, 32))), m.const(np.ones(10)), transB=1)
    return m.op(last, y) if last else y


def both(m: Model, op: str, width: int = 32) -> str:
    return m.op(op, m.conv("images", 3, width), m.conv("images", 3, width, 3))


CASES: dict[str, Callable[[Model], Any]] = {
    **{
        f"conv {a} to {b} groups {g}": lambda m, a=a, b=b, g=g: m.conv(
            m.conv(m.conv("images", 3, a), a, b, 3, g), b, 32
        )
        for a, b, g in (
            (4, 32, 1), (8, 32, 1), (12, 32, 1), (20, 20, 20), (18, 18, 18), (30, 32, 1),
            (32, 32, 2), (32, 32, 4), (64, 64, 4), (24, 48, 3), (24, 24, 2), (32, 32, 16),
        )
    },
    **{
        f"gate {w} {s} {pool}": lambda m, w=w, s=s, pool=pool: gated(m, w, s, pool)
        for w, s in ((32, 16), (24, 8), (20, 8), (30, 6), (32, 10))
        for pool in ("GlobalAveragePool", "ReduceMean")
    },
    **{
        f"{op} of {w}": lambda m, op=op, w=w: m.conv(both(m, op, w), w, 32)
        for op in ("Add", "Mul", "Sub", "Max")
        for w in (32, 20, 30)
    },
    **{
        f"concat of {w}": lambda m, w=w: m.conv(
            m.op("Concat", m.conv("images", 3, w), m.conv("images", 3, w), axis=1), 2 * w, 32
        )
        for w in (32, 16, 20)
    },
    **{
        f"{op} of {w}": lambda m, op=op, w=w: m.conv(
            m.op(op, m.conv("images", 3, w), kernel_shape=[3, 3], strides=[2, 2]), w, 32
        )
        for op in ("MaxPool", "AveragePool")
        for w in (32, 20)
    },
    **{
        f"resize {mode} {place} {nearest} {factor}": lambda m, arguments=(
            mode, place, nearest, factor,
        ): resized(m, *arguments)
        for mode, place, nearest, factor in (
            ("nearest", "asymmetric", "floor", 2.0),
            ("nearest", "asymmetric", "floor", 1.5),
            ("nearest", "half_pixel", "round_prefer_floor", 2.0),
            ("linear", "half_pixel", "floor", 2.0),
            ("linear", "align_corners", "floor", 2.0),
            ("linear", "pytorch_half_pixel", "floor", 2.0),
        )
    },
    "added map is used twice": lambda m: (lambda z: [m.conv(z, 32, 32), z])(both(m, "Add")),
    "an addition of additions": lambda m: (
        lambda u: m.conv(m.op("Add", m.op("Add", m.conv(u, 32, 32), u), u), 32, 32)
    )(m.conv("images", 3, 32)),
    "addition to one position": lambda m: m.conv(
        m.op(
            "Add",
            m.conv("images", 3, 32),
            m.conv(m.op("GlobalAveragePool", "images"), 3, 32),
        ),
        32,
        32,
    ),
    "normalisation by itself": lambda m: m.conv(
        m.op("BatchNormalization", both(m, "Mul"), *[m.const(np.ones(32)) for _ in range(4)]),
        32,
        32,
    ),
    "normalisation of a convolution": lambda m: m.op(
        "BatchNormalization", m.conv("images", 3, 32), *[m.const(np.ones(32)) for _ in range(4)]
    ),
    "constant factor of a convolution": lambda m: m.conv(
        m.op("Mul", m.conv("images", 3, 32), m.const(np.full((32, 1, 1), 2.0))), 32, 32
    ),
    "padding before a convolution": lambda m: m.conv(
        m.op("Pad", m.conv("images", 3, 32), m.ints(0, 0, 1, 1, 0, 0, 1, 1)), 32, 32
    ),
    "shuffle": shuffled,
    "channels last": lambda m: m.op("Transpose", m.conv("images", 3, 32), perm=[0, 2, 3, 1]),
    "split": lambda m: m.op(
        "Concat",
        *(lambda y, z: (m.conv(y, 16, 16), z))(
            *m.op("Split", m.conv("images", 3, 32), outputs=2, axis=1)
        ),
        axis=1,
    ),
    "slices that share out": lambda m: sliced(m, 0, 16, 16, 32),
    "one slice": lambda m: sliced(m, 0, 16),
    "transposed convolution": lambda m: m.op(
        "ConvTranspose", m.conv("images", 3, 32), m.const(np.ones((32, 32, 2, 2))), strides=[2, 2]
    ),
    **{f"head {a}": lambda m, a=a: head(m, a) for a in ("", "Relu", "Sigmoid", "HardSwish")},
}  # fmt: skip

ROWS: dict[str, Callable[[Model], Any]] = {
    "linear": lambda m: m.linear("images", 64, 32),
    "linear and relu": lambda m: m.op("Relu", m.linear("images", 64, 32)),
    "norm": lambda m: norm(m, "images"),
    "norm in steps": norm_in_steps,
    "norm of a sum": lambda m: norm(m, m.op("Add", "images", m.linear("images", 64, 64))),
    "norm of a sum that is used": lambda m: (
        lambda r: m.op("Add", r, m.linear(norm(m, r), 64, 64))
    )(m.op("Add", "images", m.linear("images", 64, 64))),
    **{
        f"attention {form}": lambda m, form=form: attention(m, form)
        for form in ("", "scaled before", "scaled behind", "transposed apart")
    },
    "packed attention": packed_attention,
    **{
        f"rows {name}": lambda m, name=name: m.linear(
            activation(name)(m, m.linear("images", 64, 128)), 128, 64
        )
        for name in ("Gelu", "GeluHalfFirst", "GeluHalfLast", "HardSwish", "Silu")
    },
    "one row": lambda m: m.linear(m.op("Gather", "images", m.const(np.int64(0)), axis=1), 64, 10),
}


@pytest.mark.parametrize("name", [*CASES, *ROWS])
def test_the_rules_are_what_onnxruntime_does(name: str, tmp_path: Path) -> None:
    m = Model() if name in CASES else Model(1, 50, 64)
    outputs = (CASES | ROWS)[name](m)
    model = m.build(*([outputs] if isinstance(outputs, str) else outputs))
    graph = of_model(model, "m")
    if "transposed convolution" in name:
        assert fuse(graph, FUSION)[-1].op == "conv_transpose"
        return
    assert predicted(graph) == executed(model, tmp_path)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from(KINDS))
def test_probes_run_and_read_back_as_predicted(tmp_path_factory: Any, seed: int, kind: str) -> None:
    graph = probe(kind, np.random.default_rng(seed))
    model = to_onnx(graph, filler(graph))
    assert predicted(graph) == executed(model, tmp_path_factory.mktemp("models"))
    back = of_model(model, "m")
    assert sorted(map(str, fuse(back, FUSION))) == sorted(map(str, fuse(graph, FUSION)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_measured_probe_has_a_time_for_every_kernel(kind: str) -> None:
    rng = np.random.default_rng(7)
    graph = next(g for name, g in probes(rng, most_flops=2e8) if kind in name)
    timings, _ = OnnxRuntimeCpu().profile(
        to_onnx(graph, filler(graph)).SerializeToString(), seconds=0.0
    )
    kernels = match_graph(graph, FUSION, timings)
    assert sorted(str(k) for k, _ in kernels) == sorted(map(str, fuse(graph, FUSION)))
    assert "other" not in {CLASSES[kind_of(kernel)] for kernel, _ in kernels}


def test_a_split_is_known_by_what_it_reads_where_a_runtime_tells_that() -> None:
    b = GraphBuilder(16, (8, 8))
    first, second = b.split(b.input, 2)
    b.output(b.add(first, second))
    sum_ = KernelTiming("sum", "add", (1, 8, 8, 8), (1e-6,))
    told = KernelTiming("part", "split", (1, 8, 8, 8), (1e-6,), ((1, 16, 8, 8),))
    kernels = match_graph(b.build(), Fusion(), [told, sum_])
    assert [kernel.op for kernel, _ in kernels] == ["split", "add"]
    untold = dataclasses.replace(told, in_shapes=())
    with pytest.raises(ValueError, match="the kernel split of layer"):
        match_graph(b.build(), Fusion(), [untold, sum_])


@pytest.mark.parametrize("seed", range(4))
def test_the_first_probes_run_every_class_of_kernel(seed: int) -> None:
    first = itertools.islice(probes(np.random.default_rng(seed)), 5)
    kernels = [kernel for _, graph in first for kernel in fuse(graph, FUSION)]
    # Pools are in the networks of the search spaces, and no known operator is `other`.
    assert {CLASSES[kind_of(k)] for k in kernels} >= set(CLASSES) - {"pool", "other"}
    products = [k for k in kernels if CLASSES[kind_of(k)] == "matmul"]
    assert {k.in_size[0] * k.in_size[1] > 1 for k in products} == {True, False}


def test_a_probe_is_kept_as_a_record() -> None:
    graph = probe("inverted", np.random.default_rng(0))
    sample = Sample(None, graph.size, 1, graph, "probe-inverted-0")
    record = _measure(OnnxRuntimeCpu(), FUSION, sample)
    assert record is not None
    assert from_record(json.loads(json.dumps(to_record(record)))) == record
    other_rules = dataclasses.replace(FUSION, rules="tensorrt", add=False)
    assert _measure(OnnxRuntimeCpu(), other_rules, sample) is None


@pytest.mark.parametrize("name", rules.names())
def test_rule_sets_name_operators_that_exist(name: str) -> None:
    found = rules.load(name)
    known = set(EXECUTED.values()) | {"scale", "shift", "matrix_transpose"}
    for field in dataclasses.fields(found):
        value = getattr(found, field.name)
        if isinstance(value, frozenset):
            assert value <= known, field.name
    for chain in found.chains:
        assert {step.split()[0] for step in chain.steps} <= known
        assert chain.kernel in known


def test_unknown_rules_are_an_error() -> None:
    graph = lower(zoo.get("mobilenetv2-0.5"))
    with pytest.raises(UsageError, match="known are common, onnxruntime, onnxruntime-basic, "):
        fuse(graph, Fusion(rules="tensort"))


def hwnas(capsys: Any, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        main(list(arguments))
    printed = capsys.readouterr()
    return int(exit_.value.code or 0), printed.out, printed.err


# What is said about sizes and operators that are not known.


def dynamic(*shape: int | str) -> onnx.ModelProto:
    m = Model(*shape)
    return m.build(m.op("Relu", m.conv("images", 3, 8, 3)))


@pytest.mark.parametrize(
    ("shape", "given", "message"),
    [
        (("N", 3, 32, 32), {}, "batch of the input 'images', 'N': --batch"),
        ((1, 3, "H", "W"), {}, "height of the input 'images', 'H': --resolution"),
        (("N", 3, "H", "W"), {"batch": 2}, "width of the input 'images', 'W': --resolution"),
        ((1, "C", 32, 32), {}, "channels of the input 'images', 'C': --dim C=SIZE"),
        ((1, 3, 32, 32), {"batch": 4}, "exported for the batch of the input 'images' of 1"),
        ((1, 3, 32, 32), {"dims": {"T": 4}}, "no open size 'T'; its open sizes are: none"),
        (("N", 3, "S", "S"), {"batch": 1, "dims": {"s": 4}}, "'S': --resolution"),
    ],
)
def test_open_sizes_are_asked_for_by_name(shape: Any, given: Any, message: str) -> None:
    with pytest.raises(UsageError, match=r"m\.onnx") as error:
        of_model(dynamic(*shape), "m.onnx", **given)
    assert message in str(error.value)


def test_open_sizes_can_be_given() -> None:
    graph = of_model(dynamic("N", 3, "S", "S"), "m", batch=2, dims={"S": 40})
    assert (graph.batch, graph.size) == (2, (40, 40))
    graph = of_model(dynamic("N", 3, "H", "W"), "m", (40, 48), 2)
    assert graph.layers[0].out_size == (40, 48)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([("Add", "x c", "a"), ("Relu", "a", "b"), ("Relu", "b", "c")], "input 'c'"),
        ([("Add", "x c", "c")], "input 'c'"),
        ([("Relu", "x", "a"), ("Relu", "nowhere", "c")], "input 'nowhere'"),
        ([("Relu", "x", "a")], "output 'c'"),
    ],
    ids=["cyclic", "fed by itself", "disconnected", "open end"],
)
def test_a_model_whose_nodes_do_not_follow_each_other_is_refused(
    nodes: Any, message: str, tmp_path: Path
) -> None:
    made = [helper.make_node(op, inputs.split(), [out]) for op, inputs, out in nodes]
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3, 8, 8]) for name in "xc"
    ]
    graph = helper.make_graph(made, "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph), tmp_path / "m.onnx")
    with pytest.raises(UsageError, match=f"is not an ONNX model .*{message}"):
        read(tmp_path / "m.onnx")


def test_a_model_without_shapes_says_so() -> None:
    model = dynamic(1, 3, 32, 32)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(UsageError, match="'images' states no shape"):
        of_model(model, "m")
    model = dynamic(1, 3, 32, 32)
    del model.graph.input[:]
    with pytest.raises(UsageError, match="has no input"):
        of_model(model, "m")


def strange() -> onnx.ModelProto:
    m = Model(1, 3, 64, 64)
    x = m.conv("images", 3, 32, 3)
    m.nodes.append(helper.make_node("Wavelet", [x], ["odd"], "odd", domain="my.domain"))
    model = m.build(m.conv("odd", 32, 32), opset=17)
    stated = (("odd", model.graph.value_info), (model.graph.output[0].name, model.graph.output))
    for name, values in stated:
        del values[:]
        values.append(helper.make_tensor_value_info(name, 1, [1, 32, 64, 64]))
    return model


def test_an_unknown_operator_is_named_counted_and_estimated(tmp_path: Path, capsys: Any) -> None:
    onnx.save(strange(), tmp_path / "strange.onnx")
    graph = read(tmp_path / "strange.onnx")
    device = spec.load("v100-trt-fp16")
    prediction = predict(graph, device).prediction
    assert prediction.unlike == {"Wavelet": 1}
    (share,) = [
        seconds / prediction.latency_s
        for seconds, kernel in zip(prediction.kernels_s, fuse(graph, device.fusion), strict=True)
        if kernel.op == "Wavelet"
    ]
    assert 0 < share == pytest.approx(prediction.unlike_share)
    assert prediction.extrapolated_share >= share
    code, out, _ = hwnas(
        capsys, "predict", str(tmp_path / "strange.onnx"), "--device", "v100-trt-fp16"
    )
    assert code == 0
    assert f"answered by the roofline: 1 Wavelet; {share:.1%} of the time" in out


def test_predict_prints_every_layer_by_its_name(tmp_path: Path, capsys: Any) -> None:
    m = Model("N", 3, 64, 64)
    y = gated(m, 32, 8, "GlobalAveragePool")
    onnx.save(m.build(y), tmp_path / "gate.onnx")
    call = ["predict", str(tmp_path / "gate.onnx"), "--device", "v100-trt-fp32", "--json"]
    code, _, err = hwnas(capsys, *call)
    assert code == 2
    assert "the batch of the input 'images', 'N': --batch" in err
    document = json.loads(hwnas(capsys, *call, "--dim", "N=2")[1])
    assert document["batch"] == 2
    assert [(k["layer"], k["op"]) for k in document["kernels"]] == [
        ("Conv0", "conv"),
        ("GlobalAveragePool1", "global_avg_pool"),
        ("Conv2", "conv"),
        ("Conv4", "conv"),
        ("Mul6", "mul"),
        ("Conv7", "conv"),
    ]
    assert sum(k["latency_s"] for k in document["kernels"]) == pytest.approx(
        document["latency_s"], rel=1e-6
    )
    assert document["unlike"] == {"global_avg_pool": 1, "mul": 1}
    assert 0 < document["unlike_share"] < 1
    assert hwnas(capsys, *call, "--dim", "N=two")[0] == 2


# Kernels as rows for a predictor.


def test_operators_fall_into_physical_classes() -> None:
    def kind(op: str, **fields: Any) -> str:
        return CLASSES[kind_of(Kernel(op, 1, 32, (8, 8), 32, (8, 8))._replace(**fields))]

    assert kind("conv", groups=4, kernel=(3, 3)) == "grouped"
    assert kind("conv", groups=32) == "depthwise"
    assert kind("matmul") == "matmul"
    assert kind("mul") == kind("add") == kind("hard_swish") == "elementwise"
    assert kind("gelu") == kind("sigmoid") == "transcendental"
    assert kind("softmax") == kind("layer_norm") == "normalise"
    assert kind("global_avg_pool") == kind("reduce") == "reduce"
    assert kind("Wavelet") == "other"


def test_a_card_of_six_peaks_answers_for_every_class() -> None:
    six = CLASSES[:6]
    old = Roofline({name: 1e9 * (i + 1) for i, name in enumerate(six)}, 1e10, 1e-6, 4.0)
    assert all(old.peak(name) > 0 for name in CLASSES)
    predictor = load_predictor(spec.load("v100-trt-fp32"))
    product = Kernel("matmul", 1, 512, (1, 1), 512, (1, 1))
    convolution = product._replace(op="conv")
    answers = [predictor.predict([kernel]).latency_s for kernel in (product, convolution)]
    assert answers[0] == answers[1]


def test_products_of_two_maps_count_both() -> None:
    b = GraphBuilder(3, (64, 64))
    x = b.tokens(b.conv(b.input, 64, 16, stride=16, padded=False))
    b.output(b.attention(x, 2))
    (scores, _) = [k for k in fuse(b.build(), FUSION) if k.op == "matmul" and k.groups == 2]
    assert (scores.in_channels, scores.out_channels, scores.in_size) == (64, 2 * 16, (16, 1))
