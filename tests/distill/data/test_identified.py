from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from distill.data import identified as module
from distill.data.identified import identified
from distill.data.samples import join, samples_of_files
from tests.distill.data.memory import peak_bytes
from transferset.copies import item_id


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.jpg" for number in range(5)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * 10)
    return paths


@pytest.mark.parametrize("workers", [0, 3])
def test_every_sample_gets_the_id_of_its_bytes(files: list[Path], workers: int) -> None:
    found = identified(samples_of_files(files), workers)
    assert [row.tobytes() for row in found.ids] == [item_id(path.read_bytes()) for path in files]


def test_a_place_that_is_listed_often_is_read_once(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, rest = samples_of_files(files[:2]), samples_of_files(files[2:])
    calls: list[bytes] = []
    monkeypatch.setattr(module, "item_id", lambda data: calls.append(data) or item_id(data))
    found = identified(join(first, rest, repeat=3))
    assert len(calls) == 5
    assert np.array_equal(found.ids[2:5], found.ids[8:11]) and found.ids.any(axis=1).all()


def test_known_ids_are_left_and_missing_files_have_none(files: list[Path]) -> None:
    known = identified(samples_of_files(files))
    files[1].write_bytes(b"other bytes")
    assert identified(known) is known
    files[0].unlink()
    assert np.flatnonzero(~identified(samples_of_files(files)).ids.any(axis=1)).tolist() == [0]


def test_the_fingerprint_then_covers_the_contents(files: list[Path]) -> None:
    before = identified(samples_of_files(files)).fingerprint
    files[3].write_bytes(b"9" * 10)
    assert identified(samples_of_files(files)).fingerprint != before


def test_places_are_read_in_the_order_of_their_first_sample(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is a source twice is the same place."""
    calls: list[bytes] = []
    monkeypatch.setattr(module, "item_id", lambda data: calls.append(data[:1]) or item_id(data))
    samples = samples_of_files([files[number] for number in (3, 0, 3, 4, 0)])
    found = identified(samples)
    assert calls == [b"\3", b"\0", b"\4"]
    assert [row.tobytes() for row in found.ids] == [item_id(path.read_bytes()) for path in samples.sources]


def test_a_place_is_no_object(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    count = 20_000
    one = samples_of_files(files[:1]).subset(np.zeros(count, np.int64))
    samples = replace(one, offset=np.arange(count))
    monkeypatch.setattr(module, "_read", lambda samples, rows, workers: (bytes(16) for _ in rows))
    assert peak_bytes(lambda: identified(samples)) < 120 * count
