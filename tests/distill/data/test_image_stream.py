import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from distill.data.image_stream import ImageRef, Streaming, list_images
from distill.data.rendered import Rendering
from tests.conftest import FewFiles
from transferset.copies import item_id
from transferset.errors import OpenFilesError, UsageError
from transferset.models.preprocessing import Preprocessing

SQUASH = Preprocessing(8, "squash", 1.0, "bilinear", (0.5, 0.5, 0.5), (1.0, 1.0, 1.0))


@pytest.fixture
def folder(
    tmp_path: Path,
    encode: Callable[..., bytes],
    picture: Callable[..., np.ndarray],
    write_tar: Callable[..., Path],
) -> Path:
    """Two files, a tar of two images, and things that are no images."""
    (tmp_path / "deep").mkdir()
    for number, name in enumerate(("deep/a.png", "b.JPG")):
        (tmp_path / name).write_bytes(encode(picture(seed=number), "png"))
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.png").write_bytes(b"")
    members = {f"{n}.{end}": encode(picture(seed=9 + n)) for n in range(2) for end in ("jpg", "json")}
    write_tar(tmp_path / "c.tar", members)
    return tmp_path


def _names(images: object, root: Path) -> list[str]:
    return [os.path.relpath(image.name, root) for image in images]  # type: ignore[attr-defined]


def test_folders_tars_and_globs(folder: Path) -> None:
    everything = ["b.JPG", "c.tar/0.jpg", "c.tar/1.jpg", "deep/a.png"]
    assert _names(list_images([str(folder)]), folder) == everything
    assert _names(list_images([str(folder / "*.tar"), str(folder / "deep")]), folder) == [
        "c.tar/0.jpg",
        "c.tar/1.jpg",
        "deep/a.png",
    ]
    with pytest.raises(UsageError, match="does not exist"):
        list_images([str(folder / "*.webp")])


def test_a_list_on_stdin_is_read_as_it_comes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = f"{folder}/b.JPG\r\n\n{folder}/c.tar\n{folder}/missing.png\n".encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines)))
    assert _names(list_images(["-"]), folder) == ["b.JPG", "c.tar/0.jpg", "c.tar/1.jpg", "missing.png"]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_is_rendered_before_the_next_line_comes(
    folder: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever writes the lines waits for the answers."""
    out, into = os.pipe()
    with open(out) as stdin, open(into, "w") as lines:  # noqa: PTH123
        monkeypatch.setattr("sys.stdin", stdin)
        batches = Streaming(SQUASH, 64, workers).batches(list_images(["-"]))
        for asked in ("b.JPG", "deep/a.png"):
            print(folder / asked, file=lines, flush=True)
            answered = next(batch for batch in batches if batch.images)
            assert _names(answered.images, folder) == [asked] and len(answered.pixels) == 1
        print(folder / "b.JPG", end="", file=lines, flush=True)
        lines.close()
        assert [_names(batch.images, folder) for batch in batches if batch.images] == [["b.JPG"]]


def test_names_that_no_image_can_have_stop_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(folder / "pipe.png")
    bad = [
        b"a\0b.png",
        300 * b"x",
        f"{folder}/pipe.png".encode(),
        b"\xff\xfe.png",
        f"{folder}/d/../b".encode(),
    ]
    lines = b"\n".join([*bad, f"{folder}/b.JPG".encode()])
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines)))
    batches = list(Streaming(SQUASH, 64, 0).batches(list_images(["-"])))
    (batch,) = (one for one in batches if one.images)
    assert list(batch.reasons) == [0, 1, 2, 3, 4] and len(batch.pixels) == 1
    assert "null byte" in batch.reasons[0] and batch.reasons[2] == "not a regular file"


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "tar"])
def test_images_on_stdin_are_no_paths(
    kind: str,
    picture: Callable,
    encode: Callable,
    write_tar: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = encode(picture(20, 20, seed=0), "png" if kind == "tar" else kind)
    if kind == "tar":
        data = write_tar(tmp_path / "t.tar", {"x.png": data}).read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    with pytest.raises(UsageError, match="stdin holds an image or a tar, not paths"):
        list(list_images(["-"]))


def test_a_closed_stdin_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UsageError, match="stdin"):
        list_images(["-"])


@pytest.mark.parametrize("workers", [0, 2])
def test_images_are_rendered_and_bad_ones_named(
    folder: Path, workers: int, encode: Callable[..., bytes], picture: Callable[..., np.ndarray]
) -> None:
    tar = folder / "c.tar"
    tar.write_bytes(tar.read_bytes()[: 512 * 3])  # within the first image
    images = [*list_images([str(folder)]), ImageRef("gone", folder / "gone.png")]
    batches = list(Streaming(SQUASH, 2, workers).batches(images))
    assert [len(batch.images) for batch in batches] == [2, 2]
    reasons = {
        os.path.relpath(batch.images[place].name, folder): reason
        for batch in batches
        for place, reason in batch.reasons.items()
    }
    assert list(reasons) == ["c.tar", os.path.relpath("gone", folder)]
    assert "cut off" in reasons["c.tar"]
    data = encode(picture(seed=1), "png")
    assert batches[0].ids == (item_id(data), None)
    assert np.array_equal(batches[0].pixels, SQUASH.render(picture(seed=1))[None])


def test_images_are_not_unreadable_for_the_limit_of_open_files(folder: Path, few_files: FewFiles) -> None:
    images = [image for image in list_images([str(folder)]) if image is not None]
    for image in images:
        with few_files(0), pytest.raises(OpenFilesError):
            list(Streaming(SQUASH, batch_size=2).batches([image]))
    with few_files(0), pytest.raises(OpenFilesError):
        list(Rendering(SQUASH, batch_size=2).batches([folder / "b.JPG"]))
