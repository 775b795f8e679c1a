from pathlib import Path
from typing import Any

import msgspec
import pytest

import inferd
from inferd.sdk.options import ModelOptions
from inferd.workers.memory import SLOTS


def make(name: str = "M", base: type = inferd.Model, /, **keywords: Any) -> type[inferd.Model]:
    made: type[inferd.Model] = type(name, (base,), {}, **keywords)
    return made


def test_options_are_keywords_of_the_class() -> None:
    class Digits(inferd.Model, max_batch_size=64, instances=2, requirements=["numpy"]):
        pass

    assert Digits.options == ModelOptions(
        name="Digits", max_batch_size=64, instances=2, requirements=("numpy",)
    )


def test_options_are_inherited_but_not_the_name() -> None:
    first = make("First", max_batch_size=8, name="one")
    second = make("Second", first, instances=3)
    assert first.options.name == "one"
    assert second.options == ModelOptions(name="Second", max_batch_size=8, instances=3)


def test_options_cross_processes() -> None:
    options = make(max_batch_size=3, python=Path("/env"), timeout_s=2).options
    again = msgspec.json.decode(msgspec.json.encode(options), type=ModelOptions)
    assert again == options
    assert again.python == "/env"
    assert again.timeout_s == 2.0


def test_an_unknown_option_is_refused_with_the_nearest() -> None:
    with pytest.raises(TypeError, match=r"M: there is no option 'max_batchsize'; did you mean "
                                        r"'max_batch_size'\?"):  # fmt: skip
        make(max_batchsize=4)
    with pytest.raises(TypeError, match="there are: name, max_batch_size, "):
        make(zzzz=1)


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"max_batch_size": -1}, "M: option 'max_batch_size': expected int >= 0"),
        ({"max_batch_size": "8"}, "option 'max_batch_size': expected int, got str"),
        ({"instances": 0}, "option 'instances': expected int >= 1"),
        ({"max_concurrency": SLOTS + 1}, f"option 'max_concurrency': expected int <= {SLOTS}"),
        ({"device": "gpu"}, "option 'device': expected auto, cpu, cuda or cuda:N, got 'gpu'"),
        ({"isolation": "container"}, "option 'isolation': invalid enum value 'container'"),
        ({"name": "a/b"}, "option 'name': use letters"),
        ({"name": ".."}, "option 'name': use letters"),
        ({"mount": "demo"}, "option 'mount': expected a path such as /demo, got 'demo'"),
        ({"python": "/env", "requirements": ["a"]}, "'python' and 'requirements': give one"),
        ({"isolation": "thread", "memory_limit_mb": 5}, "a thread has no environment"),
        ({"timeout_s": -1.0}, "option 'timeout_s': expected float >= 0"),
    ],
)
def test_wrong_options_are_refused_at_the_class(keywords: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError) as raised:
        make(**keywords)
    assert words in str(raised.value)


def test_the_name_a_class_has_from_python_must_do_too() -> None:
    with pytest.raises(TypeError, match="option 'name': use letters"):
        make("_Hidden")
    assert make("_Hidden", name="hidden").options.name == "hidden"


def test_an_instance_knows_name_device_and_log_before_load() -> None:
    model = make("Digits", device="cuda:1")()
    assert (model.name, model.device, model.log.name) == (
        "Digits", "cuda:1", "inferd.model.Digits",
    )  # fmt: skip
    assert make()().device == "cpu"
