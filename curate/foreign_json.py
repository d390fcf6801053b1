"""JSON that others wrote, as values that every file and every answer of ours can hold."""

import json
import math
from typing import Any

from transferset.prompts import valid_text

MOST_NESTED = 100
"""Objects and lists within each other."""
_DECODER = json.JSONDecoder(parse_constant=lambda _: None)


def parse_json(text: str | bytes) -> Any:
    """What a JSON text holds, with escapes for what is no character (half of a surrogate pair), and None for
    what is no number. ValueError if it is no JSON, or nested too deeply."""
    return _storable(_loaded(text), MOST_NESTED)


def stored_object(text: str | None) -> dict[str, Any] | None:
    """The JSON object that an item's `extra` is, as `parse_json` gives it: an index that others wrote, or an
    older one, may hold anything. None where it is no object."""
    try:
        value = _loaded(text) if text else None
        if text and ("\\ud" in text or text.count("{") + text.count("[") > MOST_NESTED):
            value = _storable(value, MOST_NESTED)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _loaded(text: str | bytes) -> Any:
    try:
        if isinstance(text, bytes):
            text = text.decode(json.detect_encoding(text), "surrogatepass")
        return _DECODER.decode(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _storable(value: Any, levels: int) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else valid_text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if not isinstance(value, dict | list):
        return value
    if levels == 0:
        raise ValueError("nested too deeply")
    if isinstance(value, list):
        return [_storable(one, levels - 1) for one in value]
    return {_storable(name, 0): _storable(one, levels - 1) for name, one in value.items()}
