"""The application: routes, limits and errors over one open index."""

from anyio import CapacityLimiter
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

import transferset
from curate.index.index import Index
from service import errors, routes
from service.encoder import SharedEncoder, open_encoder
from service.limits import BodyLimit, InFlightLimit, SafeHeaders
from service.retrieval import Retrieval
from service.schemas import RetrieveForm, RetrieveRequest
from service.served_index import ServedIndex
from service.settings import Settings

_THUMBNAILS_AT_A_TIME = 4
_REFERENCE = "#/components/schemas/{model}"


def create_app(
    index: Index, settings: Settings | None = None, encoder: SharedEncoder | None = None
) -> FastAPI:
    """An application that serves retrieval from `index`.

    Without `encoder` the index's own is loaded, which takes seconds; DataError or UsageError where it can't
    be had or is not the one that the index was built with.
    """
    settings = settings or Settings()
    app = FastAPI(
        title="transferset",
        summary="Retrieval of pool images for a few labelled ones",
        version=transferset.__version__,
    )
    app.state.retrieval = Retrieval(ServedIndex(index), encoder or open_encoder(index), settings)
    app.state.thumbnail_limiter = CapacityLimiter(_THUMBNAILS_AT_A_TIME)
    app.include_router(routes.router)
    errors.install(app)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes, max_seconds=settings.max_body_seconds)
    app.add_middleware(InFlightLimit, path=routes.RETRIEVE, max_in_flight=settings.max_in_flight)
    app.add_middleware(SafeHeaders)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _openapi(app: FastAPI) -> dict[str, object]:
    """The framework's OpenAPI, with the bodies of POST /retrieve added: that route reads its body itself."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        components = schema.setdefault("components", {}).setdefault("schemas", {})
        for model in (RetrieveRequest, RetrieveForm):
            own = model.model_json_schema(ref_template=_REFERENCE)
            components.update(own.pop("$defs", {}))
            components[model.__name__] = own
        app.openapi_schema = schema
    return app.openapi_schema
