"""A GPU with TensorRT and CUDA that are not there, for tests of what drives them.

Every call is checked against the signatures that `benchmarks/tensorrt_signatures.py` recorded of
the real bindings: a name, an argument or a member of an enumeration that a release does not have
fails here as it does there. Behind the calls, engines are made of ONNX models, run with a clock of
their own, report their layers, and refuse what TensorRT refuses.
"""

from __future__ import annotations

import ctypes
import enum
import functools
import hashlib
import json
import math
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from hwnas.devices.tensorrt import layers

SIGNATURES = Path(__file__).parent / "tensorrt_signatures"
RELEASES = ("10.4.0", "10.16.1.11", "11.4.0.106")
CUDA_RELEASES = ("12.9.10", "13.5.0")
SUCCESS = "cudaSuccess"


@dataclass
class Gpu:
    """The hardware, and what has been done with it."""

    name: str = "NVIDIA A100-SXM4-40GB"
    capability: tuple[int, int] = (8, 0)
    multiprocessors: int = 108
    memory_bytes: int = 40 * 2**30
    used_bytes: int = 0
    clock_s: float = 0.0
    memory: dict[int, np.ndarray] = field(default_factory=dict)
    pinned: dict[int, Any] = field(default_factory=dict)
    runs: int = 0
    before_each_run: list[Callable[[], None]] = field(default_factory=list)
    error: str = SUCCESS  # what every call answers from now on: the GPU is lost
    capturing: list[Callable[[], None]] | None = None
    captures: bool = True
    horizontal: bool = False  # two convolutions of one input become one kernel
    computes: bool = False
    sm_mhz: list[int] = field(default_factory=lambda: [1410])
    refuses_to_run: str = ""  # what TensorRT logs where a run fails
    events: list[str] = field(default_factory=list)

    def do(self, work: Callable[[], None]) -> None:
        """Work now, or at the launch of the graph that is captured."""
        if self.capturing is None:
            work()
        else:
            self.capturing.append(work)


def record(kind: str, version: str) -> dict[str, Any]:
    """Return recorded signatures."""
    return json.loads((SIGNATURES / f"{kind}-{version}.json").read_text())


# TensorRT.


def checked(cls: type, name: str, signatures: dict[str, Any], module: Any) -> type:
    """Return a class whose public members are those of the record, checked at each call."""
    for member in [key for key in vars(cls) if not key.startswith("_") or key == "__init__"]:
        value = vars(cls)[member]
        if isinstance(value, type):
            continue  # an enumeration
        known = signatures.get(member)
        if known is None:
            if member != "__init__":
                delattr(cls, member)  # this release has none
        elif callable(value):
            setattr(cls, member, checked_call(value, f"{name}.{member}", known, module))

    def settable(self, key, value):
        if not key.startswith("_") and type(self).__module__ == cls.__module__:
            assert signatures.get(key) == "writable", f"{name}.{key} cannot be set"
        object.__setattr__(self, key, value)

    cls.__setattr__ = settable
    return cls


def checked_call(function, name: str, overloads, module):
    """Return a function that takes only what one of the overloads takes."""

    @functools.wraps(function)
    def call(self, *arguments, **named):
        for overload in overloads:
            names = [argument[0] for argument in overload]
            given = dict(zip(names, arguments, strict=False)) | named
            needed = {argument[0] for argument in overload if not argument[2]}
            fits = len(arguments) <= len(names) and needed <= set(given) <= set(names)
            if fits and all(_is(given[n], kind, module) for n, kind, _ in overload if n in given):
                return function(self, *arguments, **named)
        raise TypeError(f"{name} takes {overloads}, not {arguments} {named}")

    return call


def _is(value, kind: str, module) -> bool:
    plain = {"int": int, "str": str, "bool": bool, "tuple": tuple, "list": list,
             "buffer": (bytes, bytearray, memoryview), "Dims": tuple, "float": float}  # fmt: skip
    if kind in plain:
        return isinstance(value, plain[kind])
    found = module
    for part in kind.split("."):
        found = getattr(found, part, object)
    return isinstance(value, found)


def tensorrt(version: str, gpu: Gpu) -> types.ModuleType:
    """Return the module `tensorrt` of a release, on a GPU."""
    signatures = record("tensorrt", version)
    module = types.ModuleType("tensorrt")
    module.__version__ = version
    for name, members in signatures["enums"].items():
        if "." not in name:
            setattr(module, name, enum.IntEnum(name, members))
    module.nptype = lambda kind: (
        np.dtype({"FLOAT": "float32", "HALF": "float16", "INT8": "int8"}[kind.name]).type
    )
    strong = version.startswith("11")

    class ILogger:
        Severity = enum.IntEnum("Severity", signatures["enums"]["ILogger.Severity"])

        def __init__(self):
            object.__setattr__(self, "_made", True)

    class IProfiler:
        def __init__(self):
            object.__setattr__(self, "_made", True)

    class Dims(tuple):
        pass

    class ITensor:
        def __init__(self, name, shape):
            self._name, self._shape = name, shape

        name = property(lambda self: self._name)
        shape = property(lambda self: Dims(self._shape))

    class INetworkDefinition:
        def __init__(self):
            self._model = None

        @property
        def num_inputs(self):
            return len(self._model.graph.input) if self._model is not None else 0

        def get_input(self, index):
            tensor = self._model.graph.input[index]
            return ITensor(tensor.name, _shape(tensor))

    class ParserError:
        def __init__(self, text, node):
            self._text, self._node = text, node

        def desc(self):
            return self._text

        def node_name(self):
            return self._node.name if self._node is not None else ""

        def node_operator(self):
            return self._node.op_type if self._node is not None else ""

    class OnnxParser:
        def __init__(self, network, logger):
            assert logger._made
            self._network, self._errors = network, []

        @property
        def num_errors(self):
            return len(self._errors)

        def get_error(self, index):
            return self._errors[index]

        def parse(self, model, path=None):
            parsed = onnx.load_model_from_string(model)
            if len(model) < 4e6:
                onnx.checker.check_model(parsed)  # slow where weights are large
            for node in parsed.graph.node:
                if node.domain not in ("", "ai.onnx"):
                    told = f"No importer registered for op: {node.op_type}"
                    self._errors.append(ParserError(told, node))
            self._network._model = parsed
            return not self._errors

    class ITimingCache:
        def __init__(self, data):
            self._data = bytes(data)

        def serialize(self):
            return IHostMemory(self._data)

    class IHostMemory(bytes):
        @property
        def nbytes(self):
            return len(self)

    class IOptimizationProfile:
        def __init__(self):
            self._shapes = {}

        def set_shape(self, input, min, opt, max):
            self._shapes[input] = [list(min), list(opt), list(max)]

    class IBuilderConfig:
        def __init__(self):
            self._flags, self._profiles, self._cache = set(), [], None
            object.__setattr__(self, "profiling_verbosity", None)
            object.__setattr__(self, "max_aux_streams", -1)

        def set_flag(self, flag):
            self._flags.add(flag.name)

        def add_optimization_profile(self, profile):
            self._profiles.append(profile._shapes)
            return len(self._profiles) - 1

        def create_timing_cache(self, serialized_timing_cache):
            return ITimingCache(serialized_timing_cache)

        def set_timing_cache(self, cache, ignore_mismatch):
            ours = cache._data in (b"",) or cache._data.startswith(version.encode())
            if ours:
                self._cache = cache
            return ours

        def get_timing_cache(self):
            return self._cache

    class Builder:
        def __init__(self, logger):
            assert logger._made
            self._logger = logger

        def create_network(self, flags=0):
            creation = module.NetworkDefinitionCreationFlag
            network = INetworkDefinition()
            network._strong = strong or bool(flags & (1 << int(creation.STRONGLY_TYPED)))
            return network

        def create_builder_config(self):
            return IBuilderConfig()

        def create_optimization_profile(self):
            return IOptimizationProfile()

        def build_serialized_network(self, network, config):
            fail = refused(network._model, config._flags, network._strong, config._profiles)
            if gpu.memory_bytes < 1000:
                fail = "Error Code 2: OutOfMemory (Requested size was 88473600 bytes.)"
            if fail:
                self._logger.log(module.ILogger.Severity.ERROR, fail)
                return None
            assert config.max_aux_streams == 0
            assert config.profiling_verbosity == module.ProfilingVerbosity.DETAILED
            config._cache._data += f"{version}:{len(network._model.graph.node)};".encode()
            data = network._model.SerializeToString()
            plan = {
                "version": version,
                "capability": gpu.capability,
                "profiles": config._profiles,
                "flags": sorted(config._flags),
                "layers": executed(network._model, gpu.horizontal),
                "model": hashlib.sha256(data).hexdigest(),
            }
            gpu.memory_models = {**getattr(gpu, "memory_models", {}), plan["model"]: data}
            return IHostMemory(json.dumps(plan).encode())

    class Runtime:
        def __init__(self, logger):
            assert logger._made
            self._logger = logger

        def deserialize_cuda_engine(self, serialized_engine):
            plan = json.loads(serialized_engine)
            if plan["version"] != version:
                told = (
                    "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization "
                    "assertion stdVersionRead == kSERIALIZATION_VERSION failed.)"
                )
                self._logger.log(module.ILogger.Severity.ERROR, told)
                return None
            engine = ICudaEngine(plan)
            engine._logger = self._logger
            return engine

    class ICudaEngine:
        def __init__(self, plan):
            self._plan = plan
            self._model = onnx.load_model_from_string(gpu.memory_models[plan["model"]])
            graph = self._model.graph
            self._tensors = {t.name: t for t in (*graph.input, *graph.output)}

        @property
        def num_io_tensors(self):
            return len(self._tensors)

        @property
        def num_optimization_profiles(self):
            return max(1, len(self._plan["profiles"]))

        def get_tensor_name(self, index):
            return list(self._tensors)[index]

        def get_tensor_mode(self, name):
            inputs = [tensor.name for tensor in self._model.graph.input]
            return module.TensorIOMode.INPUT if name in inputs else module.TensorIOMode.OUTPUT

        def get_tensor_shape(self, name):
            return Dims(_shape(self._tensors[name]))

        def get_tensor_dtype(self, name):
            kind = self._tensors[name].type.tensor_type.elem_type
            return module.DataType["FLOAT" if kind == 1 else "HALF"]

        def get_tensor_profile_shape(self, name, profile_index):
            return [Dims(shape) for shape in self._plan["profiles"][profile_index][name]]

        def create_execution_context(self):
            return IExecutionContext(self)

        def create_engine_inspector(self):
            return EngineInspector(self)

    class EngineInspector:
        def __init__(self, engine):
            self._engine = engine
            object.__setattr__(self, "execution_context", None)

        def get_engine_information(self, format):
            assert format == module.LayerInformationFormat.JSON
            layers = [
                {"Name": layer["name"], "LayerType": layer["type"], "Metadata": layer["metadata"]}
                for layer in self._engine._plan["layers"]
            ]
            return json.dumps({"Layers": layers, "Bindings": list(self._engine._tensors)})

    class IExecutionContext:
        def __init__(self, engine):
            self._engine, self._addresses = engine, {}
            self._profile = 0
            self._shapes = {n: list(_shape(t)) for n, t in engine._tensors.items()}
            object.__setattr__(self, "profiler", None)

        def set_optimization_profile_async(self, profile_index, stream_handle):
            self._profile = profile_index
            return True

        def set_input_shape(self, name, shape):
            least, _, most = self._engine._plan["profiles"][self._profile][name]
            inside = all(a <= b <= c for a, b, c in zip(least, shape, most, strict=True))
            if inside:
                for known in self._shapes.values():
                    known[0] = shape[0]
            return inside

        def get_tensor_shape(self, name):
            return Dims(self._shapes[name])

        def set_tensor_address(self, name, memory):
            assert memory in gpu.memory, "not an address of the GPU"
            self._addresses[name] = memory
            return True

        def execute_async_v3(self, stream_handle):
            assert stream_handle == 7
            assert set(self._addresses) == set(self._engine._tensors), "a tensor has no address"
            for hook in gpu.before_each_run:
                hook()
            if gpu.refuses_to_run:
                log = self._engine._logger
                log.log(module.ILogger.Severity.ERROR, gpu.refuses_to_run)
                return False
            gpu.do(self._execute)
            return True

        def _execute(self):
            gpu.runs += 1
            if gpu.computes:
                self._compute()
            layers = self._engine._plan["layers"]
            scale = self._shapes[self._engine.get_tensor_name(0)][0]
            for layer in layers:
                seconds = layer["seconds"] * (scale if self._engine._plan["profiles"] else 1)
                gpu.clock_s += seconds
                if self.profiler is not None:
                    assert isinstance(self.profiler, module.IProfiler)
                    assert self.profiler._made
                    self.profiler.report_layer_time(layer["name"], seconds * 1e3)
            if gpu.capturing is None:
                gpu.clock_s += 1e-7 * len(layers)  # between launches; none in a graph

        def _compute(self):
            import onnxruntime

            model = self._engine._model
            session = onnxruntime.InferenceSession(model.SerializeToString())
            feeds = {t.name: self._array(t.name) for t in model.graph.input}
            outputs = [t.name for t in model.graph.output]
            for name, value in zip(outputs, session.run(outputs, feeds), strict=True):
                self._array(name)[...] = value

        def _array(self, name):
            kind = module.nptype(self._engine.get_tensor_dtype(name))
            return gpu.memory[self._addresses[name]].view(kind).reshape(self._shapes[name])

    made = dict(locals())
    for name, members in signatures["classes"].items():
        setattr(module, name, made[name])
        if name not in ("ILogger", "IProfiler", "IHostMemory"):
            made[name].__module__ = __name__
        if name != "IHostMemory":
            checked_members = dict(members)
            own_init = checked_members.get("__init__")
            if not own_init or own_init == [[]]:
                checked_members.pop("__init__", None)
            checked(made[name], name, checked_members, module)
    return module


def _shape(tensor) -> list[int]:
    return [-1 if d.dim_param else d.dim_value for d in tensor.type.tensor_type.shape.dim]


def refused(model, flags: set[str], strong: bool, profiles) -> str:
    """Return why TensorRT does not build a model; '' where it does."""
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    types_ = {t.name: t.data_type for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            zero = constants[node.input[2]]
            if zero.dtype != np.int8 or np.any(zero != 0):
                return f"{node.name}: only symmetric INT8 quantization is supported"
            if not strong and "INT8" not in flags:
                return f"{node.name}: layer requires INT8 but the builder's flag is not set"
            if not np.all(constants[node.input[1]] > 0):
                return f"{node.name}: scale must be positive"
        if node.op_type == "DequantizeLinear" and types_.get(node.input[0]) == 6:
            return f"{node.name}: INT32 bias cannot be dequantized"
    if any(-1 in _shape(t) for t in model.graph.input) and not profiles:
        return "Network has dynamic or shape inputs, but no optimization profile has been defined."
    return ""


def executed(model, horizontal: bool) -> list[dict[str, Any]]:
    """Return the layers that a model becomes, named as TensorRT names them."""
    known = layers._shapes(model)
    shapes = {name: [max(1, size) for size in shape] for name, shape in known.items()}
    groups: list[list[Any]] = []
    of: dict[str, list[Any]] = {}
    readers: dict[str, int] = {}
    for node in model.graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    producers = {name: node for node in model.graph.node for name in node.output}
    handed_out = {t.name for t in model.graph.output}

    def source(name):
        while name in producers and producers[name].op_type in ("Cast", "DequantizeLinear",
                                                                "QuantizeLinear"):  # fmt: skip
            name = producers[name].input[0]
        return name

    for node in model.graph.node:
        if node.op_type in ("Cast", "QuantizeLinear", "DequantizeLinear"):
            continue
        root = None
        if node.op_type in ("Relu", "Clip", "Add"):
            alone = [
                of[n] for n in node.input
                if n in of and readers[n] == 1 and n not in handed_out
                and of[n][0].op_type == "Conv"
            ]  # fmt: skip
            root = alone[-1] if alone else None
        twin = next(
            (g for g in groups if horizontal and node.op_type == "Conv"
             and g[-1].op_type == "Conv" and len(g) == 1
             and source(g[0].input[0]) == source(node.input[0])
             and list(shapes[g[0].output[0]])[2:] == list(shapes[node.output[0]])[2:]), None
        )  # fmt: skip
        if root is not None:
            root.append(node)
        elif twin is not None:
            twin.append(node)
            root = twin
        else:
            root = [node]
            groups.append(root)
        of[node.output[0]] = root
    made: list[dict[str, Any]] = []
    for group in groups:
        twins = [n.name for n in group if n.op_type == "Conv"]
        rest = [n.name if n.op_type == "Relu" else f"PWN({n.name})"
                for n in group if n.op_type != "Conv" or not twins]  # fmt: skip
        name = " + ".join(filter(None, [" || ".join(twins), *rest]))
        seconds = 0.0
        for node in group:
            out = math.prod(shapes[node.output[0]])
            weight = shapes.get(source(node.input[1]), [1, 1]) if node.op_type == "Conv" else [1, 1]
            seconds += 1e-6 + 2e-13 * out * math.prod(weight[1:])
        metadata = "\x1e".join(f"[ONNX Layer: {n.name}]" for n in group)
        if not made:
            made.append({"name": f"Reformatting CopyNode for Input Tensor 0 to {name}",
                           "type": "Reformat", "metadata": "", "seconds": 4e-6})  # fmt: skip
        made.append({"name": name, "type": "CaskConvolution" if twins else "PointWiseV2",
                       "metadata": metadata, "seconds": seconds})  # fmt: skip
        if any(n.output[0] in handed_out for n in group):
            made.append({"name": f"Reformatting CopyNode for Output Tensor 0 to {name}",
                           "type": "Reformat", "metadata": "", "seconds": 3e-6})  # fmt: skip
    return made


# CUDA, by cuda-bindings.


def cuda_runtime(version: str, gpu: Gpu) -> types.ModuleType:
    """Return the module `cuda.bindings.runtime` of a release, on a GPU."""
    signatures = record("cuda-bindings", version)
    module = types.ModuleType("cuda.bindings.runtime")
    for name, members in signatures["enums"].items():
        setattr(module, name, enum.IntEnum(name, members))
    for name, value in signatures["constants"].items():
        setattr(module, name, value)
    functions = _functions(module, gpu)
    for name, arguments in signatures["functions"].items():
        setattr(module, name, _checked_function(name, arguments, functions[name], module, gpu))
    return module


def _checked_function(name, arguments, function, module, gpu: Gpu):
    def call(*given):
        assert len(given) == len(arguments), f"{name} takes {arguments}"
        if gpu.error != SUCCESS and name != "cudaGetErrorString":
            return (module.cudaError_t[gpu.error], *([None] * (name not in NO_RESULT)))
        try:
            found = function(*given)
        except MemoryError:
            return module.cudaError_t.cudaErrorMemoryAllocation, None
        except RuntimeError as error:
            return module.cudaError_t[str(error)], None
        ok = module.cudaError_t.cudaSuccess
        return (ok,) if name in NO_RESULT else (ok, found)

    return call


NO_RESULT = (
    "cudaEventRecord", "cudaEventSynchronize", "cudaFree", "cudaFreeHost", "cudaGraphDestroy",
    "cudaGraphExecDestroy",
    "cudaGraphLaunch", "cudaMemcpyAsync", "cudaSetDevice", "cudaStreamBeginCapture",
    "cudaStreamSynchronize",
)  # fmt: skip


def _functions(module, gpu: Gpu) -> dict[str, Callable]:
    events: dict[int, float] = {}

    def malloc(size):
        return allocate(gpu, size)

    def malloc_host(size):
        buffer = (ctypes.c_uint8 * size)()
        gpu.pinned[ctypes.addressof(buffer)] = buffer
        return ctypes.addressof(buffer)

    def copy(target, source, size, kind, stream):
        def now():
            gpu.clock_s += size / 12e9
            into = kind == module.cudaMemcpyKind.cudaMemcpyHostToDevice
            device, host = (target, source) if into else (source, target)
            view = np.frombuffer(gpu.pinned[host], dtype=np.uint8)
            if into:
                gpu.memory[device][:] = view
            else:
                view[:] = gpu.memory[device]

        gpu.do(now)

    def event():
        events[len(events) + 1] = 0.0
        return len(events)

    def begin(stream, mode):
        gpu.capturing = []

    def end(stream):
        work, gpu.capturing = gpu.capturing, None
        if not gpu.captures:
            raise RuntimeError("cudaErrorStreamCaptureUnsupported")
        return work

    def launch(graph, stream):
        clock = gpu.clock_s
        for work in graph:
            work()
        gpu.clock_s -= 0.05 * (gpu.clock_s - clock)  # without the time between launches

    def free(address):
        gpu.used_bytes -= len(gpu.memory.pop(address))

    about = types.SimpleNamespace(
        name=gpu.name.encode() + b"\0\0", major=gpu.capability[0], minor=gpu.capability[1],
        multiProcessorCount=gpu.multiprocessors, totalGlobalMem=gpu.memory_bytes,
    )  # fmt: skip
    return {
        "cudaDeviceGetPCIBusId": lambda length, device: b"0000:3B:00.0\0",
        "cudaDriverGetVersion": lambda: 12040,
        "cudaEventCreate": event,
        "cudaEventElapsedTime": lambda start, stop: 1e3 * (events[stop] - events[start]),
        "cudaEventRecord": lambda event, stream: events.__setitem__(event, gpu.clock_s),
        "cudaEventSynchronize": lambda event: None,
        "cudaFree": free,
        "cudaFreeHost": lambda address: gpu.pinned.pop(address),
        "cudaGetDeviceProperties": lambda device: about,
        "cudaGetErrorString": lambda error: b"what happened",
        "cudaGraphDestroy": lambda graph: None,
        "cudaGraphExecDestroy": lambda graph: None,
        "cudaGraphInstantiate": lambda graph, flags: graph,
        "cudaGraphLaunch": launch,
        "cudaMalloc": malloc,
        "cudaMallocHost": malloc_host,
        "cudaMemcpyAsync": copy,
        "cudaSetDevice": lambda device: None,
        "cudaStreamBeginCapture": begin,
        "cudaStreamCreateWithFlags": lambda flags: 7,
        "cudaStreamEndCapture": end,
        "cudaStreamSynchronize": lambda stream: None,
    }


def allocate(gpu: Gpu, size: int) -> int:
    """Return the address of new memory."""
    if gpu.used_bytes + size > gpu.memory_bytes:
        raise MemoryError
    gpu.used_bytes += size
    address = 4096 + 512 * len(gpu.memory) + (1 << 30) * (gpu.runs + 1)
    while address in gpu.memory:
        address += 512
    gpu.memory[address] = np.zeros(size, dtype=np.uint8)
    return address


# CUDA, by pycuda: names and arguments as in its wrapper's source.


def pycuda_driver(gpu: Gpu) -> types.ModuleType:
    """Return the module `pycuda.driver`, on a GPU."""
    module = types.ModuleType("pycuda.driver")

    class Error(Exception):
        pass

    class OutOfMemoryError(Error):
        pass

    def answered():
        if gpu.error != SUCCESS:
            raise Error(gpu.error)

    class Context:
        def push(self):
            gpu.events.append("push")

        def pop(self):
            gpu.events.append("pop")

    class Device:
        def __init__(self, index):
            answered()

        name = lambda self: gpu.name  # noqa: E731
        compute_capability = lambda self: gpu.capability  # noqa: E731
        total_memory = lambda self: gpu.memory_bytes  # noqa: E731
        pci_bus_id = lambda self: "0000:3B:00.0"  # noqa: E731
        get_attribute = lambda self, attribute: gpu.multiprocessors  # noqa: E731
        retain_primary_context = lambda self: Context()  # noqa: E731

    class Stream:
        handle = 7

        def synchronize(self):
            answered()

    class Event:
        def record(self, stream=None):
            answered()
            self.at = gpu.clock_s
            return self

        def synchronize(self):
            answered()
            return self

        def time_till(self, other):
            return 1e3 * (other.at - self.at)

    class Allocation:
        def __init__(self, size):
            answered()
            try:
                self.address = allocate(gpu, size)
            except MemoryError:
                raise OutOfMemoryError("cuMemAlloc failed: out of memory") from None

        def __int__(self):
            return self.address

        def free(self):
            gpu.used_bytes -= len(gpu.memory.pop(self.address))

    def htod(dest, src, stream=None):
        answered()
        gpu.clock_s += src.nbytes / 12e9
        gpu.memory[int(dest)][:] = src

    def dtoh(dest, src, stream=None):
        answered()
        gpu.clock_s += dest.nbytes / 12e9
        dest[:] = gpu.memory[int(src)]

    module.Error, module.MemoryError = Error, OutOfMemoryError
    module.init = answered
    module.Device, module.Stream, module.Event = Device, Stream, Event
    module.mem_alloc = Allocation
    module.pagelocked_empty = lambda shape, dtype, order="C", mem_flags=0: np.empty(shape, dtype)
    module.memcpy_htod_async, module.memcpy_dtoh_async = htod, dtoh
    module.get_driver_version = lambda: 12040
    module.device_attribute = types.SimpleNamespace(MULTIPROCESSOR_COUNT=16)
    return module


def nvml(gpu: Gpu) -> types.ModuleType:
    """Return the module `pynvml`, on a GPU whose clock takes the values of `sm_mhz` in turn."""
    module = types.ModuleType("pynvml")
    module.NVML_CLOCK_GRAPHICS, module.NVML_CLOCK_SM = 0, 1
    module.reasons = 0
    module.nvmlInit = lambda: None
    module.nvmlDeviceGetHandleByPciBusId = lambda bus: ("handle", bus)
    module.nvmlDeviceGetClockInfo = lambda handle, kind: (
        gpu.sm_mhz.pop(0) if len(gpu.sm_mhz) > 1 else gpu.sm_mhz[0]
    )
    module.nvmlDeviceGetCurrentClocksThrottleReasons = lambda handle: module.reasons
    module.nvmlDeviceGetMaxClockInfo = lambda handle, kind: 1410
    module.nvmlDeviceGetDefaultApplicationsClock = lambda handle, kind: 1095
    module.nvmlDeviceGetPowerManagementLimit = lambda handle: 400000
    module.nvmlSystemGetDriverVersion = lambda: "550.54.15"
    return module
