"""The pipeline of a part: order, errors in their places, the same bytes however it is run."""

import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from curate.encoding.pipeline import (
    Encoded,
    PartItems,
    PipelineOptions,
    Unreadable,
    encode_items,
    encode_parts,
)
from transferset.copies import item_id, perceptual_hash
from transferset.errors import DataError, InterruptedRun
from transferset.images import decode
from transferset.models.backbone import load_backbone
from transferset.models.runtime import FrozenModel, open_runtime

BATCH = 4


@pytest.fixture(scope="module")
def model() -> FrozenModel:
    backbone = load_backbone("timm:test_efficientnet@none", image_size=64)
    return open_runtime(backbone, runtime="eager", batch_size=BATCH, device="cpu")


@pytest.fixture(scope="module")
def images(picture: Callable[..., np.ndarray], encode: Callable[..., bytes]) -> list[bytes]:
    return [
        encode(picture(60 + 7 * seed, 400 - 9 * seed, seed), "jpeg" if seed % 2 else "png")
        for seed in range(11)
    ]


def _read(data: bytes) -> bytes:
    return data


def test_every_item_comes_out_once_in_order_with_what_was_found(
    model: FrozenModel, images: list[bytes]
) -> None:
    outcomes = list(encode_items(model, images, _read))
    assert [outcome.item for outcome in outcomes] == images
    for outcome, data in zip(outcomes, images, strict=True):
        assert isinstance(outcome, Encoded)
        short_side = model.preprocessing.resize_short_side
        assert outcome.item_id == item_id(data)
        assert outcome.perceptual_hash == perceptual_hash(decode(data, short_side=short_side))
        assert outcome.header.format in ("jpeg", "png")
        assert decode(data).shape[:2] == (outcome.header.height, outcome.header.width)
        assert outcome.embedding.shape == (model.dimension,)
        assert np.isclose(np.linalg.norm(outcome.embedding), 1, atol=1e-6)


def test_embeddings_do_not_depend_on_threads(model: FrozenModel, images: list[bytes]) -> None:
    runs = [
        np.stack(
            [o.embedding for o in encode_items(model, images, _read, PipelineOptions(workers=n)) if _ok(o)]
        )
        for n in (1, 2, 5)
    ]
    assert all(np.array_equal(run, runs[0]) for run in runs)


def _ok(outcome: Encoded | Unreadable) -> bool:
    return isinstance(outcome, Encoded)


def test_unreadable_items_keep_their_places_and_say_why(model: FrozenModel, images: list[bytes]) -> None:
    def read(item: bytes | Exception) -> bytes:
        if isinstance(item, Exception):
            raise item
        return item

    gone, cut = FileNotFoundError(2, "No such file or directory"), DataError("a.tar is cut off")
    items = [b"", images[0], gone, images[1][:300], cut, images[1], b"GIF89a", images[2]]
    outcomes = list(encode_items(model, items, read))
    reasons = [outcome.reason if isinstance(outcome, Unreadable) else None for outcome in outcomes]
    assert [outcome.item for outcome in outcomes] == items
    assert reasons[2] == "No such file or directory"
    assert reasons[4] == "a.tar is cut off"
    assert reasons[3] is not None
    assert "truncated" in reasons[3]
    assert [reason is None for reason in reasons] == [False, True, False, False, False, True, False, True]
    assert outcomes[0].item_id == item_id(b"")
    assert outcomes[2].item_id is None
    clean = [
        outcome.embedding for outcome in encode_items(model, images[:3], read) if isinstance(outcome, Encoded)
    ]
    found = [outcome.embedding for outcome in outcomes if isinstance(outcome, Encoded)]
    assert np.array_equal(np.stack(found), np.stack(clean))


def test_a_part_without_a_readable_item_is_all_errors(model: FrozenModel) -> None:
    outcomes = list(encode_items(model, [b""] * 50, _read))
    assert len(outcomes) == 50
    assert not any(map(_ok, outcomes))
    assert list(encode_items(model, [], _read)) == []


def test_images_over_the_pixel_limit_are_unreadable(model: FrozenModel, images: list[bytes]) -> None:
    outcomes = list(encode_items(model, images[:1], _read, PipelineOptions(max_pixels=100)))
    assert isinstance(outcomes[0], Unreadable)
    assert "too many pixels" in outcomes[0].reason


def test_items_are_taken_lazily_and_read_in_threads(model: FrozenModel, images: list[bytes]) -> None:
    taken = 0
    readers = set()

    def items() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(200):
            taken += 1
            yield images[0]

    def read(item: bytes) -> bytes:
        readers.add(threading.current_thread().name)
        return item

    outcomes = encode_items(model, items(), read, PipelineOptions(workers=2))
    next(outcomes)
    assert taken <= 5 * BATCH + 2
    assert threading.main_thread().name not in readers
    outcomes.close()


def test_an_unexpected_error_of_the_reader_ends_the_run(model: FrozenModel) -> None:
    def read(item: int) -> bytes:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(encode_items(model, [1], read))


def test_parts_in_a_row_give_what_each_gives_alone(model: FrozenModel, images: list[bytes]) -> None:
    cuts = [images[:5], [], [b""], images[5:6], images[6:]]
    parts = [PartItems(number, some, _read) for number, some in enumerate(cuts)]
    alone = [list(encode_items(model, some, _read)) for some in cuts]
    for number, (part, outcomes) in enumerate(encode_parts(model, parts, PipelineOptions(workers=2))):
        together = list(outcomes)
        assert part == number
        assert [one.item for one in together] == cuts[number]
        for one, other in zip(together, alone[number], strict=True):
            assert type(one) is type(other)
            if isinstance(one, Encoded) and isinstance(other, Encoded):
                assert np.array_equal(one.embedding, other.embedding)
    assert number == len(cuts) - 1


def test_the_next_part_is_read_while_the_present_one_is_encoded(images: list[bytes]) -> None:
    """The encoder waits, in the last batch of the first part, until an image of the second was read."""
    backbone = load_backbone("timm:test_efficientnet@none", image_size=64)
    info = open_runtime(backbone, runtime="eager", batch_size=BATCH, device="cpu").info
    second_read = threading.Event()

    def run(pixels: np.ndarray) -> np.ndarray:
        assert second_read.wait(20), "nothing of the next part was read"
        return np.ones((BATCH, backbone.dimension), np.float32)

    def read_second(data: bytes) -> bytes:
        second_read.set()
        return data

    parts = [PartItems("first", images[:2], _read), PartItems("second", images[2:4], read_second)]
    waiting = FrozenModel(run, backbone, info, BATCH)
    found = [(part, len(list(outcomes))) for part, outcomes in encode_parts(waiting, parts)]
    assert found == [("first", 2), ("second", 2)]


def test_an_error_in_the_next_part_comes_when_its_turn_has_come(
    model: FrozenModel, images: list[bytes]
) -> None:
    def broken() -> Iterator[bytes]:
        yield images[0]
        raise InterruptedRun("the disk is gone")

    parts = [PartItems("whole", images[:6], _read), PartItems("broken", broken(), _read)]
    found = []
    with pytest.raises(InterruptedRun, match="the disk is gone"):
        for part, outcomes in encode_parts(model, parts):
            for outcome in outcomes:
                found.append((part, outcome.item))
    assert found == [*(("whole", item) for item in images[:6]), ("broken", images[0])]
