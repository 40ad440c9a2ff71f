"""The options of `hwnas profile` and `hwnas evaluate` that are about tables of kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from .arguments import resolution_option, resolve_device
from .render import emit, say

F = TypeVar("F", bound=Callable[..., Any])

MEASURING = ("minutes", "networks", "from_", "threads", "optimization", "seed", "resume")
IMPORTING = ("name", "precision", "like", "kind", "bad_rows")
EXCHANGING = ("batch", "resolution", "format_", "force")
"""Options of `hwnas profile` by what they go with."""

format_option = click.option(
    "--format",
    "format_",
    metavar="csv|tinynas|proxyless",
    help="Of the table; by default that of the file's ending: .csv, .txt, .yaml.",
)
bad_rows_option = click.option(
    "--bad-rows",
    type=click.Choice(["skip", "stop"]),
    default="skip",
    show_default=True,
    help="Go on without rows that make no sense, or refuse the table.",
)


def table_options(function: F) -> F:
    """Add the options of `hwnas profile --import` and `--export`."""
    path = click.Path(path_type=Path)
    for option in (
        click.option("--force", is_flag=True, help="Replace the device, or the file."),
        bad_rows_option,
        format_option,
        resolution_option(help="Default HxW of an imported device, or of exported blocks."),
        click.option("--batch", type=click.IntRange(1), help="Default batch, likewise."),
        click.option(
            "--precision",
            metavar="fp32|fp16|int8",
            help="What to measure in, by default the device's; what a table was measured in.",
        ),
        click.option("--kind", metavar="cpu|gpu", help="What the table was measured on."),
        click.option(
            "--like", metavar="DEVICE", help="A known device that gives what is not said."
        ),
        click.option("--export", type=path, help="Write the profile of --device NAME as a table."),
        click.option("--import", "import_", type=path, help="Fit a predictor to a table."),
    ):
        function = option(function)
    return function


def refuse_options(names: Iterable[str], where: str) -> None:
    """Refuse options that would silently mean nothing.

    Raises:
        click.UsageError: one of them was given.
    """
    context = click.get_current_context()
    for name in names:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = name.rstrip("_").replace("_", "-")
            raise click.UsageError(f"--{option} goes with {where} only.")


def import_table(path: Path, name: str, as_json: bool, **options: Any) -> None:
    """Fit a predictor to a table and say how good it is.

    Raises:
        HwnasError: the table cannot be used; see `workflows.exchange.import_table`.
    """
    from ..workflows.exchange import import_table

    predictor, document = import_table(path, name=name, **_renamed(options))
    tell_bad_rows(document)
    told = document["accuracy"]
    height, width = document["resolution"]
    text = (
        f"{document['rows']:,} {document['of']} of {path.name}; batch {document['batch']}, "
        f"{height}x{width}, {document['precision']}, features of a {document['kind']}\n"
        f"on {told['rows']:,.0f} {told['on']}: MAPE {told['mape']:.2%}, median "
        f"{told['median_ape']:.2%}, within 5 % {told['within_5']:.1%}, "
        f"within 10 % {told['within_10']:.1%}\n"
    )
    if "fitted_to" in predictor.card.provenance:
        text += f"fitted to {predictor.card.provenance['fitted_to']}\n"
    text += f"device {document['device']}; predictor written to {document['predictor']}"
    emit(document, text, as_json)


def export_table(path: Path, device: str | None, as_json: bool, **options: Any) -> None:
    """Write a device's profile as a table.

    Raises:
        HwnasError: there is nothing to write; see `workflows.exchange.export_table`.
    """
    from ..devices import spec
    from ..workflows.exchange import export_table

    document = export_table(path, spec.load(resolve_device(device)), **_renamed(options))
    text = f"{document['rows']:,} {document['source']} {document['of']} written to {path}"
    if document["merged_rows"]:
        text += f"; {document['merged_rows']:,} repeats went into their medians"
    if document["left_out"]:
        counts = ", ".join(f"{op} {count:,}" for op, count in document["left_out"].items())
        text += f"\nthe format '{document['format']}' cannot say, and leaves out: {counts}"
    emit(document, text, as_json)


def tell_bad_rows(document: dict[str, Any]) -> None:
    """Name on standard error the rows that were left out."""
    from ..workflows.exchange import named_rows

    for i, line in enumerate(named_rows(document)):
        say(line if i else f"left out {line}")


def _renamed(options: dict[str, Any]) -> dict[str, Any]:
    return {name.rstrip("_"): value for name, value in options.items()}
