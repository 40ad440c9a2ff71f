"""Look-up tables of blocks in YAML, as ProxylessNAS exchanges them.

    expanded_conv-input:56x56x24-output:56x56x24-expand:6-kernel:3-stride:1-idskip:1:
      mean: 5.21

An entry is a block with the milliseconds that it takes: an inverted residual (`expanded_conv`),
the 3x3 convolution at the beginning (`Conv`), the 1x1 convolution at the end (`Conv_1`), an
average over the map (`AvgPool`), or that average and the classifier (`Logits`); shapes are
HxWxC. A block becomes the kernels that the device's runtime executes for it, whose sum was
measured. The form does not state the batch. It is that of github.com/mit-han-lab/proxylessnas.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from ...architecture.builder import GraphBuilder, Tensor
from ...architecture.families import BlockOptions
from ...architecture.families.mobile import Mobile
from ...architecture.graph import Size
from ...errors import UsageError
from ...lowering.fusing import fuse
from ...lowering.kernels import Fusion, Kernel
from .table import (
    GREATEST_SIZE,
    BadRow,
    Entry,
    KernelTable,
    RowError,
    Written,
    check_kernel,
    median_of_repeats,
    parse_size,
    parse_time,
)

Shape = tuple[int, int, int]
"""Height, width, channels."""

EXPANDED = ("expand", "kernel", "stride", "idskip")
TYPES = ("expanded_conv", "Conv", "Conv_1", "AvgPool", "Logits")

STEM, LAST, CLASSES = 32, 1280, 1000
ROWS = ((24, 2), (40, 2), (80, 2), (96, 1), (192, 2), (320, 1))
"""Channels and stride of the rows of the ProxylessNAS network (arXiv:1812.00332), after a first
block without expansion of 16 channels."""


def parse(text: str, batch: int, fusion: Fusion) -> Iterator[Entry | BadRow]:
    """Yield the rows of a table: each block as kernels of one batch.

    Nothing is constructed from the text: only its nodes are read, with the lines that they are on.

    Raises:
        UsageError: the text is not YAML, or not a mapping.
    """
    import yaml

    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        message = " ".join(str(error).split())
        raise UsageError(f"it is not a YAML file: {message}.") from None
    except (RecursionError, ValueError) as error:
        raise UsageError(f"it is not a YAML file: {error}.") from None
    if not isinstance(root, yaml.MappingNode) or not root.value:
        raise UsageError("it is not a look-up table: a mapping of blocks with their 'mean'.")
    for key, value in root.value:
        line = key.start_mark.line + 1
        try:
            if not isinstance(key, yaml.ScalarNode):
                raise RowError("malformed", "the key is not a block")
            kernels = block(key.value, batch, fusion)
            yield Entry(line, kernels, parse_time(_mean(value), "mean"))
        except RowError as error:
            yield error.at(line)


def _mean(node: Any) -> str | None:
    """Return the text of a node's entry `mean`, which YAML writes `.nan` and `.inf` in."""
    import yaml

    if not isinstance(node, yaml.MappingNode):
        raise RowError("malformed", "not a mapping that holds 'mean'")
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode) and key.value == "mean":
            if not isinstance(value, yaml.ScalarNode):
                raise RowError("malformed", "mean is not a number")
            text = str(value.value)
            is_special = re.fullmatch(r"[-+]?\.(nan|inf)", text.lower())
            return text.replace(".", "", 1) if is_special else text
    return None


def block(key: str, batch: int, fusion: Fusion) -> tuple[Kernel, ...]:
    """Return the kernels of the block that a key names.

    Raises:
        RowError: the key names no block, or one whose sizes do not go together.
    """
    kind, *parts = key.split("-")
    if kind not in TYPES:
        known = ", ".join(TYPES)
        raise RowError("unknown type", f"the block is {kind[:24]!r}, expected one of {known}")
    fields = dict(part.partition(":")[::2] for part in parts)
    wanted = ("input", "output", *(EXPANDED if kind == "expanded_conv" else ()))
    if fields.pop("se", "0") != "0":
        raise RowError("unknown type", "a block with squeeze-and-excitation")
    fields.pop("hs", None)  # which activation; it runs inside the convolution either way
    if sorted(fields) != sorted(wanted) or len(parts) < len(wanted):
        raise RowError("malformed", f"{kind} has other fields than {', '.join(wanted)}")
    height, width, channels = source = _shape(fields["input"])
    target = _shape(fields["output"])
    if kind in ("AvgPool", "Logits"):
        return _head(kind, source, target, batch)
    builder = GraphBuilder(channels, (height, width))
    try:
        result = _layers(builder, kind, fields, target)
    except UsageError as error:
        raise RowError("out of range", str(error)) from None
    if (*result.size, result.channels) != target:
        shape = "x".join(map(str, (*result.size, result.channels)))
        raise RowError("out of range", f"output is {fields['output']}, the block gives {shape}")
    return tuple(check_kernel(kernel) for kernel in fuse(builder.build(batch=batch), fusion))


def _layers(builder: GraphBuilder, kind: str, fields: dict[str, str], target: Shape) -> Tensor:
    if kind == "expanded_conv":
        sizes = {name: parse_size(fields[name], name, least=0) for name in EXPANDED}
        return _expanded(builder, sizes, target)
    if kind == "Conv_1":
        return builder.conv(builder.input, target[2], activation="relu6")
    stride = -(-builder.input.size[0] // target[0])
    return builder.conv(builder.input, target[2], 3, stride=stride, activation="relu6")


def _expanded(builder: GraphBuilder, fields: dict[str, int], target: Shape) -> Tensor:
    for name in ("expand", "kernel", "stride"):
        if not fields[name]:
            raise RowError("zero", f"{name} is 0")
    x = builder.input
    is_residual = fields["idskip"] == 1
    if fields["idskip"] > 1 or (is_residual and (*x.size, x.channels) != target):
        raise RowError("out of range", f"idskip is {fields['idskip']} from one shape to another")
    if x.channels * fields["expand"] > GREATEST_SIZE:
        raise RowError("out of range", f"expand is {fields['expand']}")
    options = BlockOptions(
        out=target[2],
        inner=fields["expand"],
        kernel=fields["kernel"],
        stride=fields["stride"],
        first=not is_residual,
        activation="relu6",
    )
    return Mobile().block(builder, x, options)


def _head(kind: str, source: Shape, target: Shape, batch: int) -> tuple[Kernel, ...]:
    """Return the average over the map and, behind it, the classifier as a 1x1 convolution."""
    height, width, channels = source
    if target[:2] != (1, 1) or (kind == "AvgPool" and target[2] != channels):
        raise RowError("out of range", f"output of {kind} is {'x'.join(map(str, target))}")
    size = (height, width)
    pool = Kernel("avg_pool", batch, channels, size, channels, (1, 1), size, size)
    if kind == "AvgPool":
        return (pool,)
    return pool, Kernel("conv", batch, channels, (1, 1), target[2], (1, 1))


def _shape(text: str) -> Shape:
    """Return HxWxC; `1000` is 1x1x1000."""
    parts = text.split("x")
    if len(parts) not in (1, 3):
        raise RowError("malformed", f"{text[:24]!r} is not a shape HxWxC")
    sizes = [parse_size(part, "a size") for part in parts]
    return (sizes[0], sizes[1], sizes[2]) if len(sizes) == 3 else (1, 1, sizes[0])


def key_of(kernels: tuple[Kernel, ...], fusion: Fusion) -> str | None:
    """Return the key of a block, None where the form cannot name it."""
    first, last = kernels[0], kernels[-1]
    convs = [kernel for kernel in kernels if kernel.op == "conv"]
    shapes = (
        f"input:{first.in_size[0]}x{first.in_size[1]}x{first.in_channels}"
        f"-output:{last.out_size[0]}x{last.out_size[1]}x{last.out_channels}"
    )
    keys = [f"{kind}-{shapes}" for kind in ("Conv", "Conv_1", "AvgPool")]
    keys.append(f"Logits-{shapes.replace('output:1x1x', 'output:')}")
    if len(convs) in (2, 3):
        depthwise = convs[-2]
        expand = int(depthwise.in_channels) // int(first.in_channels)
        skip = int(last.fused_add or last.op == "add")
        keys.append(
            f"expanded_conv-{shapes}-expand:{expand}-kernel:{depthwise.kernel[0]}"
            f"-stride:{depthwise.stride[0]}-idskip:{skip}"
        )
    for key in keys:
        try:
            if block(key, first.batch, fusion) == kernels:
                return key
        except RowError:
            continue
    return None


def skeleton(size: Size, batch: int, fusion: Fusion) -> list[tuple[Kernel, ...]]:
    """Return the blocks that a ProxylessNAS search over images of a size looks up, each once."""

    def shape(size: Size, channels: int) -> str:
        return f"{size[0]}x{size[1]}x{channels}"

    def halved(size: Size, stride: int) -> Size:
        return -(-size[0] // stride), -(-size[1] // stride)

    keys = [f"Conv-input:{shape(size, 3)}-output:{shape(halved(size, 2), STEM)}"]
    size, channels = halved(size, 2), STEM
    rows: tuple[tuple[int, int, tuple[int, ...]], ...] = ((16, 1, (1,)),)
    rows += tuple((out, stride, (3, 6)) for out, stride in ROWS)
    for out, stride, expansions in rows:
        for step, into, skip in ((stride, channels, 0), (1, out, 1)):
            shapes = f"input:{shape(size, into)}-output:{shape(halved(size, step), out)}"
            if not (skip and expansions == (1,)):
                keys += [
                    f"expanded_conv-{shapes}-expand:{e}-kernel:{k}-stride:{step}-idskip:{skip}"
                    for e in expansions
                    for k in (3, 5, 7)
                ]
            size = halved(size, step)
        channels = out
    keys.append(f"Conv_1-input:{shape(size, channels)}-output:{shape(size, LAST)}")
    keys.append(f"Logits-input:{shape(size, LAST)}-output:{CLASSES}")
    return [block(key, batch, fusion) for key in keys]


def render(table: KernelTable, fusion: Fusion) -> tuple[str, Written]:
    """Return a table as text.

    Raises:
        UsageError: the rows are of several batches, which the form does not state.
    """
    import yaml

    batches = {kernel.batch for kernel in table.kernels}
    if len(batches) > 1:
        raise UsageError(
            f"a YAML table does not state the batch, and this one holds {len(batches)}: "
            "write it as CSV."
        )
    found: dict[str, dict[str, float]] = {}
    left_out: Counter[str] = Counter()
    once = median_of_repeats(zip(table.blocks, table.seconds.tolist(), strict=True))
    for kernels, time_s in zip(once.blocks, once.seconds.tolist(), strict=True):
        key = key_of(kernels, fusion)
        if key is None:
            left_out[kernels[0].op] += 1
        else:
            found[key] = {"mean": float(f"{1e3 * time_s:.9g}")}
    text = yaml.safe_dump(found, sort_keys=False, width=1000)
    return text, Written(len(found), dict(left_out))
