"""The opener on a site that misbehaves, without img2dataset."""

import threading
import time
import urllib.request
from dataclasses import replace

import pytest

from curate.fetch import reasons
from curate.fetch.opener import GuardedOpener
from curate.fetch.options import DownloadOptions
from curate.fetch.reasons import Failure
from tests.curate.fetch import web

OPTIONS = DownloadOptions(
    allowed_networks=("127.0.0.1",), timeout=0.6, max_seconds=1.5, max_bytes=100_000, max_redirects=3
)


@pytest.fixture
def site(serve) -> web.Site:
    made = serve()
    made.files["/good"] = b"good" * 1000
    return made


def get(url: str, options: DownloadOptions = OPTIONS) -> bytes:
    with GuardedOpener(options).open(urllib.request.Request(url)) as answer:
        return answer.read()


def reason_of(url: str, options: DownloadOptions = OPTIONS) -> str:
    with pytest.raises(Failure) as caught:
        get(url, options)
    return caught.value.reason


def test_a_good_answer_and_a_redirect_to_it(site) -> None:
    site.behave["/moved"] = web.redirect("/good")
    assert get(site.url("/good")) == get(site.url("/moved")) == site.files["/good"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (404, reasons.NOT_FOUND), (410, reasons.NOT_FOUND), (403, reasons.FORBIDDEN),
        (451, reasons.FORBIDDEN),
        (429, reasons.SERVER_ERROR), (503, reasons.SERVER_ERROR), (418, reasons.BAD_ANSWER),
    ],
)  # fmt: skip
def test_an_error_status(site, code: int, reason: str) -> None:
    site.behave["/it"] = web.status(code)
    assert reason_of(site.url("/it")) == reason


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("/it", reasons.REDIRECTS),
        ("http://127.0.0.2:{port}/good", reasons.ADDRESS),
        ("http://169.254.169.254/latest/meta-data", reasons.ADDRESS),
        ("http://[::1]:1/x", reasons.ADDRESS),
        ("file:///etc/passwd", reasons.REDIRECTS),
        ("ftp://127.0.0.1/x", reasons.SCHEME),
    ],
)
def test_a_redirect_to_where_nobody_should_go(site, where: str, reason: str) -> None:
    site.behave["/it"] = web.redirect(where.format(port=site.port))
    assert reason_of(site.url("/it")) == reason


def test_redirects_are_counted(site) -> None:
    for number in range(5):
        site.behave[f"/{number}"] = web.redirect(f"/{number + 1}")
    site.behave["/5"] = web.redirect("/good")
    assert get(site.url("/3")) == site.files["/good"]
    assert reason_of(site.url("/0")) == reasons.REDIRECTS


def test_this_machine_is_refused_by_default(site) -> None:
    assert reason_of(site.url("/good"), replace(OPTIONS, allowed_networks=())) == reasons.ADDRESS
    assert site.hits["/good"] == 0
    assert get(site.url("/good"), replace(OPTIONS, allowed_networks=(), allow_private_hosts=True))


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (web.hangs, reasons.TIMEOUT),
        (web.drips, reasons.TOO_SLOW),
        (web.never_ends, reasons.TOO_LARGE),
        (web.breaks_off(bytes(5000)), reasons.TRUNCATED),
        (web.gives(bytes(100_001)), reasons.TOO_LARGE),
    ],
)
def test_an_answer_that_does_not_end_well(site, behaviour, reason: str) -> None:
    site.behave["/it"] = behaviour
    start = time.monotonic()
    assert reason_of(site.url("/it")) == reason
    assert time.monotonic() - start < OPTIONS.max_seconds + 1.5


def test_headers_that_drip_or_never_end(site) -> None:
    def slow(handler) -> None:
        for _ in range(50):
            handler.wfile.write(b"H")
            time.sleep(0.1)

    def endless(handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            handler.wfile.write(b"X: " + b"y" * 60_000 + b"\r\n")

    site.behave |= {"/slow": slow, "/endless": endless}
    assert reason_of(site.url("/slow")) == reasons.TOO_SLOW
    assert reason_of(site.url("/endless")) in (reasons.BAD_ANSWER, reasons.TOO_LARGE)


def test_a_size_that_is_only_claimed_takes_no_memory(site) -> None:
    site.behave["/it"] = lambda handler: web.answer(handler, b"x", Content_Length=str(1 << 62))
    assert reason_of(site.url("/it")) == reasons.TOO_LARGE


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://127.0.0.1:{port}/good", reasons.TLS),
        ("http://127.0.0.1:1/", reasons.UNREACHABLE),
        ("http://nowhere.invalid/", reasons.UNKNOWN_HOST),
    ],
)
def test_no_connection(site, url: str, reason: str) -> None:
    found = reason_of(url.format(port=site.port))
    assert found == reason or (reason == reasons.UNKNOWN_HOST and found == reasons.LOOKUP_FAILED)


def test_a_chunked_answer_is_limited_too(site) -> None:
    def chunked(handler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for _ in range(int(handler.path.partition("?")[2])):
            handler.wfile.write(b"3e8\r\n" + bytes(1000) + b"\r\n")
        handler.wfile.write(b"0\r\n\r\n")

    site.behave["/it"] = chunked
    assert get(site.url("/it?50")) == bytes(50_000)
    assert reason_of(site.url("/it?101")) == reasons.TOO_LARGE


def test_an_opt_out_is_obeyed_at_every_hop(site) -> None:
    site.behave["/no"] = web.gives(b"image", X_Robots_Tag="noai, unavailable_after: 25 Jun 2030")
    site.behave["/yes"] = web.gives(b"image", X_Robots_Tag="otherbot: noai")
    site.behave["/hop"] = lambda handler: web.answer(
        handler, b"", 302, Location="/yes", X_Robots_Tag="transferset: none"
    )
    assert reason_of(site.url("/no")) == reason_of(site.url("/hop")) == reasons.OPT_OUT
    assert get(site.url("/yes")) == b"image"
    assert get(site.url("/no"), replace(OPTIONS, directives=())) == b"image"


def test_one_host_gets_a_few_requests_at_a_time(site) -> None:
    now, most, lock = [0], [0], threading.Lock()

    def count(handler) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.05)
        with lock:
            now[0] -= 1
        web.answer(handler, b"ok")

    site.behave["/it"] = count
    site.behave["/bad"] = web.status(404)
    opener = GuardedOpener(replace(OPTIONS, per_host=2, timeout=5, max_seconds=10))

    def one(path: str) -> None:
        try:
            with opener.open(urllib.request.Request(site.url(path))) as answer:
                answer.read()
        except Failure:
            pass

    threads = [threading.Thread(target=one, args=(path,)) for path in ["/bad", "/it"] * 8]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads), "a failure gives its place free"
    assert most[0] <= 2 and site.hits["/it"] == 8


def test_a_failure_survives_as_text() -> None:
    for reason in reasons.DOWNLOAD_REASONS:
        assert reasons.parse(str(Failure(reason, "a: b"))) == (reason, "a: b")
    assert reasons.parse("something else") == (reasons.FAILED, "something else")
    assert reasons.parse("Use of image disallowed by X-Robots-Tag directive")[0] == reasons.OPT_OUT
