"""URLs as crawls hold them."""

import pytest

from curate.fetch.reasons import BAD_URL, SCHEME, Failure
from curate.fetch.urls import fit_for_requests, requestable


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://example.org/a.jpg", "http://example.org/a.jpg"),
        (" HTTPS://Example.org:8443/a b.jpg?q=a b#top", "https://example.org:8443/a%20b.jpg?q=a%20b"),
        ("http://example.org/kät%20zchen.jpg?ü=ß", "http://example.org/k%C3%A4t%20zchen.jpg?%C3%BC=%C3%9F"),
        ("http://bücher.example/a", "http://xn--bcher-kva.example/a"),
        ("http://[2606:4700::1111]/a", "http://[2606:4700::1111]/a"),
        ("http://example.org/?u=http://x/y&v=[1]", "http://example.org/?u=http://x/y&v=[1]"),
    ],
)
def test_what_a_request_cannot_hold_is_escaped(url: str, expected: str) -> None:
    assert requestable(url) == expected
    assert requestable(expected) == expected


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://example.org/a", SCHEME), ("file:///etc/passwd", SCHEME),
        ("data:image/png;base64,AAAA", SCHEME),
        ("//example.org/a", SCHEME), ("a.jpg", SCHEME), ("", SCHEME), ("http://", BAD_URL),
        ("http:///a", BAD_URL),
        ("http://[::1/a", BAD_URL), ("http://example.org:99999/", BAD_URL),
        ("http://me:secret@example.org/", BAD_URL),
        ("http://" + "ü" * 80 + ".example/", BAD_URL), ("http://example.org/" + "a" * 9000, BAD_URL),
    ],
)  # fmt: skip
def test_what_is_no_http_url(url: str, reason: str) -> None:
    with pytest.raises(Failure) as caught:
        requestable(url)
    assert caught.value.reason == reason


def test_line_breaks_cannot_smuggle_headers() -> None:
    assert "\n" not in requestable("http://example.org/a\r\nHost: other")


def test_good_and_bad_ones_are_told_apart() -> None:
    fit, unfit = fit_for_requests({1: "http://example.org/a b", 2: None, 3: "", 5: "ftp://example.org/"})
    assert fit == {1: "http://example.org/a%20b"}
    assert {place: one.reason for place, one in unfit.items()} == {2: BAD_URL, 3: BAD_URL, 5: SCHEME}
