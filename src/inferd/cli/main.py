"""The `inferd` command: which commands there are, and what every one of them has in common.

It holds the table of commands and imports none of them before it is asked for.
"""

from collections.abc import Mapping
from typing import ClassVar

import click

from inferd import __version__
from inferd.cli.group import Group


class Commands(Group):
    """The table of commands."""

    late: ClassVar[Mapping[str, str]] = {
        "serve": "inferd.cli.serve:serve",
        "models": "inferd.cli.models:models",
        "chat": "inferd.cli.chat:chat",
        "bench": "inferd.cli.bench:bench",
        "config": "inferd.cli.config:config",
        "doctor": "inferd.cli.doctor:doctor",
    }


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="inferd", message="%(prog)s %(version)s")
def inferd() -> None:
    """One inference server for every model."""


def main() -> None:
    """The entry point of the installed command and of `python -m inferd`."""
    inferd(prog_name="inferd")
