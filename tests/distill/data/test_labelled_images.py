from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from distill.data.labelled_images import LabelledImages, read_labelled_images
from transferset.errors import DataError
from transferset.labelled import load_labelled
from transferset.models.preprocessing import Preprocessing

SMALL = Preprocessing(16, "shortest", 1.0, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture
def folder(tmp_path: Path, picture: Callable[..., np.ndarray], encode: Callable[..., bytes]) -> Path:
    for label, shade in (("dark", 40), ("light", 200)):
        (tmp_path / label).mkdir()
        for number in range(3):
            (tmp_path / label / f"{number}.jpg").write_bytes(
                encode(np.full((20, 24, 3), shade + number, np.uint8))
            )
    return tmp_path


def _read(
    folder: Path, classes: tuple[str, ...] = ("dark", "light"), cache_bytes: int = 1 << 20
) -> LabelledImages:
    images = load_labelled(folder).images
    return read_labelled_images(images, classes, decode_size=16, cache_bytes=cache_bytes, what="images")


def test_labels_stay_with_their_images(folder: Path) -> None:
    (folder / "dark" / "0.jpg").write_bytes(b"")
    (folder / "light" / "1.jpg").write_bytes(b"\xff\xd8\xff")
    found = _read(folder)
    assert found.labels.tolist() == [0, 0, 1, 1] and len(found.dropped) == 2
    (batch,) = found.rendered(SMALL)
    assert batch.shape == (4, 16, 16, 3)
    assert np.array_equal(batch.mean(axis=(1, 2, 3)) > 128, found.labels == 1)
    part = found.subset(np.array([3, 0]))
    assert part.labels.tolist() == [1, 0]
    assert [batch.mean() > 128 for batch in part.rendered(SMALL, batch_size=1)] == [True, False]


def test_an_image_that_is_lost_later_is_not_replaced_by_its_neighbour(folder: Path) -> None:
    """The neighbour of the last dark image is a light one."""
    found = _read(folder, cache_bytes=0)
    assert len(list(found.rendered(SMALL, batch_size=2))) == 3
    damaged = folder / "dark" / "2.jpg"
    damaged.write_bytes(bytes(damaged.stat().st_size))
    with pytest.raises(DataError, match=r"dark/2\.jpg could be read before and cannot be read now"):
        list(found.rendered(SMALL, batch_size=2))


def test_a_class_without_a_readable_image_is_named(folder: Path) -> None:
    for number in range(3):
        (folder / "light" / f"{number}.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match="no readable image of class light"):
        _read(folder)


def test_an_unknown_class_is_named(folder: Path) -> None:
    with pytest.raises(DataError, match="light not among the 2 classes"):
        _read(folder, ("dark", "grey"))
