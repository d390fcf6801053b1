from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from distill.data.batches import BatchReader, ViewPlan
from distill.data.samples import ImageReader, samples_of_files
from distill.data.teacher_outputs import Answers, TeacherOutputs
from distill.data.views import augmentation
from distill.teaching.feed import Feed
from transferset.errors import NumericError
from transferset.models.preprocessing import Preprocessing
from transferset.writes import read_json

SMALL = Preprocessing(8, "shortest", 1.0, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
BAD = (2, 3, 5, 7)


@pytest.fixture
def feed_of(
    tmp_path: Path, picture: Callable[..., np.ndarray], encode: Callable[..., bytes]
) -> Callable[[Callable[[np.ndarray], np.ndarray]], Feed]:
    """A feed of ten files, four of them unreadable, with what a teacher says of them."""
    paths = [tmp_path / f"{number}.png" for number in range(10)]
    for number, path in enumerate(paths):
        path.write_bytes(b"no image" if number in BAD else encode(picture(20, 20, number), "png"))
    reader = ImageReader(samples_of_files(paths), None, record=tmp_path / "unreadable.json")
    batches = BatchReader(reader, ViewPlan(augmentation("standard"), 0, 5, 0), SMALL, [SMALL])

    def made(ask: Callable[[np.ndarray], np.ndarray]) -> Feed:
        outputs = TeacherOutputs(Answers("logits", 3, ask, flops_per_image=1.0), path=None)
        return Feed(batches, outputs, readers=0, end=2)

    return made


def _colours(images: np.ndarray) -> np.ndarray:
    return images.mean(axis=(1, 2)).astype(np.float32)


def _recorded(folder: Path) -> set[str]:
    return set(read_json(folder / "unreadable.json"))


def test_a_checkpoint_comes_after_all_that_was_unreadable(
    feed_of: Callable[..., Feed], tmp_path: Path
) -> None:
    """A run that is killed then, and goes on from there, never sees these images again, and counts them."""
    feed, every = feed_of(_colours), {str(tmp_path / f"{number}.png") for number in BAD}
    batches = feed.stream(0)
    assert [next(batches).step for _ in range(2)] == [0, 1]
    assert _recorded(tmp_path) < every, "not for every image"
    feed.flush()
    assert _recorded(tmp_path) == every


@pytest.mark.parametrize("way", ["end", "closed", "failed"])
def test_what_was_unreadable_is_recorded_however_it_ends(
    feed_of: Callable[..., Feed], tmp_path: Path, way: str
) -> None:
    feed = feed_of(_colours if way != "failed" else lambda images: np.full((len(images), 3), np.nan, "f4"))
    batches = feed.stream(0)
    if way == "end":
        assert len(list(batches)) == 2
    elif way == "closed":
        next(batches)
        batches.close()
    else:
        with pytest.raises(NumericError):
            next(batches)
    assert _recorded(tmp_path) == set(feed.reader.reader.dropped) and len(_recorded(tmp_path)) > 1
