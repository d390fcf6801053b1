"""Whitening of an index's embeddings, in which copies stand out from what is merely similar.

Most of the cosine between two photographs comes from what all photographs of a pool share. Without the mean,
and with every direction scaled to the same spread, what remains is particular to an image: see H. Jegou and
O. Chum, "Negative evidences and co-occurences in image retrieval: the benefit of PCA and whitening" (2012);
E. Pizzi et al., "A self-supervised descriptor for image copy detection" (2022).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from transferset.errors import DataError

_TINY = 1e-12


@dataclass(frozen=True, eq=False)
class Whitening:
    """`mean` (d,) and `projection` (d, d), float32."""

    mean: np.ndarray
    projection: np.ndarray

    @classmethod
    def fit(cls, rows: np.ndarray) -> Self:
        """From a sample of unit rows (n, d).

        Few rows say little of many directions, and copies among them would hide each other: so the covariance
        is that of the rows and of as many others as there are dimensions, spread alike in all directions (the
        estimate under an inverse-Wishart prior).
        """
        rows = np.asarray(rows, np.float32)
        count, dimension = rows.shape
        mean = rows.mean(axis=0)
        scatter = (rows - mean).T @ (rows - mean)
        alike = np.trace(scatter) / count
        values, directions = np.linalg.eigh((scatter + alike * np.eye(dimension)) / (count + dimension))
        return cls(mean, np.asarray(directions / np.sqrt(np.maximum(values, _TINY)), np.float32))

    def apply(self, rows: np.ndarray) -> np.ndarray:
        """Unit rows (..., d) whitened, of unit length again, float32; rows of zeros stay zeros."""
        import torch

        flat = torch.from_numpy(np.asarray(rows, np.float32).reshape(-1, len(self.mean)))
        moved = (flat - torch.from_numpy(self.mean)) @ torch.from_numpy(self.projection)
        moved = torch.nn.functional.normalize(moved, dim=1)
        moved[~flat.any(dim=1)] = 0
        return moved.numpy().reshape(rows.shape)

    def to_bytes(self) -> bytes:
        """As safetensors."""
        from safetensors.numpy import save

        return save({"mean": self.mean, "projection": np.ascontiguousarray(self.projection)})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file of `to_bytes`; DataError if it is not there or damaged."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            tensors = load_file(path)
            return cls(tensors["mean"], tensors["projection"])
        except (OSError, SafetensorError, KeyError) as error:
            raise DataError(f"{path} cannot be read: {error}", hint="run curate calibrate again") from error
