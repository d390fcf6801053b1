"""The least agreement is found on what was fetched."""

from pathlib import Path

import numpy as np
import pytest

from curate.encoding.pipeline import PipelineOptions, encode_items
from curate.fetch.agreement import LEAST_IMAGES, calibrate
from curate.fetch.chunks import ChunkFile, Outcome, read_chunk
from curate.index.encoder import resume
from curate.index.index import open_index
from curate.index.options import BuildOptions

PIPELINE = PipelineOptions(2)


@pytest.fixture(scope="module")
def model(small_pool):
    return resume(open_index(small_pool.index).plan, BuildOptions()).model


def outcomes(folder: Path, images: list[bytes]) -> list[Outcome]:
    chunk = ChunkFile(folder, "000000")
    for place, data in enumerate(images):
        chunk.add(place, data)
    chunk.finish()
    return list(read_chunk(folder / "000000.parquet"))


def test_copies_reach_it_and_other_images_do_not(model, small_pool, tmp_path, encode, picture) -> None:
    images = [encode(picture(90, 60, seed=seed), quality=95) for seed in range(30)]
    found = calibrate(model, outcomes(tmp_path, images), PIPELINE)
    assert found.images == 30 and found.source == "calibrated on fetched images"
    assert (
        found.value is not None and 0.9 < found.value < 1 and found.others is not None and found.others < 0.2
    )
    again = [encode(picture(90, 60, seed=seed), quality=85) for seed in range(30)]
    vectors = [
        np.stack([one.embedding for one in encode_items(model, some, lambda data: data, PIPELINE)])
        for some in (images, again)
    ]
    assert (vectors[0] * vectors[1]).sum(axis=1).min() >= found.value
    assert calibrate(model, outcomes(tmp_path, images), PIPELINE) == found


def test_few_images_tell_nothing(tmp_path, encode, picture) -> None:
    images = [encode(picture(9, 9, seed=seed)) for seed in range(LEAST_IMAGES - 1)]
    found = calibrate(None, outcomes(tmp_path, images), PIPELINE)  # type: ignore[arg-type]
    assert found.value is None and "too few" in found.source
