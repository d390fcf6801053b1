"""`curate serve` as a user starts it."""

import base64
import http.client
import importlib.metadata
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 120
RunPython = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.skipif(
    "serve" not in importlib.metadata.entry_points(group="transferset.curate_commands").names,
    reason="transferset is not installed, so curate has no contributed command",
)


@dataclass
class Served:
    """A running `curate serve`: its process, its port, and what it has said."""

    process: subprocess.Popen[str]
    port: int = 0
    lines: list[str] = field(default_factory=list)

    def request(
        self, method: str, path: str, body: object = None, kind: str = "application/json"
    ) -> tuple[int, bytes]:
        """One request on a connection of its own: status and body of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {"Content-Type": kind} if body else {})  # type: ignore[arg-type]
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


@pytest.fixture
def served(index_path: Path) -> Iterator[Served]:
    """The service on a free port, with a small limit on the body."""
    process = subprocess.Popen(
        [sys.executable, "-m", "curate.cli", "serve", "--index", str(index_path), "--port", "0",
         "--max-body-bytes", "100000"],
        stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    one = Served(process)
    ready = threading.Event()

    def listen() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            one.lines.append(line)
            found = re.search(r"on http://127\.0\.0\.1:(\d+)", line)
            if found:
                one.port = int(found[1])
                ready.set()
        ready.set()

    threading.Thread(target=listen, daemon=True).start()
    try:
        assert ready.wait(START_SECONDS) and one.port, one.lines
        yield one
    finally:
        process.kill()
        process.wait()


def test_serves_refuses_and_stops(served: Served, query_images: list[bytes]) -> None:
    status, body = served.request("GET", "/healthz")
    assert (status, json.loads(body)["status"]) == (200, "ok")
    query = {"image": base64.b64encode(query_images[0]).decode(), "label": "cat"}
    status, body = served.request("POST", "/retrieve", json.dumps({"queries": [query], "total": 3}))
    answer = json.loads(body)
    assert (status, answer["returned"]) == (200, 3)
    status, body = served.request("GET", answer["results"][0]["image_url"])
    assert (status, body[:2]) == (200, b"\xff\xd8")
    status, body = served.request("POST", "/retrieve", b" " * 150_000)
    assert (status, json.loads(body)["error"]["code"]) == (413, "body_too_large")
    chunks = iter([b" " * 50_000] * 3)
    status, body = served.request("POST", "/retrieve", chunks)
    assert (status, json.loads(body)["error"]["code"]) == (413, "body_too_large")
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(30) == 0
    assert "Traceback" not in "".join(served.lines)


def test_a_port_in_use_and_a_wrong_index(run_python: RunPython, index_path: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_python(["-m", "curate.cli", "serve", "--index", str(index_path), "--port", str(port)])
    assert done.returncode == 2
    assert str(port) in done.stderr and "hint:" in done.stderr
    done = run_python(["-m", "curate.cli", "serve", "--index", str(tmp_path), "--port", "0"])
    assert done.returncode == 3
    assert "is not an index" in done.stderr
    done = run_python(
        ["-m", "curate.cli", "serve", "--index", str(index_path)], env={"TRANSFERSET_MAX_QUERIES": "many"}
    )
    assert done.returncode == 2
    assert "max_queries" in done.stderr


def test_help_names_the_limits(run_python: RunPython) -> None:
    done = run_python(["-m", "curate.cli", "serve", "--help"], env={"COLUMNS": "200"})
    assert done.returncode == 0
    assert "--max-body-bytes" in done.stdout and "127.0.0.1" in done.stdout
