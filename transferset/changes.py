"""What differs between what a folder was written with and what is asked for now, in words."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_CHECKSUM = re.compile("[0-9a-f]{32,128}")
_LONGEST = 200


def changes(found: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Every value of two JSON objects that differs, sorted, as `name: OLD there, NEW now`; names of nested
    values are joined by dots. Of a checksum, it is said that what it stands for is another."""
    old, new = (dict(_leaves(json.loads(json.dumps(values)))) for values in (found, given))
    names = sorted(name for name in old | new if old.get(name) != new.get(name))
    return [_told(name, old.get(name), new.get(name)) for name in names]


def _told(name: str, old: Any, new: Any) -> str:
    if _is_checksum(old) and _is_checksum(new):
        return f"{name.removesuffix('sha256').rstrip('._')}: other content than there"
    return f"{name}: {_text(old)} there, {_text(new)} now"


def _is_checksum(value: Any) -> bool:
    """A checksum, or a list of them."""
    if isinstance(value, list):
        return bool(value) and all(map(_is_checksum, value))
    return isinstance(value, str) and _CHECKSUM.fullmatch(value) is not None


def _text(value: Any) -> str:
    text = "none" if value is None else str(value)
    if isinstance(value, str) and _is_checksum(value):
        return f"{text[:12]}…"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
