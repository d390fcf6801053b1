"""The middlewares on their own: what they let through, count and refuse."""

import asyncio
import inspect
import json
from typing import Any, get_args

import pytest
from starlette.types import Message, Receive, Scope, Send

from service.cli import serve
from service.errors import ApiError
from service.limits import BodyLimit, InFlightLimit
from service.settings import MEBIBYTE, Settings


async def call(
    app: Any, chunks: list[bytes], headers: dict[str, str] | None = None
) -> tuple[int, bytes, int]:
    """Send a body in chunks; returns status, body of the answer, and how many chunks were received."""
    waiting = list(chunks)
    sent: list[Message] = []

    async def receive() -> Message:
        chunk = waiting.pop(0) if waiting else b""
        return {"type": "http.request", "body": chunk, "more_body": bool(waiting)}

    async def send(message: Message) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    await app({"type": "http", "path": "/retrieve", "headers": raw}, receive, send)
    return sent[0]["status"], sent[1]["body"], len(chunks) - len(waiting)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Receives everything and answers with the number of bytes."""
    total, more = 0, True
    while more:
        message = await receive()
        total, more = total + len(message["body"]), message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(total).encode()})


def test_a_body_at_the_limit_passes() -> None:
    assert asyncio.run(call(BodyLimit(echo, 10), [b"12345", b"67890"])) == (200, b"10", 2)


def test_an_announced_length_is_refused_unread_when_far_too_long() -> None:
    status, body, received = asyncio.run(call(BodyLimit(echo, 10), [b"x"] * 100, {"content-length": "100"}))
    assert (status, received) == (413, 0)
    assert json.loads(body)["error"]["code"] == "body_too_large"


def test_little_more_than_allowed_is_received_so_that_the_answer_is_seen() -> None:
    status, _, received = asyncio.run(call(BodyLimit(echo, 10), [b"x"] * 12, {"content-length": "12"}))
    assert (status, received) == (413, 12)
    headers = {"content-length": "12", "expect": "100-continue"}
    assert asyncio.run(call(BodyLimit(echo, 10), [b"x"] * 12, headers))[2] == 0


@pytest.mark.parametrize("announced", ["4", "100"])
def test_a_body_that_does_not_come_is_not_waited_for(announced: str) -> None:
    """Nor is the rest of one that is too long."""
    sent: list[Message] = []

    async def never() -> Message:
        await asyncio.sleep(3600)
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    async def stalled() -> None:
        scope = {"type": "http", "headers": [(b"content-length", announced.encode())]}
        await BodyLimit(echo, 60, max_seconds=0.05)(scope, never, send)

    if announced == "100":
        asyncio.run(stalled())
        assert sent[0]["status"] == 413
        return
    with pytest.raises(ApiError) as error:  # which the application answers with
        asyncio.run(stalled())
    assert error.value.status == 408


def test_who_waits_for_the_client_to_leave_may_wait_long() -> None:
    """After the body, the next message is that the client has gone."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["body"] == b"all"
        assert (await receive())["type"] == "http.disconnect"

    messages: list[Message] = [{"type": "http.request", "body": b"all"}, {"type": "http.disconnect"}]

    async def receive() -> Message:
        if len(messages) == 1:
            await asyncio.sleep(0.2)
        return messages.pop(0)

    async def send(message: Message) -> None:
        raise AssertionError

    asyncio.run(BodyLimit(app, 10, max_seconds=0.05)({"type": "http", "headers": []}, receive, send))


@pytest.mark.parametrize("size", [11, 25, 10_000])
def test_chunks_are_counted_and_endless_ones_cut(size: int) -> None:
    from service.errors import ApiError

    received = 0

    async def counting(scope: Scope, receive: Receive, send: Send) -> None:
        async def count() -> Message:
            nonlocal received
            message = await receive()
            received += len(message["body"])
            return message

        await BodyLimit(echo, 10)(scope, count, send)

    with pytest.raises(ApiError) as caught:
        asyncio.run(call(counting, [b"x"] * size))
    assert caught.value.status == 413
    assert received == min(size, 22)


def test_more_requests_than_allowed_are_told_to_wait() -> None:
    async def scenario() -> list[tuple[int, bytes, int]]:
        go = asyncio.Event()

        async def slow(scope: Scope, receive: Receive, send: Send) -> None:
            await go.wait()
            await echo(scope, receive, send)

        app = InFlightLimit(slow, "/retrieve", 2)
        first = [asyncio.create_task(call(app, [b"1"])) for _ in range(2)]
        await asyncio.sleep(0)
        refused = await call(app, [b"1"])
        go.set()
        answers = [await task for task in first]
        return [refused, *answers, await call(app, [b"1"])]

    refused, *answered = asyncio.run(scenario())
    assert refused[0] == 503
    assert json.loads(refused[1])["error"]["code"] == "busy"
    assert [status for status, _, _ in answered] == [200, 200, 200]


def test_the_help_tells_the_limits_that_hold() -> None:
    limits, told = Settings(), inspect.signature(serve, eval_str=True).parameters
    for name, value in (
        ("max_body_bytes", f"{limits.max_body_bytes // MEBIBYTE} MiB"),
        ("max_in_flight", f"{limits.max_in_flight}"),
        ("max_queries", f"{limits.max_queries}"),
        ("max_pixels", f"{limits.max_pixels // 1_000_000} million"),
        ("max_total_pixels", f"{limits.max_total_pixels // 1_000_000} million"),
        ("max_results", f"{limits.max_results:,}"),
    ):
        assert get_args(told[name].annotation)[1].help.endswith(f"default: {value}."), name
