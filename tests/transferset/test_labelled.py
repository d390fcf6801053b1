import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from transferset.errors import DataError, TransfersetError, UsageError
from transferset.labelled import LabelledImage, load_labelled


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def failure(path: Path) -> TransfersetError:
    with pytest.raises(TransfersetError) as caught:
        load_labelled(path)
    return caught.value


def test_class_folders(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "duck/b.JPG",
        "duck/a.png",
        "cat/deep/er/c.webp",
        "cat/notes.txt",
        "cat/.hidden.jpg",
        "readme.md",
    )
    touch(tmp_path, ".cache/x.jpg", "__MACOSX/cat/x.jpg")
    found = load_labelled(tmp_path)
    assert found.root == tmp_path and found.classes == ("cat", "duck") and not found.has_splits
    assert found.images == (
        LabelledImage(tmp_path / "cat/deep/er/c.webp", "cat", None),
        LabelledImage(tmp_path / "duck/a.png", "duck", None),
        LabelledImage(tmp_path / "duck/b.JPG", "duck", None),
    )
    assert found.splits == set() and found.split("train").images == ()


def test_split_folders(tmp_path: Path) -> None:
    touch(tmp_path, "test/cat/1.jpg", "train/duck/2.jpg", "train/cat/3.jpg", "val/duck/4.jpg")
    (tmp_path / "val" / "cat").mkdir()
    found = load_labelled(tmp_path)
    assert found.has_splits and found.splits == {"train", "val", "test"} and found.classes == ("cat", "duck")
    assert [(i.split, i.label, i.path.name) for i in found.images] == [
        ("train", "cat", "3.jpg"),
        ("train", "duck", "2.jpg"),
        ("val", "duck", "4.jpg"),
        ("test", "cat", "1.jpg"),
    ]
    assert found.split("val").classes == ("duck",) and len(found.split("train").images) == 2


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    touch(tmp_path, "train/1.jpg", "bus/2.jpg")
    found = load_labelled(tmp_path)
    assert found.classes == ("bus", "train") and not found.has_splits


def test_a_flat_folder_is_one_unnamed_class(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a.jpeg")
    found = load_labelled(tmp_path)
    assert [(i.path.name, i.label) for i in found.images] == [("a.jpeg", None), ("b.jpg", None)]
    assert found.classes == ()


@pytest.mark.parametrize("folder", ["", "cat", "train/cat"])
def test_pipes_are_no_images_and_broken_links_are(tmp_path: Path, folder: str) -> None:
    touch(tmp_path / folder, "1.jpg")
    (tmp_path / folder / "2.jpg").symlink_to("gone")
    os.mkfifo(tmp_path / folder / "3.jpg")
    assert [image.path.name for image in load_labelled(tmp_path).images] == ["1.jpg", "2.jpg"]


def test_class_folders_may_be_links(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "1.jpg")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "cat").symlink_to(tmp_path / "elsewhere")
    assert load_labelled(tmp_path / "set").classes == ("cat",)


def test_names_of_classes_are_kept_as_they_are(tmp_path: Path) -> None:
    names = ["<b>bold</b>", "10", "9", "grün", "a b"]
    touch(tmp_path, *(f"{name.replace('/', '_')}/1.jpg" for name in names))
    assert load_labelled(tmp_path).classes == tuple(sorted(name.replace("/", "_") for name in names))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["duck/1.jpg", "cat/note.txt", "dog/x.gif"], "no image in the class folders cat, dog"),
        (["train/duck/1.jpg", "train/cat/x.txt", "val/duck/2.jpg"], "no image in the class folder cat"),
        (["duck/1.jpg", "2.jpg"], "holds both images .* and folders"),
        (["train/duck/1.jpg", "extra/1.jpg"], "split folders .* and others"),
        (["note.txt"], "holds no image"),
        ([], "holds no image"),
    ],
)
def test_faulty_folders_are_bad_data(tmp_path: Path, names: list[str], message: str) -> None:
    error = failure(touch(tmp_path, *names))
    assert isinstance(error, DataError) and error.hint
    with pytest.raises(DataError, match=message):
        load_labelled(tmp_path)


def test_paths_that_are_no_set_are_wrong_usage(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    for path in (tmp_path / "missing", tmp_path / "a.jpg"):
        assert isinstance(failure(path), UsageError)


def test_a_csv_table(tmp_path: Path) -> None:
    touch(tmp_path, "images/1.jpg", "images/2.jpg")
    table = tmp_path / "set.csv"
    other = tmp_path / "images" / "2.jpg"
    table.write_text(
        f'\ufeffimage,label,split,comment\nimages/1.jpg,"cat, small",train,\n{other},7,test,x\n',
        encoding="utf-8",
    )
    assert load_labelled(table).images == (
        LabelledImage(tmp_path / "images/1.jpg", "cat, small", "train"),
        LabelledImage(other, "7", "test"),
    )
    assert load_labelled(table).root == tmp_path


def test_a_csv_without_labels_is_one_unnamed_class(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg")
    (tmp_path / "set.csv").write_text("image\n1.jpg\n")
    assert load_labelled(tmp_path / "set.csv").images == (LabelledImage(tmp_path / "1.jpg", None, None),)


def test_a_parquet_table(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "2.jpg")
    table = pa.table({"image": ["2.jpg", "1.jpg"], "label": [1, 0], "other": [b"\xff", None]})
    pq.write_table(table, tmp_path / "set.parquet")
    found = load_labelled(tmp_path / "set.parquet")
    assert [(i.path.name, i.label) for i in found.images] == [("1.jpg", "0"), ("2.jpg", "1")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,label\n1.jpg,a\n", "no column `image` .its columns: file, label"),
        ("", "no column `image` .its columns: none"),
        ("image,label\n", "holds no image"),
        ("image,label\n1.jpg,a\n,b\n", "row 3: no image"),
        ("image,label\n1.jpg,a,b\n", "row 2: more fields than columns"),
        ("image,label\n1.jpg,a\n2.jpg,\n", "1 of 2 rows have no label"),
        ("image,label,split\n1.jpg,a,train\n2.jpg,b,\n", "1 of 2 rows have no split"),
        ("image,label,split\n1.jpg,a,dev\n", "'dev' is none of train, val, test"),
        ("image,label\n1.jpg,a\n1.jpg,b\n", "more than once"),
        ("image,label\nx/1.jpg,a\nx/2.jpg,b\n", "none of its images exists"),
        ('image,label\n"1.jpg,a\n', "cannot be read as CSV"),
        (b"image,label\n\xff\xfe.jpg,a\n", "cannot be read as CSV"),
        (b"image,label\n1\x00.jpg,a\n", "row 2: no image|cannot be read as CSV"),
    ],
)
def test_faulty_tables_are_bad_data(tmp_path: Path, content: str | bytes, message: str) -> None:
    touch(tmp_path, "1.jpg", "2.jpg")
    table = tmp_path / "set.csv"
    table.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError, match=message):
        load_labelled(table)


def test_a_damaged_parquet_is_bad_data(tmp_path: Path) -> None:
    for content in (b"", b"PAR1 nonsense PAR1"):
        (tmp_path / "set.parquet").write_bytes(content)
        with pytest.raises(DataError, match="cannot be read as Parquet"):
            load_labelled(tmp_path / "set.parquet")


def test_a_real_set(scenes20: Path) -> None:
    found = load_labelled(scenes20)
    assert len(found.classes) == 20 and found.splits == {"train", "val", "test"}
    assert len(found.split("train").images) == 1000 and len(found.split("test").images) == 2000


def test_images_of_other_formats_are_told_of(tmp_path: Path) -> None:
    touch(tmp_path, "duck/a.png", "duck/b.tif", "duck/deep/c.GIF", "cat/d.jpg", "cat/notes.txt", ".x/e.bmp")
    found = load_labelled(tmp_path)
    assert [path.name for path in found.passed_over] == ["b.tif", "c.GIF"] and len(found.images) == 2
    assert found.warning is not None and found.warning.startswith("2 images in other formats than JPEG")
    (tmp_path / "duck/b.tif").unlink()
    (tmp_path / "duck/deep/c.GIF").unlink()
    assert load_labelled(tmp_path).warning is None
    touch(tmp_path, "cow/only.tif")
    assert ".jpg" in str(failure(tmp_path).hint)
