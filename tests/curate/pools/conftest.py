"""A local HTTP server that answers range requests, and can be told to fail."""

import http.server
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest


@dataclass
class Served:
    """A folder on a port of this machine. `requests` are (method, path, range); `fail(method, path, number)`
    may give a status to answer the number-th request with; without `ranges` they are not answered."""

    folder: Path
    url: str = ""
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    fail: Callable[[str, str, int], int | None] | None = None
    ranges: bool = True


class _Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, served: Served, *arguments: Any) -> None:
        self._served = served
        super().__init__(*arguments, directory=str(served.folder))

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _fails(self) -> bool:
        served = self._served
        served.requests.append((self.command, self.path, self.headers.get("Range")))
        status = served.fail(self.command, self.path, len(served.requests)) if served.fail else None
        if status is not None:
            self.send_error(status)
        return status is not None

    def do_HEAD(self) -> None:
        if not self._fails():
            super().do_HEAD()

    def do_GET(self) -> None:
        if self._fails():
            return
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        path = Path(self.translate_path(self.path))
        if not asked or not path.is_file() or not self._served.ranges:
            super().do_GET()
            return
        data = path.read_bytes()
        start, end = int(asked[1]), min(int(asked[2]), len(data) - 1)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{end}/{len(data)}")
        self.send_header("Content-Length", str(end - start + 1))
        self.end_headers()
        self.wfile.write(data[start : end + 1])


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """The folder tmp_path/web, served."""
    pytest.importorskip("aiohttp")
    from curate.pools import remote

    monkeypatch.setattr(remote, "PAUSES", (0.0, 0.0))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "web").mkdir()
    served = Served(tmp_path / "web")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, served))
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield served
    server.shutdown()
    server.server_close()
    thread.join()
