"""URLs as crawls hold them, made fit for a request."""

from collections.abc import Mapping
from urllib.parse import quote, urlsplit, urlunsplit

from curate.fetch.reasons import BAD_URL, SCHEME, Failure

SCHEMES = ("http", "https")
LONGEST = 8_192
_KEPT = "!#$%&'()*+,/:;=?@[]~"


def requestable(url: str) -> str:
    """`url` with what a request can't hold escaped: spaces, letters beyond ASCII, and those of the host by
    IDNA. Failure where it is no http or https URL with a host."""
    text = url.strip()
    if len(text) > LONGEST:
        raise Failure(BAD_URL, f"longer than {LONGEST} characters")
    try:
        parts = urlsplit(text)
        host, port, scheme = parts.hostname, parts.port, parts.scheme.lower()
    except ValueError as error:
        raise Failure(BAD_URL, str(error)) from error
    if scheme not in SCHEMES:
        raise Failure(SCHEME, f"{scheme or 'none'}; only http and https are fetched")
    if not host:
        raise Failure(BAD_URL, "it names no host")
    if parts.username is not None:
        raise Failure(BAD_URL, "it holds a user name")
    try:
        name = f"[{host}]" if ":" in host else host if host.isascii() else host.encode("idna").decode()
    except UnicodeError as error:
        raise Failure(BAD_URL, f"host {host}: {error}") from error
    place = name if port is None else f"{name}:{port}"
    return urlunsplit((scheme, place, quote(parts.path, _KEPT), quote(parts.query, _KEPT), ""))


def fit_for_requests(urls: Mapping[int, str | None]) -> tuple[dict[int, str], dict[int, Failure]]:
    """Those of `urls` that can be requested, made fit for it, and what is wrong with the others."""
    fit: dict[int, str] = {}
    unfit: dict[int, Failure] = {}
    for place, url in urls.items():
        try:
            if not url:
                raise Failure(BAD_URL, "the pool has no URL for it")
            fit[place] = requestable(url)
        except Failure as failure:
            unfit[place] = failure
    return fit, unfit
