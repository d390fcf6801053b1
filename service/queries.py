"""The queries of a request as the library wants them: each checked, with its id, its image or its vector."""

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from curate.index.index import Index
from curate.selection.queries import Query
from service.encoder import SharedEncoder
from service.errors import ApiError
from service.schemas import RetrieveQuery
from service.settings import Settings
from transferset.copies import item_id
from transferset.images import ImageError, read_header
from transferset.prompts import SLOT, prompts, text_vector

_DATA_URI = re.compile(r"data:[\w.+-]*/?[\w.+-]*(;[\w.+-]+=[\w.+-]*)*;base64,", re.ASCII)
_URL = re.compile(r"\s*(?:[a-zA-Z][a-zA-Z0-9+.-]{1,15}:/{0,2}\S|//|www\.)")
_ID_BYTES = 16
WHICH_IDS = "item ids are those that POST /retrieve answers with"


def image_query(data: bytes, label: str | None, name: str) -> Query:
    """A query from an encoded image."""
    return Query(item_id(data).hex(), label, name, data=data)


def decoded_base64(image: str, name: str) -> bytes:
    """The bytes of an image value. A URL is refused by name: nothing is ever fetched."""
    prefix = _DATA_URI.match(image[:200])
    if prefix is None and _URL.match(image[:200]):
        raise ApiError(
            422, "url_not_fetched", f"{name}.image looks like a URL, and no URL is ever fetched",
            "send the image itself in base64",
        )  # fmt: skip
    text = image[prefix.end() :] if prefix else image
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ApiError(
            422, "invalid_base64", f"{name}.image is not base64: {error}", "encode the file's bytes"
        ) from error


def check_images(queries: Sequence[Query], settings: Settings) -> None:
    """Refuse what is no image or too large, by its header, before anything is decoded."""
    total = 0
    for query in queries:
        if query.data is None:
            continue
        try:
            header = read_header(query.data, settings.max_pixels)
        except ImageError as error:
            raise _unreadable(query.name, error) from error
        total += header.width * header.height
    if total > settings.max_total_pixels:
        raise ApiError(
            413, "too_many_pixels",
            f"the images have {total} pixels together, more than {settings.max_total_pixels}",
            "send fewer or smaller images",
        )  # fmt: skip


def _unreadable(name: str, error: ImageError) -> ApiError:
    """The answer to an image that can't be used."""
    if error.reason.startswith("too many pixels"):
        return ApiError(413, "too_many_pixels", f"{name}: {error.reason}", "send a smaller image")
    return ApiError(422, "unreadable_image", f"{name}: {error.reason}", "send a whole JPEG, PNG or WebP file")


def to_query(
    query: RetrieveQuery,
    number: int,
    index: Index,
    encoder: SharedEncoder,
    settings: Settings,
    templates: Sequence[str] = (SLOT,),
) -> Query:
    """One query of a JSON request; `number` is its position there, `templates` are what a text is put in."""
    name = f"queries.{number}"
    if query.image is not None:
        return image_query(decoded_base64(query.image, name), query.label, name)
    if query.item_id is not None:
        return Query(query.item_id, query.label, name, vector=_stored(index, query.item_id, name))
    if query.text is not None:
        _check_text(query.text, name, encoder, settings)
        sentences = prompts(query.text, templates)
        vector = text_vector(encoder.encode_texts, sentences).astype(np.float64)
        return replace(_vector_query(vector, query.label, name), prompts=sentences)
    vector = np.asarray(query.embedding, dtype=np.float64)
    if len(vector) != index.dimension:
        raise ApiError(
            422, "wrong_dimension",
            f"{name}.embedding has {len(vector)} numbers, the index has {index.dimension}",
            f"embed the query with the index's encoder, {index.encoder_spec}",
        )  # fmt: skip
    return _vector_query(vector, query.label, name)


def _stored(index: Index, identity: str, name: str) -> np.ndarray:
    position = index.find(bytes.fromhex(identity))
    if position is None:
        raise ApiError(422, "unknown_item", f"{name}.item_id {identity} is not in the index", WHICH_IDS)
    return normalised(index.vectors(np.array([position], np.int64))[0].astype(np.float64))


def _check_text(text: str, name: str, encoder: SharedEncoder, settings: Settings) -> None:
    if len(text) > settings.max_text_length:
        raise ApiError(
            413,
            "text_too_long",
            f"{name}.text has {len(text)} characters, more than {settings.max_text_length}",
            "send a shorter one",
        )
    if not encoder.has_text:
        raise ApiError(
            422, "no_text_tower",
            f"{name} is a text, and the index's encoder ({encoder.spec}) has no text tower",
            "send images, or serve an index built with an open_clip encoder",
        )  # fmt: skip


def _vector_query(vector: np.ndarray, label: str | None, name: str) -> Query:
    unit = normalised(vector)
    identity = hashlib.sha256(b"vector " + unit.tobytes()).hexdigest()[: 2 * _ID_BYTES]
    return Query(identity, label, name, vector=unit)


def normalised(vector: np.ndarray) -> np.ndarray:
    """A vector (d,) float64, not zero, at length 1, float32; scaled first, so that no square over- or
    underflows."""
    scaled = vector / np.abs(vector).max()
    return (scaled / np.linalg.norm(scaled)).astype(np.float32)
