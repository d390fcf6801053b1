"""A mapping out of a YAML file, read key by key: every error names the key and what was expected."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transferset.errors import UsageError
from transferset.models.spec import parse_spec

MISSING: Any = object()
LARGEST = 2**31 - 1  # as --seed has it
FORBIDDEN = set('/\\*?[]"\0') | {chr(code) for code in range(32)}


class Section:
    """The keys of `name` in the file `source`; `done` refuses those that nobody asked for."""

    def __init__(self, source: Path, name: str, values: Any) -> None:
        self.source = source
        self.name = name
        if values is None:
            values = {}
        if not isinstance(values, dict):
            raise self.error(name, "a mapping (key: value)", values)
        self.values = {str(key): value for key, value in values.items()}
        self._asked: set[str] = set()

    def error(self, name: str, expected: str, found: Any) -> UsageError:
        """What to raise for a key."""
        return UsageError(f"{self.source}: {name or 'the file'} must be {expected}, not {found!r}")

    def where(self, key: str) -> str:
        """The key as errors name it."""
        return f"{self.name}.{key}" if self.name else key

    def take(self, key: str, read: Callable[[Any], Any], expected: str, default: Any = MISSING) -> Any:
        """`read` of the value; a missing one is `default`, or an error. `read` raises TypeError or ValueError
        for what is not `expected`, or a UsageError that says more."""
        self._asked.add(key)
        value = self.values.get(key)
        if value is None:
            if default is MISSING:
                raise UsageError(
                    f"{self.source}: {self.where(key)} is missing", hint=f"{self.where(key)}: {expected}"
                )
            return default
        try:
            return read(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise self.error(self.where(key), expected, value) from error
        except UsageError as error:
            raise UsageError(f"{self.source}: {self.where(key)}: {error.message}", error.hint) from error

    def section(self, key: str) -> "Section":
        """A mapping within; missing is empty."""
        self._asked.add(key)
        return Section(self.source, self.where(key), self.values.get(key))

    def done(self) -> None:
        """UsageError for a key that is none of those asked for."""
        unknown = sorted(self.values.keys() - self._asked)
        if unknown:
            known = ", ".join(sorted(self._asked))
            raise UsageError(
                f"{self.source}: unknown key {self.where(unknown[0])}", hint=f"known here: {known}"
            )


def folder_name(section: Section, name: str) -> str:
    """A key that can be a folder; UsageError for any other."""
    if not name or FORBIDDEN & set(name) or name.startswith("."):
        raise section.error(f"the name {section.where(name)!r}", "letters, digits, dots and dashes", name)
    return name


def words(value: Any) -> str:
    """A string that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise TypeError
    return value.strip()


def number(value: Any) -> float:
    """A finite number; YAML takes `4e-3` for a string, we don't."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    found = float(value)
    if not abs(found) < float("inf"):
        raise ValueError
    return found


def positive(value: Any) -> float:
    """A number above 0."""
    found = number(value)
    if found <= 0:
        raise ValueError
    return found


def part(value: Any) -> float:
    """A number above 0, at most 1."""
    found = positive(value)
    if found > 1:
        raise ValueError
    return found


def whole(value: Any) -> int:
    """An integer of at least 0; UsageError for one that is larger than any seed or number of steps."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise TypeError
    if value > LARGEST:
        raise UsageError(f"the number is larger than {LARGEST}", hint="give a smaller one")
    return value


def count(value: Any) -> int:
    """An integer of at least 1."""
    found = whole(value)
    if found < 1:
        raise ValueError
    return found


def flag(value: Any) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise TypeError
    return value


def several(read: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    """Different values, at least one; a single one needs no list."""

    def reader(value: Any) -> tuple[Any, ...]:
        found = tuple(read(one) for one in (value if isinstance(value, list) else [value]))
        if not found or len(set(found)) < len(found):
            raise ValueError
        return found

    return reader


def one_of(*choices: str) -> Callable[[Any], str]:
    """One of these words."""

    def reader(value: Any) -> str:
        if value not in choices:
            raise ValueError
        return str(value)

    return reader


def share(value: Any) -> float:
    """A number of at least 0 and less than 1."""
    found = number(value)
    if not 0 <= found < 1:
        raise ValueError
    return found


def up_to_one(value: Any) -> float:
    """A number of at least 0, at most 1."""
    found = number(value)
    if not 0 <= found <= 1:
        raise ValueError
    return found


def model_spec(value: Any) -> str:
    """The spec of a model, as it is written in full."""
    try:
        return str(parse_spec(words(value)))
    except UsageError as error:
        raise ValueError(error.message) from error


def not_negative(value: Any) -> float:
    """A number of at least 0."""
    found = number(value)
    if found < 0:
        raise ValueError
    return found
