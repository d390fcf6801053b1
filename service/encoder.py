"""The index's encoder, shared by all requests: one at a time."""

import threading
from collections.abc import Sequence

import numpy as np

from curate.encoding.pipeline import PipelineOptions
from curate.index.encoder import IndexEncoder, OpenEncoder
from curate.index.index import Index
from curate.query_set import encode_queries
from curate.selection.queries import Query


class SharedEncoder:
    """An encoder that threads may share: calls take turns, so that one request's images at a time are decoded
    and a text tower is loaded once."""

    def __init__(self, index: Index, encoder: OpenEncoder) -> None:
        self.spec = index.encoder_spec
        self._index = index
        self._encoder = encoder
        self._lock = threading.Lock()

    @property
    def has_text(self) -> bool:
        """Whether texts can be encoded."""
        return self._encoder.text is not None

    @property
    def runtime(self) -> str:
        """What it runs on, in words."""
        info = self._encoder.model.info
        return f"{info.runtime} {info.precision} on {info.device}"

    def encode(self, queries: Sequence[Query], max_pixels: int, *, crops: bool = False) -> np.ndarray:
        """Unit vectors (q, d) float32 of queries, or with `crops` (q, v, d); ready ones are taken. DataError
        for an image that can't be decoded."""
        pipeline = PipelineOptions(max_pixels=max_pixels)
        with self._lock:
            return encode_queries(self._index, self._encoder.model, queries, pipeline, crops=crops)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Features (n, d) float32 of texts, as the model gives them; only where `has_text`."""
        assert self._encoder.text is not None
        with self._lock:
            return self._encoder.text.encode(texts)


def open_encoder(index: Index, device: str = "auto") -> SharedEncoder:
    """Load the encoder that the index was built with.

    Raises UsageError or DataError where it can't be had, or is another one now.
    """
    return SharedEncoder(index, IndexEncoder(index, device).opened)
