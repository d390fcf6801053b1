"""The scans of a JPEG: each costs the decoder a pass over the whole image, and the file a few bytes."""

import re
import struct

import numpy as np

MOST_SCANS = 100
"""Encoders write about ten."""
MOST_SEGMENTS = 10_000
_SEQUENTIAL = (0xC0, 0xC1, 0xC9)
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Markers that have a length; any others, and what stands between segments, a decoder passes over.
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")
_SCAN, _END = 0xDA, 0xD9


def has_too_many_scans(data: bytes) -> bool:
    """Whether a JPEG has more than `MOST_SCANS`, or endless segments before its end. Of one that a decoder
    goes through once, only what comes before the pixels is looked at."""
    scans, position = 0, 2
    frame, channels = 0, 0
    for _ in range(MOST_SEGMENTS):
        found = _MARKER.search(data, position)
        if found is None or found.end() + 2 > len(data):
            return False
        marker, body = data[found.end() - 1], found.end() + 2
        if marker == _END:
            return False
        if marker in _FRAMES and not frame:
            frame, channels = marker, int.from_bytes(data[body + 5 : body + 6])
        if marker == _SCAN:
            in_one = frame in _SEQUENTIAL and data[body : body + 1] >= bytes([channels])
            if not scans and (in_one or _most_scans(data) <= MOST_SCANS):
                return False
            scans += 1
            if scans > MOST_SCANS:
                return True
        (length,) = struct.unpack_from(">H", data, body - 2)
        position = body - 2 + max(length, 2)
    return True


def _most_scans(data: bytes) -> int:
    """How often the marker of a scan stands anywhere in `data`: in pixels it can't, in a preview it may."""
    content = np.frombuffer(data, np.uint8)
    return sum(
        int(np.count_nonzero(content[start : start + (len(data) - start) // 2 * 2].view("<u2") == 0xDAFF))
        for start in (0, 1)
    )
