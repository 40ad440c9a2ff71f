"""The shapes of an ONNX model: its open sizes filled in, every tensor's inferred."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..architecture.graph import Size
from ..errors import UsageError

if TYPE_CHECKING:
    import onnx


def load(path: Path) -> onnx.ModelProto:
    """Read a model without the weights that lie in other files.

    Raises:
        UsageError: the file cannot be read or is not an ONNX model.
    """
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
        if not any(tensor.data_location == 1 for tensor in model.graph.initializer):
            onnx.checker.check_model(model)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}.") from None
    except Exception as error:  # protobuf and onnx share no public base class
        raise UsageError(f"{path} is not an ONNX model ({_line(error)}).") from None
    return model


def fix_inputs(
    model: onnx.ModelProto,
    source: str,
    resolution: Size | None,
    batch: int | None,
    dims: dict[str, int],
) -> None:
    """Fill in the sizes that a model's inputs leave open.

    The first size of an input is the batch, the last two of an image its height and width; any
    other is meant by its name. A name stands for one size wherever it appears.

    Raises:
        UsageError: a size is left open and not given, or given and fixed otherwise.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [tensor for tensor in model.graph.input if tensor.name not in weights]
    if not inputs:
        raise UsageError(f"{source} has no input.")
    known = dict(dims)
    missing: list[str] = []
    used: set[str] = set()
    for tensor in inputs:
        if not tensor.type.tensor_type.HasField("shape"):
            raise UsageError(
                f"{source}: the input '{tensor.name}' states no shape; export the model with one."
            )
        sizes = tensor.type.tensor_type.shape.dim
        for axis, dim in enumerate(sizes):
            value, option = _given(axis, len(sizes), resolution, batch)
            used.add(dim.dim_param)
            if dim.dim_value > 0:
                if value is not None and value != dim.dim_value:
                    raise UsageError(
                        f"{source} was exported for {_what(tensor.name, axis, len(sizes))} of "
                        f"{dim.dim_value}; {option} asks for {value}."
                    )
                continue
            value = known.get(dim.dim_param, value)
            if value is None:
                where = f"{_what(tensor.name, axis, len(sizes))}"
                named = f", '{dim.dim_param}'" if dim.dim_param else ""
                way = option or f"--dim {dim.dim_param or 'NAME'}=SIZE"
                missing.append(f"{where}{named}: {way}")
                continue
            if dim.dim_param:
                known[dim.dim_param] = value
            dim.dim_value = value
    if missing:
        raise UsageError(f"{source} leaves sizes open; give them. " + "; ".join(missing) + ".")
    unknown = sorted(set(dims) - used)
    if unknown:
        there = ", ".join(sorted(used - {""})) or "none"
        raise UsageError(f"{source} has no open size '{unknown[0]}'; its open sizes are: {there}.")


class Shapes:
    """The shape of every tensor of a model whose inputs are fixed."""

    def __init__(self, source: str, known: dict[str, tuple[int, ...]]) -> None:
        self._source = source
        self._known = known

    def of(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape.

        Raises:
            UsageError: it does not follow from the model.
        """
        shape = self._known.get(name)
        if shape is None or not all(size > 0 for size in shape):
            raise UsageError(
                f"{self._source}: the shape of '{name}' does not follow from the model's inputs; "
                "export the model with fixed sizes."
            )
        return shape


def infer(model: onnx.ModelProto, source: str) -> Shapes:
    """Return the shapes of all tensors.

    Raises:
        UsageError: the model contradicts itself.
    """
    import onnx

    # Stated shapes that hold names of sizes, which are known by now, would stand in the way.
    stated = [value for value in model.graph.value_info if _is_fixed(value)]
    del model.graph.value_info[:]
    model.graph.value_info.extend(stated)
    for tensor in model.graph.output:
        if not _is_fixed(tensor):
            tensor.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception as error:  # onnx raises bare RuntimeErrors, too
        raise UsageError(f"{source}: shapes cannot be inferred ({_line(error)}).") from None
    graph = inferred.graph
    known = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.tensor_type.HasField("shape")
    }
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute:
            value = node.attribute[0]
            known[node.output[0]] = tuple(value.t.dims) if value.HasField("t") else ()
    return Shapes(source, known | {t.name: tuple(t.dims) for t in graph.initializer})


def _is_fixed(value: onnx.ValueInfoProto) -> bool:
    return all(dim.dim_value > 0 for dim in value.type.tensor_type.shape.dim)


def _given(
    axis: int, rank: int, resolution: Size | None, batch: int | None
) -> tuple[int | None, str]:
    """Return the size that the options give for an axis, and the option that does."""
    if axis == 0 and rank > 1:
        return batch, "--batch"
    if rank == 4 and axis >= 2:
        return (resolution[axis - 2] if resolution else None), "--resolution"
    return None, ""


def _what(name: str, axis: int, rank: int) -> str:
    image = ("batch", "channels", "height", "width")
    called = image[axis] if rank == 4 else "batch" if axis == 0 and rank > 1 else f"axis {axis}"
    return f"the {called} of the input '{name}'"


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
