"""Every answer that is not a result has the same shape: {"error": {"code", "message", "hint"}}."""

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from curate.selection.select import NotRetrievable
from transferset.console import say
from transferset.errors import TransfersetError, UsageError

_OPTION = re.compile(r"--([a-z][a-z-]*)")
_SHOWN_PROBLEMS = 5
_MOST_PROBLEMS = 2_000
_SHOWN_CHARACTERS = 1_000


class ApiError(Exception):
    """An answer with a 4xx or 5xx status: what happened, and what the client can do about it."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        hint: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.hint = hint
        self.headers = dict(headers or {})

    def content(self) -> dict[str, Any]:
        """The answer's JSON."""
        return {"error": {"code": self.code, "message": _shortened(self.message), "hint": self.hint}}

    def response(self) -> JSONResponse:
        """The answer."""
        return JSONResponse(self.content(), self.status, {"Cache-Control": "no-store", **self.headers})


def from_validation(error: ValidationError | RequestValidationError) -> ApiError:
    """What pydantic found, as one message: where, and what was expected there."""
    hint = "see /docs for the fields of this request"
    if isinstance(error, ValidationError) and error.error_count() > _MOST_PROBLEMS:
        # To list hundreds of thousands takes seconds.
        return ApiError(422, "invalid_request", f"{error.error_count()} values are not as expected", hint)
    found = error.errors()
    problems = [
        f"{_place(one['loc'])}: {one['msg'].removeprefix('Value error, ')}" for one in found[:_SHOWN_PROBLEMS]
    ]
    more = len(found) - _SHOWN_PROBLEMS
    shown = "; ".join(problems) + (f"; and {more} more" if more > 0 else "")
    return ApiError(422, "invalid_request", shown, hint)


def from_library(error: TransfersetError) -> ApiError:
    """An error of the library. What the request asked for is the client's to mend, anything else is not."""
    message, hint = (_OPTION.sub(_field, text) if text else None for text in (error.message, error.hint))
    if isinstance(error, UsageError | NotRetrievable):
        code = "invalid_request" if isinstance(error, UsageError) else "not_retrievable"
        return ApiError(422, code, message or "", hint)
    say(f"error: {error.message}" + (f" ({error.hint})" if error.hint else ""))
    return ApiError(
        500, "internal_error", "the service failed", "the operator finds the reason in the service's log"
    )


def from_http(error: HTTPException) -> ApiError:
    """What the framework refuses by itself: unknown routes, methods that a route hasn't, malformed
    multipart."""
    status = HTTPStatus(error.status_code)
    code = status.name.lower()
    message = error.detail if error.detail and error.detail != status.phrase else status.phrase.lower()
    hint = f"see /docs for {'what there is' if status in (404, 405) else 'the fields of this request'}"
    return ApiError(status, code, message, hint, error.headers)


def install(app: FastAPI) -> None:
    """Make every error of `app` answer in the one shape."""

    async def api_error(request: Request, error: Exception) -> JSONResponse:
        return _translated(error).response()

    for kind in (
        ApiError,
        RequestValidationError,
        ValidationError,
        HTTPException,
        ClientDisconnect,
        TransfersetError,
        Exception,
    ):
        app.add_exception_handler(kind, api_error)


def _translated(error: Exception) -> ApiError:
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ValidationError | RequestValidationError):
        return from_validation(error)
    if isinstance(error, HTTPException):
        return from_http(error)
    if isinstance(error, TransfersetError):
        return from_library(error)
    if isinstance(error, ClientDisconnect):
        return ApiError(
            400, "client_disconnected", "the connection was closed within the request", "send it again"
        )
    return ApiError(
        500, "internal_error", "the service failed", "the operator finds the reason in the service's log"
    )


def _place(location: Sequence[str | int]) -> str:
    """`queries.0.image` for the place of a problem; the framework's own first step is left out."""
    return ".".join(str(step) for step in location if step not in ("body", "query", "path")) or "the request"


def _shortened(text: str) -> str:
    """Messages quote what was sent, which may be megabytes."""
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def _field(option: re.Match[str]) -> str:
    return option[1].replace("-", "_")
