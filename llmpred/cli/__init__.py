"""The command line. Commands parse, call llmpred and show; `jobs/` calls the same functions."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable

import typer

from llmpred import __version__
from llmpred.cli import (
    bases,
    benchmark,
    compare,
    complexity,
    curves,
    data,
    evaluate,
    explain,
    features,
    finetune,
    infer,
    ledger,
    machine,
    meta,
    predict,
    runs,
    training,
)
from llmpred.cli.common import EXIT_INPUT, EXIT_INTERRUPTED, complain
from llmpred.errors import LlmpredError
from llmpred.redaction import redact_tracebacks

app = typer.Typer(
    name="llmpred",
    help="How a fine-tune will score, before you pay for it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(data.app, name="data")
app.command("plan")(runs.plan)
app.command("collect")(runs.collect)
app.command("evaluate")(evaluate.evaluate)
app.command("compare")(compare.compare)
app.command("finetune")(finetune.finetune)
app.command("infer")(infer.infer)
app.command("features")(features.features)
app.add_typer(complexity.app, name="complexity")
app.add_typer(ledger.app, name="ledger")
app.add_typer(bases.app, name="bases")
meta.app.command("benchmark")(benchmark.benchmark)
meta.app.command("train")(training.train)
meta.app.command("explain")(explain.explain)
meta.app.command("curves")(curves.curves)
app.add_typer(meta.app, name="meta")
app.command("predict")(predict.predict)
app.command("screen")(predict.screen)
app.command("recommend")(predict.recommend)
app.command("doctor")(machine.doctor)
app.command("ui")(machine.ui)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"llmpred {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version and exit."
    ),
) -> None:
    pass


def main() -> None:
    """Run the command line; errors about the user's input end with their text and exit code 2."""
    run(app)


def run(command: Callable[[], object]) -> None:
    """Run a Typer app or job and turn known errors into exit codes."""
    redact_tracebacks()
    try:
        command()
    except LlmpredError as error:
        complain(str(error))
        sys.exit(EXIT_INPUT)
    except KeyboardInterrupt:
        complain("interrupted")
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT):
            raise
        where = error.filename or "no file named"
        complain(f"{error.strerror}: {where}. Free space or choose another --storage.")
        sys.exit(EXIT_INPUT)
