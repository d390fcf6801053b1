"""What went wrong with a request, in the words of `reasons`."""

import http.client
import socket
import ssl
import urllib.error

from curate.fetch.reasons import (
    BAD_ANSWER,
    BAD_URL,
    FAILED,
    FORBIDDEN,
    LOOKUP_FAILED,
    NOT_FOUND,
    REDIRECTS,
    SCHEME,
    SERVER_ERROR,
    TIMEOUT,
    TLS,
    TRUNCATED,
    UNKNOWN_HOST,
    UNREACHABLE,
    Failure,
)


def explain(error: BaseException) -> Failure:
    """What went wrong with a request, by the exceptions of urllib, http.client, ssl and socket."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, urllib.error.HTTPError):
        return _status(error)
    if isinstance(error, urllib.error.URLError):
        if isinstance(error.reason, BaseException):
            return explain(error.reason)
        return Failure(SCHEME if "unknown url type" in str(error.reason) else FAILED, str(error.reason))
    if isinstance(error, socket.gaierror):
        again = error.errno == socket.EAI_AGAIN
        return Failure(LOOKUP_FAILED if again else UNKNOWN_HOST, error.strerror or str(error))
    kinds: tuple[tuple[type[BaseException], str], ...] = (
        (ssl.SSLError, TLS),
        (TimeoutError, TIMEOUT),
        (http.client.IncompleteRead, TRUNCATED),
        (ConnectionError, UNREACHABLE),
        (OSError, UNREACHABLE),
        (http.client.InvalidURL, BAD_URL),
        (http.client.HTTPException, BAD_ANSWER),
        (ValueError, BAD_URL),
    )
    reason = next((reason for kind, reason in kinds if isinstance(error, kind)), FAILED)
    told = (isinstance(error, OSError) and error.strerror) or str(error)
    return Failure(reason, " ".join(told.split())[:200] or type(error).__name__)


def _status(error: urllib.error.HTTPError) -> Failure:
    error.close()
    told = f"HTTP {error.code}"
    if error.code in (404, 410):
        return Failure(NOT_FOUND, told)
    if error.code in (401, 402, 403, 407, 451):
        return Failure(FORBIDDEN, told)
    if error.code in (408, 425, 429) or error.code >= 500:
        return Failure(SERVER_ERROR, told)
    if 300 <= error.code < 400:
        return Failure(REDIRECTS, f"{told}: too many, in a circle, or to nowhere")
    return Failure(BAD_ANSWER, told)
