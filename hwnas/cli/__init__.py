"""The command line: each command parses, calls a workflow and prints what it returns."""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
from typing import Any

import click

from .. import __version__
from ..errors import HwnasError, InfeasibleError, did_you_mean

COMMANDS = {
    "search": "search the best backbone under a budget",
    "frontier": "the whole trade-off curve, every point proven",
    "profile": "measure a device and fit its predictor",
    "predict": "latency of a network on a device, with an interval",
    "measure": "time a network on a device",
    "export": "write a result as others read it: ONNX, torch, mmdet ...",
    "sweep": "searches over devices, budgets and seeds",
    "evaluate": "how good a predictor is, on your rows",
    "show": "an architecture: shape, costs, entropy; or a space",
    "zoo": "known architectures",
    "devices": "known devices: list, show, check, add",
    "doctor": "which devices can be reached, what is missing",
}


class _Commands(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f".{name}", __package__).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS:
            raise click.UsageError(
                f"there is no command '{args[0]}'.{did_you_mean(args[0], COMMANDS)}", ctx
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hwnas")
@click.option("-q", "--quiet", is_flag=True, help="Only results and errors.")
@click.option("-v", "--verbose", is_flag=True, help="Tracebacks of internal errors.")
@click.pass_context
def command_line(ctx: click.Context, quiet: bool, verbose: bool) -> None:
    """Hardware-aware network search: from a device and a budget to a detection backbone."""
    ctx.obj = {"quiet": quiet, "verbose": verbose}


def main(args: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    arguments = sys.argv[1:] if args is None else args
    if args is None:
        # Being ended is an exit, so that temporary files go, and programs such as adb end as well.
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        command_line.main(arguments, prog_name="hwnas", standalone_mode=False)
        sys.stdout.flush()
        code = 0
    except SystemExit as exit_:
        raise exit_ from None
    except Exception as error:
        code = _explain(error, arguments)
    except KeyboardInterrupt:
        click.echo("interrupted; what was journalled is kept.", err=True)
        code = 130
    sys.exit(code)


def _explain(error: Exception, arguments: list[str]) -> int:
    """Say on standard error what went wrong and return the exit code."""
    if isinstance(error, click.exceptions.Abort):
        click.echo("interrupted; what was journalled is kept.", err=True)
        return 130
    if isinstance(error, click.ClickException):
        error.show()
        return error.exit_code
    if isinstance(error, HwnasError):
        if isinstance(error, InfeasibleError) and error.document:
            from .render import emit
            from .show import rows_table

            text = "the cheapest:\n" + rows_table(error.document["architecture"])
            emit({"schema": "hwnas.infeasible/1", **error.document}, text, "--json" in arguments)
        _error(str(error))
        return error.exit_code
    if isinstance(error, BrokenPipeError):
        # Whoever read the output has enough; keep the interpreter from flushing into the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        _error("the disk is full; free some space and repeat the command.")
        return 1
    if isinstance(error, MemoryError):
        _error("out of memory; try a lower resolution or batch.")
        return 1
    if "-v" in arguments or "--verbose" in arguments:
        import traceback

        traceback.print_exception(error)
    _error(
        f"internal error: {type(error).__name__}: {error}. Please report it with the output of "
        "the same command behind 'hwnas -v'."
    )
    return 1


def _error(message: str) -> None:
    color: Any = False if os.environ.get("NO_COLOR") else None
    click.secho("error: ", fg="red", nl=False, err=True, color=color)
    click.echo(message, err=True)
