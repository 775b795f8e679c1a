"""What all commands share: a group that imports its commands late and knows near names, and the
form in which an error ends. It refuses to know what any command does.
"""

import os
from collections.abc import Mapping
from importlib import import_module
from typing import IO, Any, ClassVar

import click

from inferd.errors import InferdError


class Group(click.Group):
    """A group whose `late` commands, name -> "module:attribute", are imported when asked for."""

    late: ClassVar[Mapping[str, str]] = {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.late, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.late:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self.late[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            from inferd.config.strict import suggest

            known = suggest(name, self.list_commands(ctx))
            raise click.UsageError(f"no such command '{name}', {known}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except InferdError as error:
            raise Failure(str(error)) from error


class Failure(click.ClickException):
    """An error of inferd's on standard error, red on a terminal: one line, or a list under it."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        text = "\n".join(map(printable, f"error: {self.message}".splitlines()))
        click.echo(text if no_color() else click.style(text, fg="red"), err=True, file=file)


def one_line(text: str) -> str:
    """The text without line breaks and without what could drive a terminal."""
    return printable(" ".join(text.split()))


def printable(text: str) -> str:
    """The text with a space for each control character, so that none drives a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def no_color() -> bool:
    """Whether the user asked for none (https://no-color.org)."""
    return bool(os.environ.get("NO_COLOR"))
