"""The routes: each reads its request, calls the library in a thread, and answers."""

from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import ValidationError

import transferset
from curate.selection.queries import Query as LibraryQuery
from service.errors import ApiError, from_validation
from service.queries import WHICH_IDS, check_images, to_query
from service.retrieval import Retrieval
from service.schemas import (
    ITEM_ID,
    ErrorResponse,
    Health,
    RetrieveForm,
    RetrieveRequest,
    RetrieveResponse,
    Selecting,
)
from service.thumbnails import DEFAULT_SIZE, SMALLEST, thumbnail
from service.uploads import read_form
from transferset.console import say
from transferset.errors import DataError, InterruptedRun
from transferset.images import MAX_PIXELS

JSON, FORM = "application/json", "multipart/form-data"
RETRIEVE = "/retrieve"
_CACHE = {
    "Cache-Control": "public, no-cache",
    "Content-Security-Policy": "default-src 'none'",
}
_COMMAS_A_QUERY = 16

router = APIRouter(
    responses={
        status: {"model": ErrorResponse, "description": text}
        for status, text in (("4XX", "what the client did"), ("5XX", "what the service could not do"))
    }
)


def _body_schema() -> dict[str, Any]:
    """The two bodies of POST /retrieve, for /docs: the route reads its body itself, by its type."""
    return {
        "requestBody": {
            "required": True,
            "content": {
                kind: {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}
                for kind, model in ((JSON, RetrieveRequest), (FORM, RetrieveForm))
            },
        }
    }


@router.post(RETRIEVE, openapi_extra=_body_schema())
async def retrieve(request: Request) -> RetrieveResponse:
    """Images of the index for some queries, balanced over them.

    The same selection as `curate retrieve --no-near` makes for the same images, labels and options.
    """
    service: Retrieval = request.app.state.retrieval
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == JSON:
        body = await request.body()
        options, queries = await to_thread.run_sync(_parse, body, service)
    elif kind == FORM:
        options, queries = await read_form(request, service.settings)
    else:
        raise ApiError(
            415,
            "unsupported_media_type",
            f"the body's type is {kind or 'not given'}",
            f"send {JSON} or {FORM}",
        )
    return await to_thread.run_sync(_answer, service, options, queries, request.scope.get("root_path", ""))


def _parse(body: bytes, service: Retrieval) -> tuple[Selecting, list[LibraryQuery]]:
    """The options and queries of a JSON body."""
    limits = service.settings
    if body.count(b",") > limits.max_queries * (service.index.dimension + _COMMAS_A_QUERY):
        raise ApiError(
            413,
            "too_many_values",
            "the body holds more numbers and fields than a request can use",
            "send fewer queries",
        )
    try:
        request = RetrieveRequest.model_validate_json(body)
    except ValidationError as error:
        raise from_validation(error) from error
    _check_count(len(request.queries), service)
    queries = [
        to_query(query, number, service.index, service.encoder, limits, request.sentences)
        for number, query in enumerate(request.queries)
    ]
    return request, queries


def _check_count(queries: int, service: Retrieval) -> None:
    limit = service.settings.max_queries
    if queries > limit:
        raise ApiError(
            413, "too_many_queries", f"{queries} queries, more than {limit}", "send several requests"
        )


def _answer(
    service: Retrieval, options: Selecting, queries: list[LibraryQuery], root_path: str
) -> RetrieveResponse:
    asked = options.total if options.total is not None else (options.per_query or 0) * len(queries)
    if asked > service.settings.max_results:
        raise ApiError(
            413, "too_many_results", f"{asked} images asked for, more than {service.settings.max_results}",
            "ask for fewer, or use curate retrieve, which has no such limit",
        )  # fmt: skip
    check_images(queries, service.settings)
    return service.answer(options, queries, f"{root_path}/images")


@router.get(
    "/images/{item_id}",
    response_class=Response,
    responses={
        200: {"content": {"image/jpeg": {}}, "description": "a JPEG"},
        304: {"description": "not modified"},
    },
)
async def image(
    request: Request,
    item_id: Annotated[str, Path(pattern=ITEM_ID)],
    size: Annotated[int, Query(ge=SMALLEST, description="longest side in pixels")] = DEFAULT_SIZE,
) -> Response:
    """An item's thumbnail. It never changes, as the id is made from the image's bytes, but it may be
    forgotten: caches must revalidate."""
    service: Retrieval = request.app.state.retrieval
    if size > service.settings.max_thumbnail:
        raise ApiError(
            422,
            "invalid_request",
            f"size: {size} is more than {service.settings.max_thumbnail}",
            "ask for a smaller one",
        )
    tag = f'"{item_id}-{size}"'
    known = tag in request.headers.get("if-none-match", "")
    limiter = request.app.state.thumbnail_limiter
    data = await to_thread.run_sync(_thumbnail, service, item_id, None if known else size, limiter=limiter)
    headers = {**_CACHE, "ETag": tag}
    return Response(data, 304 if known else 200, headers, None if known else "image/jpeg")


def _thumbnail(service: Retrieval, item_id: str, size: int | None) -> bytes:
    """The JPEG; empty if no size is given. ApiError where the index has no such item, or the pool no such
    image."""
    index = service.index
    position = index.find(bytes.fromhex(item_id))
    if position is None:
        raise ApiError(404, "unknown_item", f"{item_id} is not in the index", WHICH_IDS)
    if not index.has_bytes:
        raise ApiError(
            404,
            "no_image",
            f"{item_id} is known by its {index.plan.id_kind} only: the pool holds no bytes",
            "the index is of ready embeddings; POST /retrieve gives the URLs of its images",
        )
    if size is None:
        return b""
    try:
        return thumbnail(index.read_bytes(index.item(position)), size, MAX_PIXELS)
    except (DataError, InterruptedRun) as error:
        say(f"error: {error.message}" + (f" ({error.hint})" if error.hint else ""))
        raise ApiError(
            503,
            "image_unavailable",
            f"the pool's image {item_id} can't be read now",
            "the operator finds the reason in the service's log",
        ) from error


@router.get("/healthz")
def healthz(request: Request) -> Health:
    """Whether the service is up, and what it serves."""
    service: Retrieval = request.app.state.retrieval
    index = service.index
    return Health(
        status="ok",
        version=transferset.__version__,
        items=index.rows,
        distinct=index.distinct,
        dimension=index.dimension,
        encoder=service.encoder.spec,
        runtime=service.encoder.runtime,
        text_queries=service.encoder.has_text,
    )
