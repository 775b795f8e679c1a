from typing import Any

import pytest

from inferd.engine.text.sandbox import Limits, Sandbox
from inferd.errors import InvalidRequest

SMALL = Limits(chars=1_000, steps=1_000, seconds=60)


def _run(source: str, limits: Limits | None = None, **variables: Any) -> str:
    sandbox = Sandbox(limits)
    return sandbox.run(sandbox.from_string(source), variables)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% for x in [1, 2, 3] %}{{ loop.index }}/{{ loop.length }} {% endfor %}", "1/3 2/3 3/3 "),
        ("{% for x in [1, 2] %}{{ loop.first }}{{ loop.last }}{% endfor %}", "TrueFalseFalseTrue"),
        ("{% for x in 'abc' %}{{ loop.previtem }}{{ loop.nextitem }}{% endfor %}", "bacb"),
        ("{% for k, v in {'a': 1}.items() %}{{ k ~ v }}{% endfor %}", "a1"),
        ("{% for x in [] %}x{% else %}none{% endfor %}", "none"),
        ("{% for x in nothing %}x{% else %}none{% endfor %}", "none"),
        ("{% for x in [1, 2, 3] if x != 2 %}{{ x }}{% endfor %}", "13"),
        ("{% for x in range(9) %}{% if x == 2 %}{% break %}{% endif %}{{ x }}{% endfor %}", "01"),
        (
            "{% for x in [1, [2, 3]] recursive %}{{ loop(x) if x is iterable else x }}{% endfor %}",
            "123",
        ),
        ("{% for x in [1, 2] %}{% for y in [x, 9] %}{{ y }}{% endfor %}{% endfor %}", "1929"),
        ("{{ 'a' ~ 1 ~ none ~ 2.5 }}", "a1None2.5"),
        ("{{ 'a' + 'b' }}{{ 2 + 3 }}{{ 'ab' * 2 }}{{ 2 * 1.5 }}{{ 2 ** 10 }}", "ab5abab3.01024"),
        ("{{ [1] + [2] }}", "[1, 2]"),
        ("{{ {'a': '<é>', 'b': [1, none]} | tojson }}", '{"a": "<é>", "b": [1, null]}'),
        ("{{ {'b': 1, 'a': 2} | tojson(indent=2, sort_keys=true) }}", '{\n  "a": 2,\n  "b": 1\n}'),
        ("{% generation %}said{% endgeneration %}", "said"),
        ("  {% if true %}\n  x\n  {% endif %}\n", "  x\n"),
        ("{{ strftime_now('%Y') | length }}", "4"),
        ("{% macro f(x) %}[{{ x }}]{% endmacro %}{{ f(1) ~ f(2) }}", "[1][2]"),
        (
            "{% set n = namespace(x=0) %}{% for x in [1, 2] %}{% set n.x = n.x + x %}{% endfor %}"
            "{{ n.x }}",
            "3",
        ),
    ],
)
def test_templates_mean_what_they_always_do(source: str, text: str) -> None:
    assert _run(source) == text


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ raise_exception('Roles must alternate!') }}", "Roles must alternate!"),
        ("{{ missing.field }}", "'missing' is undefined"),
        ("{{ 'a' + 1 }}", "refused these messages"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ none[0] }}{{ (none).x.y }}", "refused these messages"),
        ("{% for x in 5 %}{% endfor %}", "not iterable"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe|undefined"),
        ("{{ messages.append(1) }}", "not safely callable|unsafe"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
    ],
)
def test_what_fails_is_the_requests_fault(source: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        _run(source, messages=[])


@pytest.mark.parametrize(
    "source",
    [
        "{% for x in range(99999) %}{% for y in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in m %}{% for b in m %}{% for c in m %}{% endfor %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) ~ f(n - 1) }}{% endif %}{% endmacro %}{{ f(50) }}",
        "{% for x in range(1001) if false %}{% endfor %}",
    ],
)
def test_no_endless_loops(source: str) -> None:
    with pytest.raises(InvalidRequest, match="takes too long"):
        _run(source, SMALL, m=list(range(20)))


@pytest.mark.parametrize(
    "source",
    [
        "{% for x in range(999) %}{{ 'xx' }}{% endfor %}",
        "{{ 'x' * 999999999999 }}",
        "{{ 999999999999 * 'x' }}",
        "{{ [0] * 999999999999 }}",
        "{{ 9 ** 999999999 }}",
        "{% set n = namespace(s='x') %}{% for i in m %}{% set n.s = n.s + n.s %}{% endfor %}",
        "{% set n = namespace(s='x') %}{% for i in m %}{% set n.s = n.s ~ n.s %}{% endfor %}",
        "{% set n = namespace(x=3) %}{% for i in m %}{% set n.x = n.x * n.x %}{% endfor %}",
    ],
)
def test_no_endless_text(source: str) -> None:
    with pytest.raises(InvalidRequest, match="more than 1000 characters"):
        _run(source, SMALL, m=range(60))


def test_time_is_limited() -> None:
    with pytest.raises(InvalidRequest, match="takes too long"):
        _run("{% for x in range(9) %}{% endfor %}", Limits(seconds=-1))


def test_limits_are_for_one_run() -> None:
    sandbox = Sandbox(SMALL)
    template = sandbox.from_string("{% for x in range(900) %}{% endfor %}done")
    assert [sandbox.run(template, {}) for _ in range(3)] == ["done"] * 3
