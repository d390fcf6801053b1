import json
import shutil
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from distill.splits import facts
from distill.splits.checked import OVERLAP, PAGE, CheckedSet, check_splits
from distill.splits.overlap import BYTES, NEAR, PIXELS
from transferset.labelled import load_labelled


def checked(root: Path, drop_near: bool = False) -> CheckedSet:
    return check_splits(load_labelled(root), drop_near=drop_near, workers=1)


def names(found: CheckedSet) -> set[str]:
    root = found.labelled.root
    return {image.path.relative_to(root).as_posix() for image in found.labelled.images}


def left_out(found: CheckedSet, root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*.png")} - names(found)


def test_a_set_without_copies_is_left_alone(splits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = checked(splits, drop_near=True)
    assert found.labelled == load_labelled(splits) and not found.overlap.pairs
    told = capsys.readouterr().err
    assert not any(word in told for word in ("copies of", "repeat", "look like", "labels"))


def test_a_training_image_that_is_a_test_image_is_left_out(
    splits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(splits / "test/cat/0.png", splits / "train/cat/copy.png")
    found = checked(splits)
    assert left_out(found, splits) == {"train/cat/copy.png"}
    assert [pair.kind for pair in found.overlap.exact] == [BYTES]
    told = capsys.readouterr().err
    assert "copies of images in another split: 1 (1 in train and test; the first: " in told
    assert "train/cat/copy.png = test/cat/0.png); training leaves 1 out" in told


def test_other_bytes_with_the_same_pixels_are_an_exact_copy(splits: Path) -> None:
    with Image.open(splits / "val/dog/1.png") as image:
        image.save(splits / "train/dog/same.png", compress_level=1)
    found = checked(splits)
    assert [pair.kind for pair in found.overlap.exact] == [PIXELS]
    assert left_out(found, splits) == {"train/dog/same.png"}


def test_val_loses_what_is_in_test(splits: Path) -> None:
    shutil.copy(splits / "test/cat/0.png", splits / "val/cat/copy.png")
    assert left_out(checked(splits), splits) == {"val/cat/copy.png"}


def test_a_repeat_within_a_class_counts_once(splits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(splits / "train/cat/0.png", splits / "train/cat/zz.png")
    assert left_out(checked(splits), splits) == {"train/cat/zz.png"}
    assert (
        "repeats within a class: 1 (train/cat/zz.png = train/cat/0.png); each counts once"
        in capsys.readouterr().err
    )


def test_an_image_under_two_labels_is_told_and_stays(
    splits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(splits / "train/cat/0.png", splits / "train/dog/cat.png")
    found = checked(splits)
    assert not left_out(found, splits) and len(found.overlap.conflicts()) == 1
    assert "images under two labels: 1 (cat and dog: " in capsys.readouterr().err


@pytest.mark.parametrize("edit", ["re-encoded", "mirrored", "half the size", "cropped"])
def test_near_copies_are_told_and_dropped_if_asked_for(
    splits: Path, capsys: pytest.CaptureFixture[str], edit: str
) -> None:
    with Image.open(splits / "test/dog/0.png") as image:
        copy = {
            "re-encoded": image,
            "mirrored": ImageOps.mirror(image),
            "half the size": image.resize((60, 48)),
            "cropped": image.crop((10, 8, 112, 90)),
        }[edit]
        copy.save(splits / "train/dog/near.jpg", quality=70)
    found = checked(splits)
    assert "train/dog/near.jpg" in names(found)
    assert [pair.kind for pair in found.overlap.near] == [NEAR]
    assert "images that look like one in another split: 1 (" in capsys.readouterr().err
    assert "train/dog/near.jpg" not in names(checked(splits, drop_near=True))


@pytest.mark.parametrize("kind", ["pixels", "near"])
def test_a_copy_that_stands_under_two_labels_goes_from_both(splits: Path, kind: str) -> None:
    """The training images have the same bytes, of which the test image has the pixels or is cropped."""
    with Image.open(splits / "test/cat/0.png") as image:
        if kind == "pixels":
            image.save(splits / "train/cat/copy.png", compress_level=1)
        else:
            image.crop((10, 8, 112, 90)).save(splits / "train/cat/copy.png")
    shutil.copy(splits / "train/cat/copy.png", splits / "train/dog/copy.png")
    found = checked(splits, drop_near=True)
    assert left_out(found, splits) == {"train/cat/copy.png", "train/dog/copy.png"}
    assert len(found.overlap.across(found.overlap.pairs)) == 2


def test_a_class_keeps_its_training_images_where_it_would_lose_all(splits: Path) -> None:
    shutil.rmtree(splits / "val/cat")
    shutil.copytree(splits / "train/cat", splits / "val/cat")
    found = checked(splits)
    assert left_out(found, splits) == {f"val/cat/{number}.png" for number in range(6)}


def test_test_images_that_are_all_there_is_to_learn_from_are_told_of(
    splits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(splits / "train/cat")
    shutil.copytree(splits / "test/cat", splits / "train/cat")
    found = checked(splits)
    assert not left_out(found, splits)
    assert "test scores will be too high" in capsys.readouterr().err


def test_without_splits_a_near_repeat_goes_only_if_asked_for(splits: Path) -> None:
    with Image.open(splits / "train/cat/0.png") as image:
        image.save(splits / "train/cat/zz.jpg", quality=60)
    assert "cat/zz.jpg" in names(checked(splits / "train"))
    assert "cat/zz.jpg" not in names(checked(splits / "train", drop_near=True))


def test_unreadable_images_are_left_to_who_uses_them(splits: Path) -> None:
    (splits / "train/cat/bad.png").write_bytes(b"no image")
    found = checked(splits)
    assert "train/cat/bad.png" in names(found) and len(found.overlap.unreadable) == 1


def test_the_record_names_every_pair_and_what_is_learnt_from(splits: Path, tmp_path: Path) -> None:
    shutil.copy(splits / "test/cat/0.png", splits / "train/cat/copy.png")
    out = tmp_path / "run"
    out.mkdir()
    checked(splits).record(out)
    record = json.loads((out / OVERLAP).read_text())
    assert record["exact"][0]["splits"] == ["test", "train"] and record["exact"][0]["kind"] == "bytes"
    assert record["dropped"][0]["path"].endswith("train/cat/copy.png")
    assert len(record["item_ids"]["train"]) == 12 and len(record["item_ids"]["val"]) == 4
    page = (out / PAGE).read_text()
    assert page.count("data:image/jpeg;base64,") == 2 and "left out" in page


def test_nothing_is_decoded_twice(splits: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(splits / "test/cat/0.png", splits / "train/cat/copy.png")
    first = checked(splits)
    monkeypatch.setattr("distill.splits.facts._look", lambda *_: pytest.fail("decoded again"))
    monkeypatch.setattr("distill.splits.search._compared", lambda *_: pytest.fail("compared again"))
    assert checked(splits).overlap == first.overlap


def test_a_changed_image_is_looked_at_again(splits: Path, scene: object) -> None:
    checked(splits)
    shutil.copy(splits / "test/cat/0.png", splits / "train/cat/3.png")
    assert left_out(checked(splits), splits) == {"train/cat/3.png"}


def test_an_image_that_changes_while_it_is_read_is_looked_at_again(
    splits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changing, look = splits / "train/cat/3.png", facts._look

    def looked(path: Path, max_pixels: int) -> facts.Fact:
        found = look(path, max_pixels)
        if path == changing:
            shutil.copy(splits / "test/cat/0.png", changing)
        return found

    monkeypatch.setattr(facts, "_look", looked)
    assert not left_out(checked(splits), splits)
    assert left_out(checked(splits), splits) == {"train/cat/3.png"}


@pytest.mark.parametrize("content", [b"", b"damaged"])
def test_a_damaged_cache_costs_time_only(splits: Path, own_cache: Path, content: bytes) -> None:
    shutil.copy(splits / "test/cat/0.png", splits / "train/cat/copy.png")
    first = checked(splits)
    for path in (own_cache / "splits").iterdir():
        path.write_bytes(content)
    assert checked(splits).overlap == first.overlap


def test_a_cache_that_can_not_be_written(
    splits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("TRANSFERSET_CACHE", str(tmp_path / "file"))
    assert not checked(splits).overlap.pairs


def test_the_same_file_in_the_lists_of_two_splits(splits: Path, tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("train/cat/0.png,cat\ntrain/dog/0.png,dog\ntest/cat/0.png,cat\n")
    (tmp_path / "test.txt").write_text("test/cat/0.png,cat\n")
    word = Path(f"train={tmp_path / 'train.txt'},test={tmp_path / 'test.txt'},root={splits}")
    found = checked(word)
    assert [(image.split, image.path.parent.name) for image in found.labelled.images] == [
        ("train", "cat"),
        ("train", "dog"),
        ("test", "cat"),
    ]
    assert len(found.to_dict()["item_ids"]["train"]) == 2
