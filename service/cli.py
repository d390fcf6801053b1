"""`curate serve`: contributed to the command `curate` by an entry point."""

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curate import options
from transferset.errors import UsageError

if TYPE_CHECKING:
    from service.settings import Settings


def serve(
    index: options.Index,
    host: Annotated[str, typer.Option(help="Address to bind. There is no authentication.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 picks a free one.", min=0, max=65535)] = 8000,
    pool_root: options.PoolRoots = None,
    device: options.Device = "auto",
    max_body_bytes: Annotated[
        int | None, typer.Option(help="Largest request body, in bytes; default: 32 MiB.", min=1)
    ] = None,
    max_in_flight: Annotated[
        int | None, typer.Option(help="Concurrent retrievals; default: 8.", min=1)
    ] = None,
    max_queries: Annotated[int | None, typer.Option(help="Queries per request; default: 256.", min=1)] = None,
    max_pixels: Annotated[
        int | None, typer.Option(help="Pixels per query image; default: 40 million.", min=1)
    ] = None,
    max_total_pixels: Annotated[
        int | None, typer.Option(help="Pixels per request, over all its images; default: 400 million.", min=1)
    ] = None,
    max_results: Annotated[
        int | None, typer.Option(help="Images that a request may ask for; default: 10,000.", min=1)
    ] = None,
) -> None:
    """Serve retrieval from an index over HTTP.

    /docs documents the requests. Ctrl-C stops it. Limits can also be set by environment variables,
    such as TRANSFERSET_MAX_QUERIES.
    """
    limits = {
        "max_body_bytes": max_body_bytes,
        "max_in_flight": max_in_flight,
        "max_queries": max_queries,
        "max_pixels": max_pixels,
        "max_total_pixels": max_total_pixels,
        "max_results": max_results,
    }
    from curate.pools.roots import parse_moved

    settings = _settings({name: value for name, value in limits.items() if value is not None})
    run(index, bind(host, port), settings, parse_moved(pool_root or []), device)


def run(
    index: Path,
    listener: socket.socket,
    settings: "Settings",
    pool_roots: dict[str, str],
    device: str = "auto",
) -> None:
    """Open the index and its encoder, and serve on a listening socket until a signal ends it."""
    import uvicorn

    from curate.index.index import open_index
    from service.app import create_app
    from service.encoder import open_encoder
    from transferset.console import say

    opened = open_index(index, pool_roots)
    say(f"loading the encoder {opened.encoder_spec}")
    app = create_app(opened, settings, open_encoder(opened, device))
    host, port = listener.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    say(f"serving {opened.distinct} images of {index} on {address} (documentation: {address}/docs)")
    if host not in ("127.0.0.1", "::1"):
        say("note: anyone who can reach this address can retrieve images: there is no authentication")
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        say("stopped")


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; UsageError where the address or port can't be had."""
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise UsageError(
            f"cannot listen on {host}:{port}: {error.strerror or error}", "use another --host or --port"
        ) from error


def _settings(limits: dict[str, Any]) -> "Settings":
    from pydantic import ValidationError

    from service.settings import Settings

    try:
        return Settings(**limits)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise UsageError(
            f"limits of the service: {wrong}", "see curate serve --help and TRANSFERSET_… variables"
        ) from error
