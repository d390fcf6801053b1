"""urllib's opener within limits, for the process in which img2dataset downloads.

img2dataset's downloader calls `urllib.request.urlopen` and reads the whole answer. This opener makes that
safe on URLs that nobody vouches for: addresses are checked where the connection is made, at every redirect
hop (`addresses`), and so are opt-out headers; nothing but http and https is spoken; an answer ends with an
error when it passes a number of bytes or a time in all, however slowly or endlessly it comes; one host gets a
few requests at a time. What goes wrong comes out as a `Failure` with its reason.
"""

import contextlib
import http.client
import io
import socket
import ssl
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from curate.fetch.addresses import AddressRule
from curate.fetch.explanations import explain
from curate.fetch.opt_out import opts_out
from curate.fetch.options import DownloadOptions
from curate.fetch.reasons import OPT_OUT, TOO_LARGE, TOO_SLOW, Failure
from curate.fetch.urls import requestable

_HEADER_BYTES = 256 << 10


@dataclass(frozen=True)
class Budget:
    """What one image may take: `deadline` on the clock of `time.monotonic`."""

    rule: AddressRule
    deadline: float
    timeout: float
    max_seconds: float
    max_bytes: int
    token: str
    directives: tuple[str, ...]

    def require_consent(self, headers: Any) -> None:
        """Failure if an answer's headers forbid the use of images."""
        if directive := opts_out(headers.get_all("X-Robots-Tag", []), self.token, self.directives):
            raise Failure(OPT_OUT, f"the host's X-Robots-Tag says {directive}")

    def wait(self) -> float:
        """Seconds that the next step may wait; Failure if there are none left."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise Failure(TOO_SLOW, f"not there after {self.max_seconds:g} s")
        return min(self.timeout, left)

    def connect(self, where: tuple[str, int], *_: Any) -> socket.socket:
        """Stands for `socket.create_connection`."""
        return self.rule.connect(*where, self.wait())


class GuardedOpener(urllib.request.OpenerDirector):
    """An opener for http and https without proxies, cookies, files, ftp or data URLs."""

    def __init__(self, options: DownloadOptions) -> None:
        super().__init__()
        self._options = options
        self._rule = AddressRule.of(options.allow_private_hosts, options.allowed_networks)
        self._hosts: dict[str, threading.Semaphore] = defaultdict(
            lambda: threading.Semaphore(options.per_host)
        )
        self._lock = threading.Lock()
        for handler in (
            *((urllib.request.ProxyHandler(),) if options.allow_private_hosts else ()),
            urllib.request.UnknownHandler(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
            _Redirects(options.max_redirects),
            _Http(),
            _Https(),
        ):
            self.add_handler(handler)

    def open(self, fullurl: Any, data: Any = None, timeout: Any = None) -> Any:
        """Answer to a request; Failure, and nothing else, where there is none."""
        if hasattr(fullurl, "redirect_dict"):  # a hop of a request that is being opened
            return super().open(fullurl, data, self._options.timeout)
        given = fullurl if isinstance(fullurl, str) else fullurl.full_url
        headers = {} if isinstance(fullurl, str) else dict(fullurl.header_items())
        request = urllib.request.Request(requestable(given), headers=headers)
        host = self._host(request.host)
        host.acquire()
        release = _once(host.release)
        try:
            request.budget = self._budget()  # type: ignore[attr-defined]
            answer = super().open(request, data, self._options.timeout)
            with _closed_on_error(answer):
                request.budget.require_consent(answer.headers)  # type: ignore[attr-defined]
        except Exception as error:
            release()
            raise explain(error) from error
        except BaseException:
            release()
            raise
        answer.on_close = release
        return answer

    def _host(self, name: str) -> threading.Semaphore:
        with self._lock:
            return self._hosts[name]

    def _budget(self) -> Budget:
        chosen = self._options
        deadline = time.monotonic() + chosen.max_seconds
        return Budget(
            self._rule,
            deadline,
            chosen.timeout,
            chosen.max_seconds,
            chosen.max_bytes,
            chosen.user_agent_token,
            chosen.directives,
        )


@contextlib.contextmanager
def _closed_on_error(answer: Any) -> Iterator[None]:
    try:
        yield
    except BaseException:
        answer.close()
        raise


def _once(act: Callable[[], None]) -> Callable[[], None]:
    todo = [act]

    def run() -> None:
        with contextlib.suppress(IndexError):
            todo.pop()()

    return run


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https, keeping the budget of the first request."""

    def __init__(self, most: int) -> None:
        self.max_redirections = most  # type: ignore[misc]

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        req.budget.require_consent(headers)
        new = super().redirect_request(req, fp, code, msg, headers, requestable(newurl))
        if new is not None:
            new.budget = req.budget  # type: ignore[attr-defined]
        return new


class _Http(urllib.request.HTTPHandler):
    def http_open(self, req: Any) -> Any:
        return self.do_open(partial(_Connection, budget=req.budget), req)  # type: ignore[arg-type]


class _Https(urllib.request.HTTPSHandler):
    def __init__(self) -> None:
        self._verified = ssl.create_default_context()
        super().__init__(context=self._verified)

    def https_open(self, req: Any) -> Any:
        connection = partial(_SecureConnection, budget=req.budget, context=self._verified)
        return self.do_open(connection, req)  # type: ignore[arg-type]


class _Connection(http.client.HTTPConnection):
    def __init__(self, host: str, *, budget: Budget, **given: Any) -> None:
        super().__init__(host, **given)
        self._create_connection = budget.connect
        self.response_class = partial(_Answer, budget=budget)  # type: ignore[assignment]


class _SecureConnection(http.client.HTTPSConnection):
    def __init__(self, host: str, *, budget: Budget, **given: Any) -> None:
        super().__init__(host, **given)
        self._create_connection = budget.connect
        self.response_class = partial(_Answer, budget=budget)  # type: ignore[assignment]


class _TimedBytes(io.RawIOBase):
    """The bytes of a socket, headers included, until the budget is spent."""

    def __init__(self, sock: socket.socket, budget: Budget) -> None:
        self._sock, self._budget = sock, budget
        self._raw = sock.makefile("rb", buffering=0)
        self._left = budget.max_bytes + _HEADER_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._budget.wait())
        try:
            count = self._raw.readinto(buffer)
        except TimeoutError:
            self._budget.wait()
            raise
        self._left -= count or 0
        if self._left < 0:
            raise Failure(TOO_LARGE, f"more than {self._budget.max_bytes} bytes")
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    """An answer that is read whole and within its budget, or not at all."""

    def __init__(self, sock: socket.socket, *given: Any, budget: Budget, **more: Any) -> None:
        super().__init__(sock, *given, **more)
        self.fp.close()
        self.fp = io.BufferedReader(_TimedBytes(sock, budget))
        self._most = budget.max_bytes
        self.on_close: Callable[[], None] | None = None

    def read(self, amt: int | None = None) -> bytes:
        try:
            return super().read(amt) if amt is not None else self._whole()
        except Exception as error:
            raise explain(error) from error

    def _whole(self) -> bytes:
        if self.length is not None and self.length > self._most:
            raise Failure(TOO_LARGE, f"{self.length} bytes, more than {self._most}")
        data = super().read() if self.length is not None else super().read(self._most + 1)
        if len(data) > self._most:
            raise Failure(TOO_LARGE, f"more than {self._most} bytes")
        return data

    def close(self) -> None:
        super().close()
        if self.on_close is not None:
            self.on_close()
