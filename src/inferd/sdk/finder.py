"""From a file to the model class in it."""

import itertools
import sys
import traceback
import types
from pathlib import Path

from inferd.errors import BackendError
from inferd.sdk.model import Model

_numbers = itertools.count(1)


def find_model_class(path: Path, name: str = "") -> type[Model]:
    """Run a Python file and give its model class of that name, or the only one.

    The file becomes a module of its own at each call, and modules beside it can be imported; the
    caller sees to it that they are new when they have changed. Raises BackendError with file, line
    and message where the file raises, and naming the classes there are where the choice fails.
    """
    path = Path(path).resolve()
    module = _run(path)
    classes = {
        attribute: value
        for attribute, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, Model)
        and value is not Model
        and (value.__module__ == module.__name__ or attribute == name)
    }
    if name in classes:
        return classes[name]
    own = {id(c): attribute for attribute, c in reversed(classes.items()) if hasattr(c, "predict")}
    if not name and len(own) == 1:
        return classes[next(iter(own.values()))]
    there = ", ".join(sorted(own.values()))
    if not there:
        raise BackendError(f"{path}: there is no subclass of inferd.Model in it")
    if name:
        raise BackendError(f"{path}: there is no model class '{name}' in it; there are: {there}")
    raise BackendError(f"{path}: there are several models in it, say which: {there}")


def _run(path: Path) -> types.ModuleType:
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module = types.ModuleType(f"inferd_model_{path.stem}_{next(_numbers)}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    try:
        # Compiled here, since a cached one is told from a new one by whole seconds only.
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        raise BackendError(_words(path, error)) from error
    return module


def _words(path: Path, error: BaseException) -> str:
    what = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):
        return f"{error.filename or path}, line {error.lineno}: {type(error).__name__}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == str(path)]
    return f"{path}, line {own[-1].lineno}: {what}" if own else f"{path}: {what}"
