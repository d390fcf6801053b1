from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from distill.data.batches import BatchReader, ViewPlan
from distill.data.samples import ImageReader, samples_of_files
from distill.data.teacher_outputs import Answers, TeacherOutputs
from distill.data.views import augmentation
from transferset.errors import DataError, NumericError
from transferset.models.preprocessing import Preprocessing

SMALL = Preprocessing(8, "shortest", 1.0, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
VIEWS, COUNT, STEPS = 3, 10, 12


class PixelTeacher:
    """Its answers are the mean colours; counts what it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    halved = 0

    @property
    def answers(self) -> Answers:
        return Answers("logits", 3, self.ask, flops_per_image=2.0, halved=self.halved)

    def ask(self, batch: np.ndarray) -> np.ndarray:
        self.asked += len(batch)
        return batch.mean(axis=(1, 2)).astype(np.float32)


@pytest.fixture
def batches(tmp_path: Path, picture: Callable[..., np.ndarray], encode: Callable[..., bytes]) -> BatchReader:
    paths = [tmp_path / f"{number}.png" for number in range(COUNT)]
    for number, path in enumerate(paths):
        path.write_bytes(encode(picture(20, 20, number), "png"))
    plan = ViewPlan(augmentation("standard"), 0, 4, VIEWS)
    return BatchReader(ImageReader(samples_of_files(paths), None), plan, SMALL, [SMALL])


def _outputs(teacher: PixelTeacher, path: Path) -> TeacherOutputs:
    return TeacherOutputs(teacher.answers, path=path, samples=COUNT, views=VIEWS)


def test_targets_are_the_teachers_and_each_is_asked_once(batches: BatchReader, tmp_path: Path) -> None:
    teacher = PixelTeacher()
    outputs = _outputs(teacher, tmp_path / "outputs.npy")
    for step in range(STEPS):
        batch = outputs.fill(batches.read(step))
        assert batch.targets is not None and batch.teacher_images == ()
        assert np.allclose(batch.targets, batch.images.mean(axis=(1, 2)), atol=1e-4)
    assert teacher.asked == outputs.images == VIEWS * COUNT
    outputs.flush()
    assert np.load(tmp_path / "outputs.npy").shape == (VIEWS * COUNT, 3)


def test_a_resumed_run_reads_what_was_computed(batches: BatchReader, tmp_path: Path) -> None:
    whole = _outputs(PixelTeacher(), tmp_path / "whole.npy")
    expected = [whole.fill(batches.read(step)).targets for step in range(STEPS)]
    first = _outputs(PixelTeacher(), tmp_path / "outputs.npy")
    for step in range(5):
        first.fill(batches.read(step))
    first.flush()
    first.close()
    teacher = PixelTeacher()
    second = _outputs(teacher, tmp_path / "outputs.npy")
    assert second.found
    rest = [second.fill(batches.read(step)).targets for step in range(5, STEPS)]
    assert np.array_equal(rest, expected[5:]) and teacher.asked == VIEWS * COUNT - 20


def test_a_lost_file_is_computed_again(batches: BatchReader, tmp_path: Path) -> None:
    whole = _outputs(PixelTeacher(), tmp_path / "whole.npy")
    expected = [whole.fill(batches.read(step)).targets for step in range(STEPS)]
    again = _outputs(PixelTeacher(), tmp_path / "outputs.npy")
    assert not again.found
    again.replay(batches, 9)
    assert np.array_equal([again.fill(batches.read(step)).targets for step in range(9, STEPS)], expected[9:])


def test_halved_columns_take_half_the_bytes_and_are_the_same_whenever(
    batches: BatchReader, tmp_path: Path
) -> None:
    """Rounded the first time too, when they do not come out of the file; the others keep every bit."""

    class Halved(PixelTeacher):
        halved = 2

    path = tmp_path / "outputs.npy"
    exact, rounded = _outputs(PixelTeacher(), tmp_path / "exact.npy"), _outputs(Halved(), path)
    for step in range(STEPS):
        batch = batches.read(step)
        expected, targets = exact.fill(batch).targets, rounded.fill(batch).targets
        assert expected is not None and targets is not None and targets.dtype == np.float32
        assert np.array_equal(targets[:, :1], expected[:, :1])
        assert np.array_equal(targets[:, 1:], expected[:, 1:].astype(np.float16))
    rounded.flush()
    whole, halved = np.load(path), np.load(tmp_path / "outputs-halved.npy")
    assert (whole.dtype, halved.dtype) == (np.float32, np.float16)
    assert whole.nbytes + halved.nbytes == VIEWS * COUNT * Halved().answers.bytes_per_view
    rounded.close()
    (tmp_path / "outputs-halved.npy").unlink()
    assert not _outputs(Halved(), path).found, "one of both is not enough"


def test_an_answer_too_large_to_be_halved_is_a_numeric_error(batches: BatchReader, tmp_path: Path) -> None:
    class Large(PixelTeacher):
        halved = 1

        def ask(self, batch: np.ndarray) -> np.ndarray:
            return np.full((len(batch), 3), 1e5, np.float32)

    with pytest.raises(NumericError, match="for the batch of step 0 are not finite"):
        _outputs(Large(), tmp_path / "outputs.npy").fill(batches.read(0))


def test_without_repeating_views_everything_is_asked(batches: BatchReader) -> None:
    reader = BatchReader(batches.reader, ViewPlan(augmentation("standard"), 0, 4, 0), SMALL, [SMALL])
    teacher = PixelTeacher()
    outputs = TeacherOutputs(teacher.answers, path=None)
    for step in range(STEPS):
        batch = outputs.fill(reader.read(step))
        assert np.allclose(batch.targets, batch.images.mean(axis=(1, 2)), atol=1e-4)
    assert teacher.asked == STEPS * 4
    outputs.flush()


def test_damage_is_told(batches: BatchReader, tmp_path: Path) -> None:
    path = tmp_path / "outputs.npy"
    path.write_bytes(b"short")
    with pytest.raises(DataError, match=r"outputs\.npy"):
        _outputs(PixelTeacher(), path)
    np.save(path, np.zeros((4, 3), np.float32))
    with pytest.raises(DataError, match="not float32"):
        _outputs(PixelTeacher(), path)


def test_a_teacher_that_fails_is_a_numeric_error(batches: BatchReader, tmp_path: Path) -> None:
    class Broken(PixelTeacher):
        def ask(self, batch: np.ndarray) -> np.ndarray:
            return np.full((len(batch), 3), np.nan, np.float32)

    with pytest.raises(NumericError, match="teacher's logits for the batch of step 0"):
        _outputs(Broken(), tmp_path / "outputs.npy").fill(batches.read(0))
