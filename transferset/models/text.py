"""The text tower of an open_clip model, loaded when the first text is encoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

TEXTS_PER_BATCH = 256

EncodeTexts = Callable[[list[str]], np.ndarray]


class TextTower:
    """Encodes texts into the space of the same model's images.

    Most runs embed images only, so the tower's memory is taken on first use.

    Args:
        load: makes the function that encodes one batch of texts, (n, d) float32.
    """

    def __init__(self, load: Callable[[], EncodeTexts]) -> None:
        self._load = load
        self._encode: EncodeTexts | None = None

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Features of texts, (n, d) float32, as the model gives them (not L2-normalised)."""
        if self._encode is None:
            self._encode = self._load()
        starts = range(0, max(len(texts), 1), TEXTS_PER_BATCH)
        batches = [list(texts[start : start + TEXTS_PER_BATCH]) for start in starts]
        return np.concatenate([self._encode(batch) for batch in batches])
