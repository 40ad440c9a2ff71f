"""PyTorch as a device: whole networks, eager, on this machine's processor or an NVIDIA GPU."""

from __future__ import annotations

import re
from functools import partial
from importlib.util import find_spec
from typing import Any

from ..errors import HwnasError, UsageError
from ..lowering.kernels import Fusion
from .local import LocalRuntime, Run, random_input
from .onnxruntime_providers import nvidia_driver
from .registry import like_cpu, refuse
from .spec import DeviceSpec

FUSION = Fusion(add=False, rules="torch")


class TorchEager(LocalRuntime):
    """Runs ONNX models as torch modules: the same layers, normalisations folded, random weights.

    Args:
        place: torch's name of the device, `cpu` or `cuda:0`.
        threads: threads that a network runs on.
    """

    name = "torch"
    tells_kernels = False

    def __init__(self, place: str = "cpu", threads: int = 1) -> None:
        super().__init__(threads, alone=threads == 1 and place == "cpu")
        self.place = place
        self.resource = "processor" if place == "cpu" else place.replace(":", "-")

    def version(self) -> str:
        """Return torch and its version."""
        import torch

        return f"torch {torch.__version__}"

    def environment(self) -> dict[str, Any]:
        """Return also where torch computes, and the driver of a GPU."""
        found = {**super().environment(), "place": self.place}
        if self.place != "cpu":
            import torch

            found["gpu"] = torch.cuda.get_device_name(self.place)
            found["driver"] = nvidia_driver() or "unknown"
        return found

    def fusion(self) -> Fusion:
        """Return what eager torch fuses: nothing but what the ONNX file has folded."""
        return FUSION

    def load(self, model: bytes) -> Run:
        """Return what runs a model once; see `LocalRuntime`."""
        import onnx
        import torch

        from ..lowering.onnx_reader import of_model
        from ..lowering.torch_graph import GraphModule

        torch.set_num_threads(self.threads)
        try:
            parsed = onnx.load_model_from_string(model)
        except Exception as error:  # of whichever protobuf onnx came with
            self._explain(error, "load")
        try:
            graph = of_model(parsed, "the model")
            shape = (graph.batch, int(graph.channels), *graph.size)
            images = torch.from_numpy(random_input("images", shape)).to(self.place)
            module = self._prepared(GraphModule(graph).eval().to(self.place))
        except HwnasError:
            raise
        except Exception as error:  # torch's errors share no base class but RuntimeError's
            self._explain(error, "load")
        return partial(self._forward, module, images)

    def _prepared(self, module: Any) -> Any:
        return module

    def _forward(self, module: Any, images: Any) -> None:
        import torch

        with torch.inference_mode():
            module(images)
        if self.place != "cpu":
            torch.cuda.synchronize(self.place)


def connections() -> list[str]:
    """Return the connections worth trying on this machine."""
    return ["torch", "torch:cuda:0"]


def missing(argument: str) -> str:
    """Return what is missing, with the command that mends it; '' where nothing is.

    Raises:
        UsageError: the argument names no place of torch's.
    """
    place(argument)
    if find_spec("torch") is None:
        return "PyTorch is not installed: pip install 'hwnas[torch]'."
    return _missing_gpu(argument) if argument else ""


def _missing_gpu(argument: str) -> str:
    import torch

    if torch.version.cuda is None:
        return (
            f"this build of torch ({torch.__version__}) has no CUDA: "
            "pip install torch --index-url https://download.pytorch.org/whl/cu126."
        )
    if not torch.cuda.is_available():
        driver = nvidia_driver()
        what = f"driver {driver} is too old for it" if driver else "there is no NVIDIA driver"
        return f"torch finds no GPU: {what}. Install a newer driver (nvidia-smi shows it)."
    count = torch.cuda.device_count()
    number = int(argument.rpartition(":")[2])
    return f"there are {count} GPUs, counted from 0." if number >= count else ""


def place(argument: str) -> str:
    """Return torch's name of a device: `cpu`, or `cuda:N`.

    Raises:
        UsageError: the argument is neither empty nor `cuda:N`.
    """
    if argument and not re.fullmatch(r"cuda:\d{1,2}", argument):
        raise UsageError(f"torch computes on the processor or on cuda:N, not on '{argument}'.")
    return argument or "cpu"


def default(connection: str, argument: str) -> DeviceSpec:
    """Return what a short command means on it.

    Raises:
        UsageError: the argument names no place of torch's.
    """
    place(argument)
    about = f"{where(argument)}, PyTorch, eager, FP32"
    return like_cpu(connection, about, runtime="torch", fusion=FUSION)


def where(argument: str) -> str:
    """Return where torch computes, for people."""
    return f"NVIDIA GPU {argument.rpartition(':')[2]}" if argument else "this machine's processor"


def connect(device: DeviceSpec, argument: str) -> TorchEager:
    """Return the device.

    Raises:
        UsageError: torch does not run what the device asks for.
    """
    refuse(device)
    return TorchEager(place(argument), device.threads)
