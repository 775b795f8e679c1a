from pathlib import Path

import pytest

from inferd.cli.options import ServerCommand
from inferd.cli.serve import serve
from inferd.cli.triton_options import (
    BOOLEANS,
    FLAGS,
    IGNORED,
    REFUSED,
    TAKEN,
    TRITON_NAMES,
    UnusableOption,
    translate,
)


def words(*arguments: str) -> list[str]:
    translation = translate(list(arguments))
    assert translation.ignored == []
    return translation.arguments


# -- what is taken --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "ours"),
    [
        (["--model-repository=/a", "--model-repository", "/b"], ["/a", "/b"]),
        (["--model-store=/a"], ["/a"]),
        (["--allow-http=false", "--allow-grpc", "1"], ["--no-http", "--grpc"]),
        (["--allow-metrics", "False"], ["--no-metrics"]),
        (["--allow-client-shm", "true"], ["--shared-memory", "system"]),
        (["--allow-client-shm=false"], ["--shared-memory", "none"]),
        (["--strict-readiness=0"], ["--no-strict-readiness"]),
        (["--strict-readiness", "repo"], ["--strict-readiness", "repo"]),
        (["--exit-on-error=True"], ["--exit-on-error"]),
        (["--disable-auto-complete-config"], ["--no-auto-complete-config"]),
        (["--strict-model-config=false"], ["--auto-complete-config"]),
        (["--strict-model-config", "true"], ["--no-auto-complete-config"]),
        (["--log-verbose=1", "--log-info=false"], ["--log-verbose", "1", "--no-log-info"]),
        (["--log-verbose=true"], ["--log-verbose", "1"]),
        (["--grpc-use-ssl=1"], ["--grpc-use-ssl", "true"]),
        (["--grpc-keepalive-time", "7200000"], ["--grpc-keepalive-secs", "7200.0"]),
        (["--grpc-max-connection-age=1500"], ["--grpc-max-connection-age-secs", "1.5"]),
        (["--trace-level=TIMESTAMPS"], ["--trace-config", "level=TIMESTAMPS"]),
        (["--trace-log-frequency", "9"], ["--trace-config", "triton,log-frequency=9"]),
        (["--response-cache-byte-size=9"], ["--cache-config", "local,size=9"]),
        (["--response-cache-byte-size=0"], []),
        (["--allow-sagemaker=false", "--model-namespacing=0"], []),
        (["--http-port=1", "-x", "--foo", "bar"], ["--http-port=1", "-x", "--foo", "bar"]),
        (["--", "--allow-http=false"], ["--", "--allow-http=false"]),
    ],
)
def test_an_option_of_tritons_is_said_in_our_words(given: list[str], ours: list[str]) -> None:
    assert words(*given) == ours


def test_every_word_of_ours_is_an_option_that_there_is() -> None:
    known = {name for option in serve.params for name in (*option.opts, *option.secondary_opts)}
    for name, translated in TAKEN.items():
        for value in ("true", "false") if name in BOOLEANS else ("1",):
            option, *_ = translated(value)
            assert option in known or name in ("model-repository", "model-store"), name


# -- what is not ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(IGNORED))
def test_an_option_that_changes_nothing_is_told_with_its_reason(name: str) -> None:
    value = "true" if name in BOOLEANS else "5"
    for arguments in ([f"--{name}={value}", "repo"], [f"--{name}", value, "repo"]):
        translation = translate(arguments)
        assert translation.arguments == ["repo"]
        assert translation.ignored == [f"--{name}: {IGNORED[name]}"]


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_an_option_that_cannot_be_left_out_of_account_is_refused(name: str) -> None:
    value = "true" if name in BOOLEANS else "inference:key=value"
    with pytest.raises(UnusableOption, match=f"^--{name} is not"):
        translate([f"--{name}={value}"])


def test_an_option_is_one_thing() -> None:
    assert len(TRITON_NAMES) == len(TAKEN) + len(IGNORED) + len(REFUSED)
    assert TRITON_NAMES >= BOOLEANS | FLAGS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--allow-http=maybe"], "--allow-http takes true or false, not 'maybe'"),
        (["--http-thread-count"], "--http-thread-count needs a value"),
        (["--disable-auto-complete-config=true"], "takes no value"),
        (["--grpc-keepalive-time=2h"], "takes whole milliseconds, not '2h'"),
    ],
)
def test_a_value_that_is_wrong_is_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(UnusableOption, match=message):
        translate(arguments)


# -- the command line -----------------------------------------------------------------------------

HELP = Path(__file__).with_name("tritonserver_options.txt")
"""Every option of tritonserver 2.51, a line each."""


def test_every_option_of_tritonserver_is_known() -> None:
    assert isinstance(serve, ServerCommand)
    ours = {name.removeprefix("--") for option in serve.params for name in option.opts}
    theirs = set(HELP.read_text().split()) - {"help"}
    assert theirs <= ours | TRITON_NAMES
