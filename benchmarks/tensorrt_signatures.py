"""Record the signatures of TensorRT's and CUDA's Python bindings, for tests without them.

    pip download --no-deps --dest WHEELS tensorrt-cu12-bindings==10.4.0 cuda-bindings==13.5.0 ...
    python benchmarks/tensorrt_signatures.py WHEELS tests/tensorrt_signatures

TensorRT's bindings load with stub libraries that this compiles (gcc): they hold the nine functions
that the bindings ask for. Each wheel must be of the Python that runs this.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

CLASSES = (
    "Builder", "EngineInspector", "IBuilderConfig", "ICudaEngine", "IExecutionContext",
    "IHostMemory", "ILogger", "INetworkDefinition", "IOptimizationProfile", "IProfiler", "ITensor",
    "ITimingCache", "OnnxParser", "ParserError", "Runtime",
)  # fmt: skip
ENUMS = (
    "BuilderFlag", "DataType", "LayerInformationFormat", "NetworkDefinitionCreationFlag",
    "ProfilingVerbosity", "TensorIOMode", "ILogger.Severity",
)  # fmt: skip
CUDA = (
    "cudaDeviceGetPCIBusId", "cudaDriverGetVersion", "cudaEventCreate", "cudaEventElapsedTime",
    "cudaEventRecord", "cudaEventSynchronize", "cudaFree", "cudaFreeHost",
    "cudaGetDeviceProperties", "cudaGetErrorString", "cudaGraphDestroy", "cudaGraphExecDestroy",
    "cudaGraphInstantiate",
    "cudaGraphLaunch", "cudaMalloc", "cudaMallocHost", "cudaMemcpyAsync", "cudaSetDevice",
    "cudaStreamBeginCapture", "cudaStreamCreateWithFlags", "cudaStreamEndCapture",
    "cudaStreamSynchronize",
)  # fmt: skip
CUDA_ENUMS = ("cudaError_t", "cudaMemcpyKind", "cudaStreamCaptureMode")
STUBS = (
    "createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL", "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry", "getNvOnnxParserVersion", "getPluginRegistry",
    "initLibNvInferPlugins",
)  # fmt: skip


def stub_libraries(folder: Path, major: int) -> None:
    """Compile libraries that do nothing but exist."""
    source = folder / "stub.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in STUBS))
    for name in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
        soname = f"lib{name}.so.{major}"
        command = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{soname}", "-o", folder / soname]
        subprocess.run([*command, source], check=True)


def tensorrt_signatures(module) -> dict:
    """Return the signatures of an imported TensorRT."""
    return {
        "version": module.__version__,
        "classes": {name: members(getattr(module, name)) for name in CLASSES},
        "enums": {name: enum(module, name) for name in ENUMS},
        "functions": [name for name in ("nptype",) if hasattr(module, name)],
    }


def cuda_signatures(module, version: str) -> dict:
    """Return the signatures of an imported cuda.bindings.runtime."""
    import inspect

    return {
        "version": version,
        "functions": {name: list(inspect.signature(getattr(module, name)).parameters)
                      for name in CUDA if hasattr(module, name)},
        "enums": {name: {key: int(value)
                         for key, value in getattr(module, name).__members__.items()}
                  for name in CUDA_ENUMS},
        "constants": {"cudaStreamNonBlocking": int(module.cudaStreamNonBlocking)},
        "properties": sorted(key for key in dir(module.cudaDeviceProp) if key[0] != "_"),
    }  # fmt: skip


def enum(module, name: str) -> dict[str, int]:
    """Return the members of an enumeration and their values."""
    found = module
    for part in name.split("."):
        found = getattr(found, part)
    return {key: int(value) for key, value in found.__members__.items()}


def members(cls) -> dict:
    """Return the methods, as overloads of arguments, and the properties of a class."""
    told = {}
    for name in sorted(dir(cls)):
        value = getattr(cls, name)
        if name.startswith("_") and name != "__init__":
            continue
        if isinstance(value, property):
            told[name] = "property" if value.fset is None else "writable"
        elif overloads := signatures(name, value.__doc__ or ""):
            told[name] = overloads
    return told


def signatures(name: str, doc: str) -> list[list[list]]:
    """Return [argument, type, whether it has a default] of each overload of a docstring."""
    lines = re.findall(rf"^(?:\d+\. )?{re.escape(name)}\((self: .*)\) -> .*$", doc, re.MULTILINE)
    return [[argument(text) for text in re.split(r", (?=\w+: )", line)[1:]] for line in lines]


def argument(text: str) -> list:
    """Return name, type as one spelling for all releases, and whether there is a default."""
    name, _, rest = text.partition(": ")
    kind, equals, _ = rest.partition(" = ")
    kind = kind.replace("tensorrt_bindings.tensorrt.", "")
    kind = {"typing.SupportsInt": "int", "typing.SupportsFloat": "float",
            "typing_extensions.Buffer": "buffer"}.get(kind, kind)  # fmt: skip
    return [name, kind, bool(equals)]


def text(found: dict) -> str:
    """Return a record as JSON, one class, enumeration or other entry a line."""
    parts = []
    for key, value in sorted(found.items()):
        if isinstance(value, dict):
            lines = (f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(value.items()))
            value_text = "{\n" + ",\n".join(lines) + "\n }"
        else:
            value_text = json.dumps(value)
        parts.append(f" {json.dumps(key)}: {value_text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def record(wheel: Path, target: Path) -> None:
    """Record one wheel, in a process of its own: a process loads one TensorRT."""
    name, version = wheel.name.split("-")[:2]
    with tempfile.TemporaryDirectory() as folder:
        zipfile.ZipFile(wheel).extractall(folder)
        path = [folder, str(Path(__file__).parent)]
        if name.startswith("tensorrt"):
            stub_libraries(Path(folder), int(version.split(".")[0]))
            code = "import tensorrt_bindings as m; found = s.tensorrt_signatures(m)"
        else:
            path += [p for p in sys.path if p.endswith("site-packages")]  # cuda-pathfinder
            code = (
                f"from cuda.bindings import runtime as m; found = s.cuda_signatures(m, {version!r})"
            )
        code = f"import json, tensorrt_signatures as s; {code}; print(json.dumps(found))"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "LD_LIBRARY_PATH": folder}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"{wheel.name}: {done.stderr}")
    kind = "tensorrt" if name.startswith("tensorrt") else "cuda-bindings"
    out = target / f"{kind}-{version}.json"
    out.write_text(text(json.loads(done.stdout)))
    print(out)


if __name__ == "__main__":
    for wheel in sorted(Path(sys.argv[1]).glob("*.whl")):
        record(wheel, Path(sys.argv[2]))
