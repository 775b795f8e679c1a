"""A `config.json` read field by field, each with its type; what is wrong is said with its name.

Pure: a mapping in, plain values out. It refuses to know what any field means.
"""

import sys
from collections.abc import Mapping

from inferd.errors import ConfigError, Unsupported


class Fields:
    """The fields of a JSON object; `file` and `path` are where it stands, for errors.

    A field that is null counts as absent, except for the readers `*_or_off`. A reader without a
    default raises ConfigError when the field is absent; a value of the wrong type always does.
    """

    __slots__ = ("_path", "_values", "file")

    def __init__(
        self, values: Mapping[str, object], file: str = "config.json", path: str = ""
    ) -> None:
        self._values = values
        self._path = path
        self.file = file

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) is not None

    def on(self, name: str) -> bool:
        """Whether the field has a value other than null, false, 0 or something empty."""
        return bool(self._values.get(name))

    def error(self, name: str, message: str) -> ConfigError:
        """An error about field `name`, to raise."""
        return ConfigError(message, file=self.file, field=self._path + name)

    def unsupported(self, name: str, message: str) -> Unsupported:
        """An error about a value of field `name` that has a meaning and no implementation."""
        return Unsupported(f"{self.file}: {self._path}{name}: {message}")

    def integer(self, name: str, default: int | None = None, least: int = 1) -> int:
        """A whole number, `least` or more."""
        value = self._value(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self.error(name, f"must be a whole number, {least} or more, not {value!r}")
        return value

    def integer_or_off(self, name: str, default: int = 0) -> int:
        """A whole number that null turns off: 0 then, and `default` when absent."""
        off = name in self._values and self._values[name] is None
        return 0 if off else self.integer(name, default, least=0)

    def number(self, name: str, default: float | None = None) -> float:
        """A finite number."""
        value = self._value(name, default)
        if not isinstance(value, int | float) or not _is_number(value):
            raise self.error(name, f"must be a number, not {value!r}")
        return float(value)

    def positive(self, name: str, default: float | None = None) -> float:
        """A finite number above 0."""
        value = self.number(name, default)
        if value <= 0:
            raise self.error(name, f"must be above 0, not {value!r}")
        return value

    def number_or_off(self, name: str, default: float = 0.0) -> float:
        """A number above 0 that null or 0 turns off: 0.0 then, and `default` when absent."""
        if name in self._values and self._values[name] is None:
            return 0.0
        value = self.number(name, default)
        if value < 0:
            raise self.error(name, f"must be 0 or more, not {value!r}")
        return value

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self._value(name, default)
        if not isinstance(value, bool):
            raise self.error(name, f"must be true or false, not {value!r}")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """A string."""
        value = self._value(name, default)
        if not isinstance(value, str):
            raise self.error(name, f"must be a string, not {value!r}")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings; empty when absent."""
        value = self._value(name, ())
        if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
            raise self.error(name, f"must be a list of strings, not {value!r}")
        return tuple(value)

    def numbers(self, name: str, length: int) -> tuple[float, ...]:
        """A list of `length` numbers above 0."""
        value = self._value(name, None)
        if not isinstance(value, list | tuple) or len(value) != length:
            raise self.error(name, f"must be a list of {length} numbers")
        items = Fields({str(i): v for i, v in enumerate(value)}, self.file, f"{self._path}{name}.")
        return tuple(items.positive(str(i)) for i in range(length))

    def token_ids(self, name: str) -> tuple[int, ...]:
        """One token id or a list of them; empty when absent."""
        value = self._value(name, ())
        ids = value if isinstance(value, list | tuple) else (value,)
        if not all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in ids):
            raise self.error(name, f"must be a token id or a list of them, not {value!r}")
        return tuple(ids)

    def inner(self, name: str) -> "Fields":
        """The object in field `name`; one without fields when absent."""
        value = self._value(name, {})
        if not isinstance(value, Mapping):
            raise self.error(name, f"must be an object, not {value!r}")
        return Fields(value, self.file, f"{self._path}{name}.")

    def over(self, defaults: Mapping[str, object]) -> "Fields":
        """These fields, with those of `defaults` where absent."""
        absent = {name: value for name, value in defaults.items() if name not in self}
        return Fields({**self._values, **absent}, self.file, self._path)

    def _value(self, name: str, default: object) -> object:
        value = self._values.get(name)
        if value is not None:
            return value
        if default is None:
            raise self.error(name, "is missing")
        return default


def _is_number(value: int | float) -> bool:
    """Finite, and neither a truth value nor too large for a float."""
    return not isinstance(value, bool) and abs(value) < sys.float_info.max
