"""Where chat templates run: Jinja as transformers sets it up, in its sandbox, within limits.

A template is a program that came with a model, or with a request. It can read no attribute that
Python keeps private and change no value; here it can also not loop, call or write without end. (One
operation by itself, such as padding to a huge width, has no limit: render templates of strangers
only where that may be.) It refuses to know what a message is.
"""

import json
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes, pass_context
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from inferd.errors import InvalidRequest

# Names with a space: no template can write them.
_COUNTED = "counted steps"
_JOINED = "joined text"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one rendering may use: `chars` of any text it builds, `steps` of loops and calls."""

    chars: int = 16 * 2**20
    steps: int = 1_000_000
    seconds: float = 10.0


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment. Templates made by `from_string` may run in several threads at once."""

    intercepted_binops = frozenset(["+", "*", "**"])

    def __init__(self, limits: Limits | None = None) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_Generation, "jinja2.ext.loopcontrols"],
        )
        self._limits = limits or Limits()
        self._used = threading.local()
        self.filters |= {"tojson": _to_json, _COUNTED: self._counted, _JOINED: self._joined}
        self.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime_now}

    def run(self, template: Template, variables: dict[str, Any]) -> str:
        """The template's text; raises InvalidRequest with what it, or a limit, has to say."""
        self._used.steps = 0
        self._used.deadline = time.monotonic() + self._limits.seconds
        parts = []
        chars = 0
        try:
            for part in template.generate(variables):
                chars = self._fits(chars + len(part))
                parts.append(part)
        except InvalidRequest:
            raise
        except Exception as error:  # a template is a program: it can fail in any way
            reason = str(error) or type(error).__name__
            raise InvalidRequest(f"the chat template refused these messages: {reason}") from error
        return "".join(parts)

    # -- limits ----------------------------------------------------------------------------------

    def _fits(self, chars: int) -> int:
        if chars > self._limits.chars:
            raise InvalidRequest(
                f"the chat template builds a text of more than {self._limits.chars} characters; "
                "send fewer or shorter messages"
            )
        return chars

    def _step(self) -> None:
        used = self._used
        used.steps += 1
        if used.steps > self._limits.steps or time.monotonic() > used.deadline:
            raise InvalidRequest(
                "the chat template takes too long with these messages; send fewer or shorter ones, "
                "or correct the template"
            )

    @pass_context
    def _counted(self, context: Context, values: Iterable[Any]) -> Iterator[Any]:
        for value in values:
            self._step()
            yield value

    @pass_context
    def _joined(self, context: Context, values: Iterable[Any]) -> str:
        parts = [str(value) for value in values]
        self._fits(sum(map(len, parts)))
        return "".join(parts)

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Every call that a template makes."""
        self._step()
        return super().call(context, function, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """The operators that make something large out of something small."""
        if operator == "**":
            self._fits(_size(left) * abs(int(right)))
        elif operator == "*" and (hasattr(left, "__len__") or hasattr(right, "__len__")):
            text, times = (left, right) if hasattr(left, "__len__") else (right, left)
            self._fits(len(text) * times)
        else:
            self._fits(_size(left) + _size(right))
        return super().call_binop(context, operator, left, right)

    def _generate(
        self,
        source: nodes.Template,
        name: str | None,
        filename: str | None,
        defer_init: bool = False,
    ) -> str:
        limited = _Limiter().visit(source)
        limited.set_environment(self)
        code: str = super()._generate(limited, name, filename, defer_init)
        return code


class _Limiter(NodeTransformer):
    """Makes loops count their steps, and `~` look at the length of what it joins."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = nodes.Filter(node.iter, _COUNTED, [], [], None, None, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        parts = nodes.List(node.nodes, lineno=node.lineno)
        return nodes.Filter(parts, _JOINED, [], [], None, None, lineno=node.lineno)


class _Generation(Extension):
    """`{% generation %}` marks, for training, what the assistant says. Here it only groups."""

    tags = {"generation"}  # noqa: RUF012 - as the base class has it

    def parse(self, parser: Parser) -> nodes.Node:
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=lineno)


def _size(value: Any) -> int:
    """Characters, or items, or bits: what an operation on it costs."""
    if isinstance(value, int):
        return value.bit_length()
    return len(value) if hasattr(value, "__len__") else 0


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as it is; Jinja's own filter would escape it for HTML."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)
