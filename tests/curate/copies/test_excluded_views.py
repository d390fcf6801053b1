"""Views of excluded images: embedded once for an index, whatever becomes of a run."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.copies import excluded_views as module
from curate.copies.excluded_views import excluded_views
from curate.encoding.pipeline import PipelineOptions
from curate.encoding.views import COPY_VIEWS, embed_views
from curate.index.encoder import IndexEncoder
from curate.index.forget import ForgetOptions, forget
from curate.index.index import open_index
from curate.index.layout import VIEWS_CACHE
from curate.index.stored_views import stored_files
from curate.selection.guard import load_excluded
from transferset.copies import item_id

Make = Callable[..., Any]


class Embedded(list[str]):
    """Names of the images that were embedded, in order."""


class Guarded:
    """The images of a folder against an index of its own; calling it is what a run does."""

    def __init__(self, index: Path, folder: Path) -> None:
        self.index, self.folder = index, folder
        self.model = IndexEncoder(open_index(index)).model

    def __call__(self) -> np.ndarray:
        images = load_excluded([self.folder]).images
        return excluded_views(images, open_index(self.index), self.model, PipelineOptions(2))


@pytest.fixture
def guarded(small_pool: Any, tmp_path: Path, tinted: Make, encode: Make) -> Guarded:
    """Six excluded images: four pictures, one of them twice, and a file that is none."""
    shutil.copytree(small_pool.index, tmp_path / "index", ignore=shutil.ignore_patterns(VIEWS_CACHE))
    folder = tmp_path / "test"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.png").write_bytes(encode(tinted(number % 3, 700 + number), "png"))
    shutil.copy(folder / "1.png", folder / "again.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return Guarded(tmp_path / "index", folder)


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> Embedded:
    """What the runs of a test embed."""
    names = Embedded()

    def counting(model: Any, images: Any, *rest: Any) -> Iterator[np.ndarray | None]:
        for image, rows in zip(images, embed_views(model, images, *rest), strict=True):
            names.append(image.path.name)
            yield rows

    monkeypatch.setattr(module, "embed_views", counting)
    return names


def test_the_second_run_embeds_nothing_and_compares_the_same(
    guarded: Guarded, embedded: Embedded, capsys: pytest.CaptureFixture[str]
) -> None:
    first = guarded()
    assert sorted(embedded) == ["0.png", "2.png", "3.png", "again.png"], "equal bytes once"
    assert "6 excluded images: 0 from the index's cache, 4 embedded" in capsys.readouterr().err
    embedded.clear()
    second = guarded()
    assert embedded == [] and second.tobytes() == first.tobytes()
    assert "4 from the index's cache, 0 embedded" in capsys.readouterr().err


def test_vectors_are_those_of_the_views(guarded: Guarded) -> None:
    guarded()
    names = sorted(path.name for path in guarded.folder.iterdir())
    found = dict(zip(names, guarded(), strict=True))
    assert all(rows.shape == (COPY_VIEWS, guarded.model.dimension) for rows in found.values())
    for name in ("0.png", "1.png", "again.png"):
        (expected,) = embed_views(guarded.model, [guarded.folder / name], Path.read_bytes)
        assert expected is not None
        np.testing.assert_allclose(found[name].astype(np.float32), expected, atol=1e-3)
    assert not found["broken.png"].any(), "it has no views"


def test_only_new_images_are_embedded(
    guarded: Guarded, embedded: Embedded, tinted: Make, encode: Make
) -> None:
    guarded()
    embedded.clear()
    (guarded.folder / "new.png").write_bytes(encode(tinted(1, 800), "png"))
    (guarded.folder / "0.png").rename(guarded.folder / "moved.png")
    vectors = guarded()
    assert embedded == ["new.png"] and len(vectors) == 7


def test_another_list_of_views_or_runtime_is_embedded_anew(
    guarded: Guarded, embedded: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    guarded()
    embedded.clear()
    monkeypatch.setattr(module, "VIEWS_VERSION", module.VIEWS_VERSION + 1)
    guarded()
    assert len(embedded) == 4
    monkeypatch.undo()
    before = module.views_state(open_index(guarded.index), guarded.model)
    guarded.model.info = type(guarded.model.info)("openvino", "bf16", "1", "cpu")
    assert module.views_state(open_index(guarded.index), guarded.model) != before


def test_damage_is_told_and_mended(
    guarded: Guarded, embedded: Embedded, capsys: pytest.CaptureFixture[str]
) -> None:
    first = guarded()
    (path,) = stored_files(guarded.index / VIEWS_CACHE)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    embedded.clear()
    assert guarded().tobytes() == first.tobytes()
    assert len(embedded) == 4 and "1 damaged file" in capsys.readouterr().err
    assert path.read_bytes() == whole


def test_an_index_that_cannot_be_written_to_serves_without(
    guarded: Guarded, embedded: Embedded, capsys: pytest.CaptureFixture[str]
) -> None:
    (guarded.index / VIEWS_CACHE).write_bytes(b"")
    assert guarded().tobytes() == guarded().tobytes() and len(embedded) == 8
    assert "can't be written to" in capsys.readouterr().err


def test_a_stopped_run_keeps_what_it_embedded(
    guarded: Guarded, embedded: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = module.embed_views

    def stopped(*arguments: Any) -> Iterator[np.ndarray | None]:
        rows = counting(*arguments)
        yield from (next(rows) for _ in range(3))
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "embed_views", stopped)
    with pytest.raises(KeyboardInterrupt):
        guarded()
    begun = list(embedded)
    embedded.clear()
    monkeypatch.setattr(module, "embed_views", counting)
    guarded()
    assert len(begun) == 3 and len(embedded) == 1 and not set(begun) & set(embedded)


def test_an_image_that_changes_meanwhile_is_not_stored_under_its_old_name(
    guarded: Guarded, embedded: Embedded, tinted: Make, encode: Make
) -> None:
    images = load_excluded([guarded.folder]).images
    kept = (guarded.folder / "2.png").read_bytes()
    (guarded.folder / "2.png").write_bytes(encode(tinted(0, 900), "png"))
    excluded_views(images, open_index(guarded.index), guarded.model, PipelineOptions(2))
    (guarded.folder / "2.png").write_bytes(kept)
    embedded.clear()
    guarded()
    assert embedded == ["2.png"]


def test_nothing_is_kept_of_a_forgotten_item(guarded: Guarded, embedded: Embedded, small_pool: Any) -> None:
    item = small_pool.images["t/00005"]
    (guarded.folder / "item.jpg").write_bytes(item)
    forget(guarded.index, ForgetOptions(item_ids=[item_id(item).hex()]))
    vectors = guarded()
    embedded.clear()
    assert guarded().tobytes() == vectors.tobytes() and embedded == ["item.jpg"]
    assert not [
        path for path in stored_files(guarded.index / VIEWS_CACHE) if item_id(item) in path.read_bytes()
    ]
