"""Weights: their hash, and what to say when they cannot be had."""

from __future__ import annotations

import contextlib
import difflib
import errno
import hashlib
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from transferset.errors import DataError, UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from transferset.models.spec import ModelSpec

CONNECT_SECONDS = 3.0
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def weights_sha256(module: nn.Module) -> str:
    """Hash of a module's parameters and buffers: names, types, shapes and bytes, in the module's order.

    It does not depend on the file they came from, nor on its format.
    """
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(_raw_bytes(tensor))
    return digest.hexdigest()


def _raw_bytes(tensor: Tensor) -> memoryview:
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")


def unavailable(spec: ModelSpec, reason: object) -> DataError:
    """The error for weights that cannot be had."""
    first_line = str(reason).strip().splitlines()[0] if str(reason).strip() else type(reason).__name__
    return DataError(
        f"no weights for {spec}: {first_line}",
        "check the spelling and the network (or the cache that HF_HOME names), give a local file, or use "
        "`--encoder embedded` (spec: embedded), whose weights come with the package and need no network",
    )


def unknown_model(spec: ModelSpec, known: Iterable[str]) -> UsageError:
    """The error for a name that the library does not know, with the nearest ones."""
    near = difflib.get_close_matches(spec.name, list(known), n=5, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else f"see the model list of {spec.family}"
    return UsageError(f"{spec.family} has no model named {spec.name!r} (spec {spec})", hint)


def load_failures() -> tuple[type[Exception], ...]:
    """What the libraries raise for downloads that fail and for weights or configurations that are damaged."""
    from pickle import UnpicklingError

    from safetensors import SafetensorError

    return (
        OSError,
        RuntimeError,
        ValueError,
        TypeError,
        KeyError,
        EOFError,
        UnpicklingError,
        SafetensorError,
    )


def reraise_if_disk_is_full(error: BaseException) -> None:
    """Libraries wrap a full disk's OSError while downloading; let the original through."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _DISK_ERRORS:
            raise cause
        cause = cause.__cause__ or cause.__context__


@contextlib.contextmanager
def hub_or_its_cache() -> Iterator[None]:
    """Within, the Hugging Face hub answers from its cache when it cannot be reached.

    Without this, every file of a model is retried for half a minute. A proxy counts as reachable.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not _reachable(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _reachable(endpoint: str) -> bool:
    if urllib.request.getproxies():
        return True
    address = urllib.parse.urlsplit(endpoint)
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        with socket.create_connection((address.hostname or endpoint, port), timeout=CONNECT_SECONDS):
            return True
    except OSError:
        return False
