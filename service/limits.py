"""Limits that hold before a request is understood: size of the body, and how many are worked on at a time."""

import asyncio
import contextlib
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import ApiError


class BodyLimit:
    """ASGI middleware: a body over `max_bytes` is a 413, whether its length was announced or it came in
    chunks; one that takes longer than `max_seconds` to arrive is a 408.

    Bytes are counted while they arrive. So that usual clients, which send everything before they read, get to
    see the answer, about as much again is received and thrown away.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, max_seconds: float = 60.0) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        announced = headers.get("content-length", "0")
        if announced.isdecimal() and int(announced) > self._max_bytes:
            if "expect" not in headers and int(announced) <= 2 * self._max_bytes:
                await self._discard(receive, self._max_bytes * 2)
            await self._error().response()(scope, receive, send)
            return
        received, complete = 0, False
        due = time.monotonic() + self._max_seconds

        async def counted() -> Message:
            nonlocal received, complete
            try:  # what comes after the body is that the client has gone, and may take its time
                wait = None if complete else max(0.0, due - time.monotonic())
                message = await asyncio.wait_for(receive(), wait)
            except TimeoutError as error:
                raise self._slow() from error
            complete = not message.get("more_body")
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                if message.get("more_body"):
                    await self._discard(receive, self._max_bytes)
                raise self._error()
            return message

        await self._app(scope, counted, send)

    async def _discard(self, receive: Receive, max_bytes: int) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(_discard(receive, max_bytes), self._max_seconds)

    def _slow(self) -> ApiError:
        return ApiError(
            408,
            "body_too_slow",
            f"the request's body has not arrived within {self._max_seconds:g} seconds",
            "send fewer or smaller images, or over a faster connection",
            {"Connection": "close"},
        )

    def _error(self) -> ApiError:
        return ApiError(
            413,
            "body_too_large",
            f"the request's body is larger than {self._max_bytes} bytes",
            "send fewer or smaller images",
            {"Connection": "close"},
        )


class InFlightLimit:
    """ASGI middleware: while `max_in_flight` requests to `path` are received or worked on, further ones are a
    503.

    Without it a crowd of clients could fill the memory with bodies that wait for the encoder.
    """

    def __init__(self, app: ASGIApp, path: str, max_in_flight: int) -> None:
        self._app = app
        self._path = path
        self._max = max_in_flight
        self._now = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != self._path:
            await self._app(scope, receive, send)
            return
        if self._now >= self._max:
            busy = ApiError(
                503,
                "busy",
                f"{self._max} retrievals are already in progress",
                "try again soon",
                {"Retry-After": "1"},
            )
            await busy.response()(scope, receive, send)
            return
        self._now += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._now -= 1


class SafeHeaders:
    """ASGI middleware: every answer tells browsers not to guess its type."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Content-Type-Options"] = "nosniff"
            await send(message)

        await self._app(scope, receive, guarded)


async def _discard(receive: Receive, max_bytes: int) -> None:
    """Receive the rest of a body without keeping it, at most about `max_bytes`."""
    dropped = 0
    while dropped <= max_bytes:
        message = await receive()
        dropped += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body"):
            return
