"""Why a chosen image is not in the set: the words of not_fetched.parquet, with those of
`curate.selection.removed`."""

from typing import Final

NOT_FOUND: Final = "not found"
FORBIDDEN: Final = "forbidden"
SERVER_ERROR: Final = "server error"
BAD_ANSWER: Final = "bad answer"
UNKNOWN_HOST: Final = "unknown host"
LOOKUP_FAILED: Final = "host lookup failed"
UNREACHABLE: Final = "unreachable"
TIMEOUT: Final = "timeout"
TOO_SLOW: Final = "too slow"
TLS: Final = "tls"
TRUNCATED: Final = "truncated"
TOO_LARGE: Final = "too large"
REDIRECTS: Final = "redirects"
BAD_URL: Final = "bad url"
SCHEME: Final = "scheme refused"
ADDRESS: Final = "address refused"
OPT_OUT: Final = "opt-out"
FORGOTTEN: Final = "forgotten"
NOT_AN_IMAGE: Final = "not an image"
CHANGED: Final = "changed"
DUPLICATE: Final = "duplicate"
FAILED: Final = "failed"

DOWNLOAD_REASONS: Final = frozenset(
    {
        NOT_FOUND,
        FORBIDDEN,
        SERVER_ERROR,
        BAD_ANSWER,
        UNKNOWN_HOST,
        LOOKUP_FAILED,
        UNREACHABLE,
        TIMEOUT,
        TOO_SLOW,
        TLS,
        TRUNCATED,
        TOO_LARGE,
        REDIRECTS,
        BAD_URL,
        SCHEME,
        ADDRESS,
        OPT_OUT,
        FAILED,
    }
)
TRANSIENT: Final = frozenset({SERVER_ERROR, LOOKUP_FAILED, UNREACHABLE, TIMEOUT, TOO_SLOW, TRUNCATED, FAILED})
"""What may be otherwise another time."""

_OPT_OUT_MESSAGE = "Use of image disallowed by X-Robots-Tag directive"  # img2dataset's


class Failure(Exception):
    """A download that gave nothing. Its text passes through img2dataset, which keeps only that: `parse`
    takes it apart again. No OSError, so that urllib doesn't wrap it."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def parse(message: str) -> tuple[str, str]:
    """Reason and detail of an error message that img2dataset gives back."""
    if message == _OPT_OUT_MESSAGE:
        return OPT_OUT, "the host's X-Robots-Tag forbids it"
    reason, found, detail = message.partition(": ")
    return (reason, detail) if found and reason in DOWNLOAD_REASONS else (FAILED, message)
