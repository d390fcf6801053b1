"""What tells one version of a remote file from another, as a number."""

import datetime
import hashlib
from collections.abc import Mapping
from typing import Any

_TIMES = ("mtime", "LastModified", "last_modified", "updated", "modified", "Last-Modified", "created")
_VERSIONS = ("ETag", "etag", "Content-MD5", "md5Hash", "content_md5", "Digest", "checksum")


def stamp(info: Mapping[str, Any]) -> int:
    """Of fsspec's `info`: the checksum that the server tells, else the time of the last change, as a number;
    0 if it tells neither. A number says nothing but "the same" or "another"."""
    for name in (*_VERSIONS, *_TIMES):
        value = info.get(name)
        if isinstance(value, datetime.datetime):
            return int(value.timestamp() * 1_000_000) * 1_000
        if isinstance(value, int | float) and not isinstance(value, bool):
            return int(value * 1_000_000_000)
        if isinstance(value, str | bytes) and value:
            data = value.encode() if isinstance(value, str) else value
            return int.from_bytes(hashlib.sha256(data).digest()[:7], "big")
    return 0
