"""What sidecars say about an image: the caption, the URL, and everything else as JSON text."""

import json
from dataclasses import dataclass

from curate.foreign_json import parse_json

SIDECAR_SUFFIXES = (".json", ".txt")
LARGEST_SIDECAR = 1 << 20


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is known of an item besides its bytes; `problem` says why a sidecar was not used."""

    caption: str | None = None
    url: str | None = None
    extra: str | None = None
    problem: str | None = None


def parse_metadata(json_data: bytes | None, text: bytes | None) -> Metadata:
    """Read an image's `.json` and `.txt`. The caption is the text file's, else the JSON's `caption`; the URL
    is the JSON's `url`; `extra` is the JSON object without them, None if nothing is left."""
    caption = _text(text.decode("utf-8", "replace")) if text is not None else None
    if json_data is None:
        return Metadata(caption)
    try:
        parsed = parse_json(json_data)
    except ValueError:
        return Metadata(caption, problem="the metadata is not JSON")
    if not isinstance(parsed, dict):
        return Metadata(caption, problem="the metadata is not a JSON object")
    if "caption" in parsed:
        own = _text(parsed["caption"])
        if own is None or caption is None or own == caption:
            caption = caption or own
            del parsed["caption"]
    url = _text(parsed.get("url"))
    if url is not None:
        del parsed["url"]
    extra = json.dumps(parsed, sort_keys=True, separators=(",", ":")) if parsed else None
    return Metadata(caption, url, extra)


def _text(value: object) -> str | None:
    """A string without white space around it; None for anything else and for an empty one."""
    return (value.strip() or None) if isinstance(value, str) else None
