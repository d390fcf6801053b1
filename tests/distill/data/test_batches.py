from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from distill.data.batches import BatchReader, ViewPlan
from distill.data.samples import ImageReader, join, samples_of_files
from distill.data.views import augmentation, draw_view, render_crop
from transferset.models.preprocessing import Preprocessing

STUDENT = Preprocessing(24, "shortest", 0.9, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
TEACHER = replace(STUDENT, size=40, interpolation="bicubic")


@pytest.fixture
def reader(tmp_path: Path, picture: Callable[..., np.ndarray], encode: Callable[..., bytes]) -> ImageReader:
    paths = [tmp_path / f"{number}.png" for number in range(10)]
    for number, path in enumerate(paths):
        path.write_bytes(encode(picture(40, 30, number), "png"))
    return ImageReader(samples_of_files(paths), None)


def test_both_models_see_the_view_of_sample_and_number(reader: ImageReader) -> None:
    plan = ViewPlan(augmentation("strong"), seed=3, batch_size=4, views=0)
    batch = BatchReader(reader, plan, STUDENT, [TEACHER]).read(4)
    assert batch.rounds.tolist() == [1, 1, 1, 1] and batch.fresh.all()
    assert len(batch.teacher_images) == 1 and batch.teacher_images[0].shape == (4, 40, 40, 3)
    for row, place in enumerate(batch.places):
        decoded = reader.image(int(place))
        view = draw_view(plan.augment, 3, decoded.item_id, 1)
        assert np.array_equal(batch.images[row], render_crop(decoded.rgb, view, 24, "bilinear"))
        assert np.array_equal(batch.teacher_images[0][row], render_crop(decoded.rgb, view, 40, "bicubic"))


def test_views_repeat_after_k_epochs_and_the_teacher_rests(reader: ImageReader) -> None:
    plan = ViewPlan(augmentation("standard"), seed=0, batch_size=10, views=2)
    batches = [BatchReader(reader, plan, STUDENT, [TEACHER]).read(step) for step in range(4)]
    assert [batch.rounds[0] for batch in batches] == [0, 1, 0, 1]
    assert [bool(batch.fresh.all()) for batch in batches] == [True, True, False, False]
    assert batches[2].teacher_images == ()
    by_place = [batch.images[np.argsort(batch.places)] for batch in batches]
    assert np.array_equal(by_place[0], by_place[2]) and np.array_equal(by_place[1], by_place[3])
    assert not np.array_equal(by_place[0], by_place[1])


def test_repeated_samples_have_other_views_in_every_place(reader: ImageReader) -> None:
    twice = ImageReader(join(reader.samples.subset(np.arange(0)), reader.samples, 2), None)
    plan = ViewPlan(augmentation("standard"), seed=0, batch_size=20, views=3)
    images = []
    for step in range(3):
        batch = BatchReader(twice, plan, STUDENT).read(step)
        images += [batch.images[batch.places == 0][0], batch.images[batch.places == 10][0]]
    assert len({image.tobytes() for image in images}) == 6


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_workers_change_nothing(reader: ImageReader, workers: int) -> None:
    plan = ViewPlan(augmentation("standard"), seed=0, batch_size=7)
    batches = BatchReader(reader, plan, STUDENT, [TEACHER])
    for step, batch in zip(range(2, 8), batches.stream(2, 8, workers), strict=True):
        expected = batches.read(step)
        assert batch.step == step and np.array_equal(batch.places, expected.places)
        assert np.array_equal(batch.images, expected.images)
        assert np.array_equal(batch.teacher_images[0], expected.teacher_images[0])


def test_no_augmentation_is_the_models_own_preprocessing(reader: ImageReader) -> None:
    batch = BatchReader(reader, ViewPlan(augmentation("none"), 0, 3), STUDENT).read(0)
    for row, place in enumerate(batch.places):
        assert np.array_equal(batch.images[row], STUDENT.render(reader.image(int(place)).rgb))


def test_models_of_one_size_share_the_pixels(reader: ImageReader) -> None:
    batch = BatchReader(reader, ViewPlan(augmentation("standard"), 0, 3), STUDENT, [STUDENT]).read(0)
    assert np.array_equal(batch.images, batch.teacher_images[0])


def test_a_replaced_sample_brings_its_own_index(reader: ImageReader) -> None:
    damaged = reader.samples.sources[4]
    damaged.write_bytes(bytes(damaged.stat().st_size))
    batch = BatchReader(reader, ViewPlan(augmentation("standard"), 0, 10), STUDENT).read(0)
    found = dict(zip(batch.places.tolist(), batch.indices.tolist()))
    assert found.pop(4) == reader.image(4).index != 4 and all(
        place == index for place, index in found.items()
    )


def test_further_students_see_the_same_views_at_their_size(reader: ImageReader) -> None:
    plan, small = ViewPlan(augmentation("strong"), 3, 4), replace(STUDENT, size=16)
    batch = BatchReader(reader, plan, STUDENT, (), [small, STUDENT]).read(4)
    assert np.array_equal(batch.of_student(0).images, BatchReader(reader, plan, STUDENT).read(4).images)
    assert np.array_equal(batch.of_student(1).images, BatchReader(reader, plan, small).read(4).images)
    assert np.array_equal(batch.of_student(2).images, batch.images) and not batch.of_student(1).others


def test_views_may_have_a_seed_of_their_own(reader: ImageReader) -> None:
    plan = ViewPlan(augmentation("strong"), seed=3, batch_size=4, views=2, view_seed=7)
    batch = BatchReader(reader, plan, STUDENT).read(4)
    assert (
        batch.places.tolist()
        == BatchReader(reader, replace(plan, view_seed=None), STUDENT).read(4).places.tolist()
    )
    assert batch.numbers is not None
    for row, place in enumerate(batch.places):
        decoded = reader.image(int(place))
        view = draw_view(plan.augment, 7, decoded.item_id, int(batch.numbers[row]))
        assert np.array_equal(batch.images[row], render_crop(decoded.rgb, view, 24, "bilinear"))
