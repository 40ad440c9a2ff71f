"""The graph as a torch module, and as the source of one that runs without hwnas."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from ..architecture.genotype import Architecture, lower
from ..architecture.graph import INPUT, Graph
from ..errors import DeviceUnavailableError
from .weights import names

if TYPE_CHECKING:
    from .torch_backbone import Backbone, LayerRow


def to_torch(
    architecture: Architecture, out_indices: int | Sequence[int] = (0, 1, 2, 3)
) -> Backbone:
    """Return the architecture as a torch module that returns feature maps C2 to C5.

    Raises:
        DeviceUnavailableError: torch is not installed.
        ValueError: `out_indices` are not among 0 to 3.
    """
    try:
        from .torch_backbone import Backbone
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise DeviceUnavailableError(
            "a torch module needs torch, which is not installed: pip install 'hwnas[torch]'."
        ) from None
    return Backbone(to_rows(architecture), out_indices)


def to_rows(architecture: Architecture) -> list[LayerRow]:
    """Return the table of layers that the torch modules are built from."""
    from .torch_backbone import LayerRow

    return [LayerRow(*row) for row in _rows(architecture)]


def to_source(
    architecture: Architecture,
    *,
    adapter: str = "",
    about: str = "a detection backbone found by hwnas. Depends on torch alone.",
    example: str = "model = backbone()\nc2, c3, c4, c5 = model(images)",
    ending: str = "",
) -> str:
    """Return one Python file that builds the same module without hwnas.

    Args:
        architecture: what to write.
        adapter: source of a module that puts a framework's interface on that of torch_backbone,
            from which it imports relatively; its text goes into the file.
        about: what the file is, for its docstring.
        example: how it is used, likewise.
        ending: what follows the table `LAYERS`.
    """
    library = files(__package__).joinpath("torch_backbone.py").read_text(encoding="utf-8")
    imports, bodies = joined([library, adapter])
    table = "\n".join(f"    LayerRow{row!r}," for row in _rows(architecture))
    indented = "\n".join(f"    {line}".rstrip() for line in example.splitlines())
    return (
        f'"""{architecture.name or "backbone"}: {about}\n\n{indented}\n"""\n\n'
        f"from __future__ import annotations\n\n{imports}\n\n\n{bodies}\n\n\n"
        "# name, op, inputs, channels in, channels out, kernel, stride, groups, activation, stage\n"
        f"LAYERS = (\n{table}\n)\n\n\n"
        "def backbone(out_indices: int | Sequence[int] = (0, 1, 2, 3)) -> Backbone:\n"
        '    """Return the backbone with fresh weights."""\n'
        f"    return Backbone(LAYERS, out_indices)\n{ending}"
    )


def identifier(name: str) -> str:
    """Return a name as a Python identifier: what else it holds becomes an underscore."""
    word = re.sub(r"[^0-9a-zA-Z_]+", "_", name).strip("_") or "backbone"
    return f"n{word}" if word[0].isdigit() else word


def joined(modules: Sequence[str]) -> tuple[str, str]:
    """Return the imports of several modules, without relative ones, and the text behind them."""
    plain: set[str] = set()
    taken: dict[str, set[str]] = {}
    bodies = []
    for text in modules:
        last = 0
        for node in ast.parse(text).body:
            if isinstance(node, ast.Import):
                plain |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                if node.level == 0 and node.module and node.module != "__future__":
                    taken.setdefault(node.module, set()).update(a.name for a in node.names)
            elif last:
                break
            else:
                continue
            last = node.end_lineno or 0
        bodies.append("\n".join(text.splitlines()[last:]).strip())
    return _import_lines(plain, taken), "\n\n\n".join(body for body in bodies if body)


def _import_lines(plain: set[str], taken: dict[str, set[str]]) -> str:
    def standard(module: str) -> bool:
        return module.partition(".")[0] in sys.stdlib_module_names

    def order(name: str) -> tuple[bool, bool, str]:
        return (not name.isupper(), not name[0].isupper(), name)

    blocks = []
    for of_library in (True, False):
        lines = [f"import {m}" for m in sorted(plain) if standard(m) == of_library]
        lines += [
            f"from {m} import {', '.join(sorted(taken[m], key=order))}"
            for m in sorted(taken)
            if standard(m) == of_library
        ]
        blocks.append("\n".join(lines))
    return "\n\n".join(block for block in blocks if block)


def _rows(architecture: Architecture) -> list[tuple[Any, ...]]:
    graph = lower(architecture)
    labels = names(graph)
    return [
        (*common_fields(i, graph, labels), *(() if layer.norm or layer.op != "conv" else (False,)))
        for i, layer in enumerate(graph.layers)
    ]


def common_fields(i: int, graph: Graph, labels: Sequence[str]) -> tuple[Any, ...]:
    """Return what the rows of a backbone and of a detector both say of a layer, name to stage."""
    layer = graph.layers[i]
    return (
        labels[i],
        layer.op,
        tuple("images" if j == INPUT else labels[j] for j in layer.inputs),
        layer.in_channels,
        layer.out_channels,
        layer.kernel[0],
        layer.stride[0],
        layer.groups,
        layer.activation or "",
        layer.stage,
    )
