"""A web site that behaves as sites do."""

import contextlib
import http.server
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

HANG = 8.0


@dataclass
class Site:
    """`behave[path]` is what a path does; others give their bytes of `files`. `hits` counts requests by path,
    `agents` holds their user agents."""

    port: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    behave: dict[str, Callable[[http.server.BaseHTTPRequestHandler], None]] = field(default_factory=dict)
    hits: Counter[str] = field(default_factory=Counter)
    agents: set[str] = field(default_factory=set)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


def answer(handler: Any, data: bytes, status: int = 200, **headers: str) -> None:
    """A whole answer; names of headers with _ for -."""
    handler.send_response(status)
    for name, value in {"Content_Length": str(len(data)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(data)


def status(code: int) -> Callable[[Any], None]:
    return lambda handler: answer(handler, b"no", code)


def redirect(where: str) -> Callable[[Any], None]:
    return lambda handler: answer(handler, b"", 302, Location=where)


def gives(data: bytes, **headers: str) -> Callable[[Any], None]:
    return lambda handler: answer(handler, data, **headers)


def hangs(handler: Any) -> None:
    time.sleep(HANG)


def drips(handler: Any) -> None:
    """A byte now and then, for longer than anyone waits."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b"x")
        handler.wfile.flush()
        time.sleep(0.1)


def never_ends(handler: Any) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(bytes(1 << 16))


def breaks_off(data: bytes) -> Callable[[Any], None]:
    def run(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[: len(data) // 2])
        handler.close_connection = True

    return run


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


@contextlib.contextmanager
def sites() -> Iterator[Callable[[], Site]]:
    """Makes sites on 127.0.0.1, which end with the context."""
    servers = []

    def make() -> Site:
        site = Site()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                site.hits[path] += 1
                site.agents.add(self.headers["User-Agent"])
                with contextlib.suppress(OSError):
                    if path in site.behave:
                        site.behave[path](self)
                    elif path in site.files:
                        answer(self, site.files[path])
                    else:
                        answer(self, b"<html>nothing here</html>", 404)

        server = _Server(("127.0.0.1", 0), Handler)
        site.port = server.server_port
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return site

    try:
        yield make
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
