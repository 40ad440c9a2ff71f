"""This machine's processor by OpenVINO: whole networks and single kernels, timed with care."""

from __future__ import annotations

import math
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import HwnasError
from ..lowering import operators
from ..lowering.kernels import Fusion
from . import spec
from .local import CALM_RUNS, MOST_RUNS, WARM_UP, LocalRuntime, Run, random_input
from .measurement import KernelTiming, Measurement
from .registry import no_argument, refuse
from .spec import DeviceSpec

if TYPE_CHECKING:
    import openvino

FUSION = Fusion(input="reorder_input", output="reorder_output", rules="openvino")
"""Maps are kept channels last: the image is reordered on its way in, what is handed out on its
way out."""

WINDOW = 5
"""Runs that a kernel's time is averaged over, at most."""

ROUNDING = 0.01
"""Share of a kernel's time that rounding may change: longer windows change less."""

LEAST_S = 0.5e-6
"""What a kernel takes that the counter, in whole microseconds, does not notice."""

KERNELS = {
    "Convolution": "conv",
    "GroupConvolution": "conv",
    "FullyConnected": "matmul",
    "MatMul": "matmul",
    "AvgPool": "avg_pool",
    "MaxPool": "max_pool",
    "Interpolate": "resize",
    "Concat": "concat",
    "Split": "split",
    "VariadicSplit": "split",
    "StridedSlice": "slice",
    "Transpose": "transpose",
    "ShuffleChannels": "transpose",
    "MVN": "layer_norm",
    "Softmax": "softmax",
    "HardSigmoid": "hard_sigmoid",
    "HSwish": "hard_swish",
    "Swish": "silu",
    "Gelu": "gelu",
    "Clamp": "clip",
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Add": "add",
    "Multiply": "mul",
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceL2"), "reduce"),
}
"""Kernels by the types of node that OpenVINO's profile names."""

TIMED = frozenset(KERNELS) | {"Reorder"}
"""Types of node that run wherever they are left in the graph that was compiled."""

ELEMENTWISE = "Subgraph"
"""The type of a node that OpenVINO compiled for a chain of elementwise operators."""


class OpenVinoCpu(LocalRuntime):
    """Runs ONNX models on this machine's processor by OpenVINO, one request at a time, in FP32."""

    name = "OpenVINO"

    def version(self) -> str:
        """Return OpenVINO and its version."""
        return f"openvino {_core()[0].__version__.partition('-')[0]}"

    def fusion(self) -> Fusion:
        """Return what OpenVINO fuses."""
        return FUSION

    def load(self, model: bytes) -> Run:
        """Return what runs a model once; see `LocalRuntime`."""
        run: Run = self._request(model, counting=False)[1].infer
        return run

    def profile(
        self, model: bytes, *, seconds: float = 0.03
    ) -> tuple[list[KernelTiming], Measurement]:
        """Time each executed node by OpenVINO's counters, then the whole network without them.

        The samples of a kernel are means over windows of one to five runs: see `_samples`.

        Raises:
            HwnasError: OpenVINO does not run the model, or memory does not hold it.
        """
        compiled, request = self._request(model, counting=True)
        averages: dict[str, list[float]] = {}
        types: dict[str, str] = {}
        noticed: set[str] = set()

        def counted() -> None:
            request.infer()
            for node in request.profiling_info:
                average = node.real_time.total_seconds()
                averages.setdefault(node.node_name, []).append(average)
                types[node.node_name] = node.node_type
                # An average that rounds to nothing is told as "not run", as is what was fused.
                if node.status == node.Status.EXECUTED:
                    noticed.add(node.node_name)

        self._timed(counted, CALM_RUNS, MOST_RUNS, seconds)
        timed = {n: averages[n] for n in types if n in noticed or types[n] in TIMED}
        timings = _timings(compiled, timed, types)
        return timings, self._timed(self.load(model), CALM_RUNS, MOST_RUNS, seconds)

    def _request(
        self, model: bytes, counting: bool
    ) -> tuple[openvino.CompiledModel, openvino.InferRequest]:
        """Return a compiled model and a request that holds its input."""
        _, core = _core()
        properties = {
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": 1,
            "PERF_COUNT": counting,
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,
        }
        try:
            read = core.read_model(model)
            # Before anything is compiled for it: an input that memory does not hold ends here.
            inputs = [_input(tensor) for tensor in read.inputs]
            compiled = core.compile_model(read, "CPU", properties)
            request = compiled.create_infer_request()
            for position, values in enumerate(inputs):
                request.get_input_tensor(position).data[:] = values
        except HwnasError:
            raise
        except Exception as error:  # OpenVINO's errors are RuntimeErrors
            self._explain(error, "load")
        return compiled, request


def _input(tensor: openvino.Output) -> NDArray[np.float32]:
    shape = tensor.get_partial_shape()
    sizes = tuple(tensor.shape) if shape.is_static else (str(shape),)
    return random_input(tensor.any_name, sizes, tensor.get_element_type().get_type_name() == "f32")


@cache
def _core() -> tuple[Any, Any]:
    """Return the module and its one core, which loads the plugins."""
    import openvino

    return openvino, openvino.Core()


def _timings(
    compiled: openvino.CompiledModel, averages: dict[str, list[float]], types: dict[str, str]
) -> list[KernelTiming]:
    """Return the executed nodes in their order, named after the model's, warm-up left out.

    The graph that runs says what became of each node: its result's shape and layout, and the
    nodes of the model that were fused into it.
    """
    timings = []
    for node in compiled.get_runtime_model().get_ordered_ops():
        name = node.friendly_name
        if name not in averages:
            continue
        about = {key: str(value.value) for key, value in node.get_rt_info().items()}
        shape = tuple(node.outputs()[0].shape)
        seconds = _samples(averages[name])
        first = about.get("originalLayersNames", "").partition(",")[0]
        op = types[name]
        if op == "Reorder":
            # To channels last, or back to the layout that the outside knows.
            op = "ReorderOutput" if about.get("outputLayouts", "").startswith("ab") else op
            op = "ReorderInput" if op == "Reorder" else op
        elif op == ELEMENTWISE:
            op = _elementwise(first)
        elif op == "ReduceMean" and "global_avg_pool" in first:
            op = "global_avg_pool"
        timings.append(KernelTiming(first or name, KERNELS.get(op, op), shape, seconds))
    return timings


def _samples(averages: list[float]) -> tuple[float, ...]:
    """Return the mean time of each window of runs from a counter's readings after each run.

    The counter tells the average over all runs so far, warm-up included, in whole microseconds.
    The difference of two readings, each times its runs, is the time of the runs between them; the
    more of these, the less rounding matters. A disturbance spoils one window, not the others, so
    windows are as short as rounding allows: one run of a kernel that takes long.
    """
    rounding_s = 0.4e-6 * len(averages)  # of the last run's difference, one standard deviation
    window = min(WINDOW, max(1, math.ceil(rounding_s / (ROUNDING * max(min(averages), LEAST_S)))))
    ends = list(range(WARM_UP, len(averages), window))
    if len(ends) > 1 and len(averages) - ends[-1] < window:
        ends.pop()
    ends.append(len(averages))
    totals = [end * averages[end - 1] for end in ends]
    # Rounding may make the quickest kernels take less than nothing.
    return tuple(
        max((after - before) / (end - start), LEAST_S)
        for before, after, start, end in zip(totals, totals[1:], ends, ends[1:], strict=False)
    )


def _elementwise(name: str) -> str:
    """Return the operator of a compiled chain from the name of the node that it begins with."""
    stem = name.partition("/")[0].rstrip("0123456789")
    known = (*operators.SAME_SIZE, *operators.CANONICAL)
    ends = [op for op in known if stem.endswith(op)]
    return operators.canonical(max(ends, key=len)) if ends else "add"


def connections() -> list[str]:
    """Return the connections worth trying on this machine."""
    return ["openvino"]


def missing(argument: str) -> str:
    """Return what is missing, with the command that mends it; '' where nothing is."""
    if find_spec("openvino") is None:
        return "OpenVINO is not installed: pip install 'hwnas[openvino]'."
    return ""


def default(connection: str, argument: str) -> DeviceSpec:
    """Return what a short command means on it.

    Raises:
        UsageError: something stands behind the connection; only this machine's processor is meant.
    """
    no_argument(connection, argument)
    return spec.shipped("openvino")


def connect(device: DeviceSpec, argument: str) -> OpenVinoCpu:
    """Return the device.

    Raises:
        UsageError: OpenVINO does not run what the device asks for.
    """
    refuse(device)
    return OpenVinoCpu(device.threads)
