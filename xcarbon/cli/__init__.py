"""The command line: every command calls the public functions of the package.

``options`` has the options that commands share, ``wording`` the words of error messages, and the other
modules the commands themselves. This folder may import ``accessor`` and the folders below it, and the
public names of ``xcarbon``.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Any

import click

from xcarbon._version import __version__
from xcarbon.cli.data import build, check, fetch, info
from xcarbon.cli.demonstration import demo
from xcarbon.cli.figures import plot
from xcarbon.cli.fluxes import budget, gapfill, predict, score
from xcarbon.cli.modelling import experiment, explain, models, train
from xcarbon.cli.wording import in_words
from xcarbon.core.errors import XCarbonError


class Commands(click.Group):
    """Commands in the order of a workflow, whose errors are one line and an exit status."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which they were added."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; return 1 after an error, 130 after Ctrl-C, or what the command returns."""
        usual = warnings.formatwarning
        warnings.formatwarning = _in_one_line
        try:
            return super().invoke(ctx)
        except (XCarbonError, FileNotFoundError) as error:
            print(f"xcarbon: {in_words(str(error))}", file=sys.stderr)
            return 1
        except KeyboardInterrupt as stop:
            print(f"xcarbon: {stop or 'interrupted'}", file=sys.stderr)
            return 130
        finally:
            warnings.formatwarning = usual


def _in_one_line(message: Warning | str, *_: Any, **__: Any) -> str:
    """Return the text of a warning without the line of the program that issued it."""
    return f"xcarbon: {in_words(str(message))}\n"


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="xcarbon %(version)s")
def cli() -> None:
    """Model the carbon fluxes of land ecosystems with xarray.

    xcarbon COMMAND --help describes a command and shows an example.
    """


for command in (
    info, plot, check, gapfill, budget, predict, score, train, explain, models, experiment, fetch, build, demo
):  # fmt: skip
    cli.add_command(command)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, 1 after an error or if ``check`` found one, or 130 after Ctrl-C."""
    try:
        return cli.main(argv if argv is None else list(argv), "xcarbon", standalone_mode=False) or 0
    except click.ClickException as error:  # wrong arguments
        error.show()
        raise SystemExit(error.exit_code) from None
