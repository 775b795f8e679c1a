"""The options of a model, which its author writes as keywords of the class."""

import difflib
import os
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from inferd.sdk.mismatch import from_msgspec

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")

_Count = Annotated[int, msgspec.Meta(ge=1)]
_CountOrNone = Annotated[int, msgspec.Meta(ge=0)]


class ModelOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of one model class.

    `max_batch_size` 0 is a model that takes one item a call. `instances` is how many copies run
    side by side; each of an async model serves up to `max_concurrency` calls at a time. A run may
    take `timeout_s` seconds, 0 is no limit. `memory_limit_mb` is for one worker, 0 is no limit.
    `python` is an interpreter or the folder of an environment, `requirements` are packages for an
    environment of its own. `isolation` "thread" runs the model in the server's own process, which
    takes a synchronous class without streams, sessions, `explain`, `asgi` and `depends`. `mount` is
    the path below which the class's `asgi` answers, empty for /models/{name}/app. An instance
    keeps the state of `max_sessions` sessions, each until it has been unused for `session_idle_s`
    seconds.
    """

    name: str = ""
    max_batch_size: _CountOrNone = 0
    max_queue_delay_microseconds: _CountOrNone = 0
    instances: _Count = 1
    max_concurrency: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 64
    device: str = "auto"
    timeout_s: Annotated[float, msgspec.Meta(ge=0)] = 60.0
    isolation: Literal["process", "thread"] = "process"
    memory_limit_mb: _CountOrNone = 0
    python: str = ""
    requirements: tuple[str, ...] = ()
    mount: str = ""
    max_sessions: _Count = 1024
    session_idle_s: Annotated[float, msgspec.Meta(gt=0)] = 3600.0


OPTION_NAMES = ModelOptions.__struct_fields__


def read_options(
    class_name: str, keywords: Mapping[str, Any], inherited: ModelOptions
) -> ModelOptions:
    """The options of a class from its keywords, over those of its base class.

    The name is not inherited. Raises TypeError that names the keyword and, for one that is not
    known, the nearest that is.
    """
    for keyword in keywords:
        if keyword not in OPTION_NAMES:
            raise TypeError(f"{class_name}: there is no option '{keyword}'; {_nearest(keyword)}")
    values = {**msgspec.structs.asdict(inherited), "name": class_name, **keywords}
    if isinstance(values["python"], os.PathLike):
        values["python"] = os.fspath(values["python"])
    try:
        options = msgspec.convert(values, ModelOptions)
    except msgspec.ValidationError as error:
        wrong = from_msgspec(error)
        raise TypeError(f"{class_name}: option '{wrong.path[1:]}': {wrong.text}") from None
    _check(class_name, options)
    return options


def _nearest(keyword: str) -> str:
    near = difflib.get_close_matches(keyword, OPTION_NAMES, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(OPTION_NAMES)}"


def _check(class_name: str, options: ModelOptions) -> None:
    wrong = ""
    if not _NAME.fullmatch(options.name):
        wrong = "option 'name': use letters, digits, '_', '-' and '.', at most 128"
    elif not _DEVICE.fullmatch(options.device):
        wrong = f"option 'device': expected auto, cpu, cuda or cuda:N, got '{options.device}'"
    elif options.mount and not re.fullmatch(r"(/[^/?#\s]+)+", options.mount):
        wrong = f"option 'mount': expected a path such as /demo, got '{options.mount}'"
    elif options.python and options.requirements:
        wrong = "options 'python' and 'requirements': give one of them"
    elif options.isolation == "thread" and (
        options.python or options.requirements or options.memory_limit_mb
    ):
        wrong = (
            "option 'isolation': a thread has no environment and no memory of its own; "
            "leave out python, requirements and memory_limit_mb, or choose process"
        )
    if wrong:
        raise TypeError(f"{class_name}: {wrong}")
