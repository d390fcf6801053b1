from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from transferset.errors import DataError, TransfersetError, UsageError
from transferset.label_lists import lists_from, parse_lists, with_image_root
from transferset.labelled import LabelledImage, load_labelled


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Four images in one folder, and one more of class cat whose name another class has too."""
    root = tmp_path / "images"
    for name in ("1.jpg", "2.jpg", "3.jpg", "4.jpg", "cat/0.jpg", "dog/0.jpg"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8"))
    return path


def failure(given: Path) -> TransfersetError:
    with pytest.raises(TransfersetError) as caught:
        load_labelled(given)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("name", ["train.txt", "train_10.csv"])
@pytest.mark.parametrize(
    "text",
    [
        "1.jpg,cat\n2.jpg,dog\n",
        "\ufeff1.jpg,cat\r\n2.jpg,dog\r\n",
        '\n"1.jpg", cat \n\n2.jpg,dog',
    ],
    ids=["plain", "BOM and CRLF", "blank lines, quotes and no last newline"],
)
def test_a_list_without_header(images: Path, name: str, text: str) -> None:
    found = load_labelled(write(images / name, text))
    assert found.root == images and not found.has_splits
    assert found.images == (
        LabelledImage(images / "1.jpg", "cat", None),
        LabelledImage(images / "2.jpg", "dog", None),
    )


def test_a_txt_with_a_header_is_a_table(images: Path) -> None:
    found = load_labelled(write(images / "set.txt", "image,label,split\n1.jpg,cat,test\n"))
    assert found.images == (LabelledImage(images / "1.jpg", "cat", "test"),)


def test_lists_of_splits_in_a_word(images: Path, tmp_path: Path) -> None:
    train = write(tmp_path / "lists" / "train_1.txt", "1.jpg,cat\n2.jpg,dog\n")
    val = write(tmp_path / "lists" / "val.txt", "3.jpg,dog\n")
    found = load_labelled(Path(f"train={train},val={val},root={images}"))
    assert found.root == images
    assert [(image.split, image.label, image.path.name) for image in found.images] == [
        ("train", "cat", "1.jpg"),
        ("train", "dog", "2.jpg"),
        ("val", "dog", "3.jpg"),
    ]


def test_a_folder_of_lists(images: Path) -> None:
    write(images / "train.txt", "1.jpg,cat\n")
    write(images / "test.txt", "2.jpg,cat\n")
    found = load_labelled(images)
    assert found.root == images and found.splits == {"train", "test"}


def test_split_folders_come_before_lists(tmp_path: Path) -> None:
    write(tmp_path / "train" / "cat" / "1.jpg", "x")
    write(tmp_path / "train.txt", "train/cat/1.jpg,dog\n")
    assert load_labelled(tmp_path).classes == ("cat",)


def test_a_stray_text_file_among_class_folders_is_no_list(tmp_path: Path) -> None:
    write(tmp_path / "cat" / "1.jpg", "x")
    write(tmp_path / "train.txt", "notes, on training\n")
    assert load_labelled(tmp_path).classes == ("cat",)


def test_several_label_budgets_take_a_choice(images: Path) -> None:
    write(images / "train_5.txt", "1.jpg,cat\n")
    write(images / "train_10.txt", "1.jpg,cat\n2.jpg,dog\n")
    write(images / "test.txt", "3.jpg,cat\n")
    error = failure(images)
    assert "no train.txt, but train_10.txt, train_5.txt" in error.message
    assert error.hint and f"train={images / 'train_10.txt'},test={images / 'test.txt'}" in error.hint
    assert load_labelled(Path(error.hint.removeprefix("choose: "))).splits == {"train", "test"}


def test_names_may_be_relative_to_the_folder_of_their_class(images: Path) -> None:
    found = load_labelled(write(images / "val.txt", "0.jpg,cat\n0.jpg,dog\n1.jpg,dog\n"))
    assert [image.path.relative_to(images).as_posix() for image in found.images] == [
        "cat/0.jpg",
        "1.jpg",
        "dog/0.jpg",
    ]


def test_the_same_image_in_two_splits_is_left_to_the_check(images: Path) -> None:
    write(images / "train.txt", "1.jpg,cat\n")
    write(images / "test.txt", "1.jpg,cat\n")
    assert len(load_labelled(images).images) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1.jpg,cat\n5.jpg,cat\n6.jpg,dog\n", "2 of its 3 images are not there; the first: .*5.jpg"),
        ("1.jpg,cat\n2.jpg,dog\n1.jpg,cat\n", "1.jpg twice: lines 1 and 3"),
        ("1.jpg,cat\n1.jpg,dog\n", "twice: lines 1 and 2, as cat and as dog"),
        ("1.jpg,cat\n2.jpg\n", "line 2: 1 column instead of 2"),
        ("1.jpg cat\n", "line 1: 1 column instead of 2"),
        ("1.jpg,cat,train\n", "line 1: 3 columns instead of 2"),
        ("1.jpg,cat\n2.jpg,\n", "line 2: 2.jpg has no label"),
        ("1.jpg,cat\n,dog\n", "line 2: no image"),
        ("path,label\n1.jpg,cat\n", "line 1: path,label looks like a header"),
        ('1.jpg,"cat\n', "cannot be read as a list"),
        ("", "holds no image"),
    ],
)
def test_faulty_lists_are_bad_data(images: Path, text: str, message: str) -> None:
    path = write(images / "train.txt", text)
    assert isinstance(failure(path), DataError)
    with pytest.raises(DataError, match=message):
        load_labelled(path)


def test_a_list_that_is_no_text(images: Path) -> None:
    path = images / "train.txt"
    path.write_bytes("1.jpg,cat\n".encode("utf-16"))
    assert "cannot be read as a list" in failure(path).message


def test_a_missing_image_names_the_option(images: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "elsewhere" / "train.txt", "1.jpg,cat\n")
    error = failure(path)
    assert error.hint and "--image-root" in error.hint
    assert load_labelled(with_image_root(path, images)).images[0].path == images / "1.jpg"


def test_image_root_goes_with_tables_words_and_folders_of_lists(images: Path, tmp_path: Path) -> None:
    table = tmp_path / "set.parquet"
    pq.write_table(pa.table({"image": ["1.jpg"], "label": ["cat"], "split": ["test"]}), table)
    assert load_labelled(with_image_root(table, images)).images == (
        LabelledImage(images / "1.jpg", "cat", "test"),
    )
    folder = write(tmp_path / "lists" / "train.txt", "2.jpg,dog\n").parent
    assert load_labelled(with_image_root(folder, images)).images[0] == LabelledImage(
        images / "2.jpg", "dog", "train"
    )
    word = with_image_root(Path(f"test={folder / 'train.txt'}"), images)
    assert load_labelled(word).images[0].split == "test"
    assert with_image_root(table, None) == table


def test_names_from_a_folder_are_the_same_images_from_here(tmp_path: Path) -> None:
    assert lists_from(tmp_path, Path("task")) == tmp_path / "task"
    assert lists_from(tmp_path, Path("/data/task")) == Path("/data/task")
    found = parse_lists(lists_from(tmp_path, Path("train=a.txt,test=/lists/b.txt,root=images")))
    assert found is not None and found.root == tmp_path / "images"
    assert found.files == {"train": tmp_path / "a.txt", "test": Path("/lists/b.txt")}


def test_image_root_where_it_can_not_be_meant(images: Path, tmp_path: Path) -> None:
    write(tmp_path / "set" / "cat" / "1.jpg", "x")
    for given, root in (
        (tmp_path / "set", images),
        (Path(f"train=a.txt,root={images}"), images),
        (tmp_path / "a.txt", tmp_path / "missing"),
    ):
        with pytest.raises(UsageError):
            with_image_root(given, root)


@pytest.mark.parametrize("word", ["dev=a.txt", "train=a.txt,train=b.txt", "train=", "root=x", "all=a,test=b"])
def test_faulty_words_are_wrong_usage(word: str) -> None:
    with pytest.raises(UsageError):
        parse_lists(Path(word))


def test_what_is_no_word() -> None:
    assert parse_lists(Path("some/folder=x")) is None and parse_lists(Path("set.csv")) is None


def test_a_table_with_splits_is_no_list_of_one(images: Path) -> None:
    table = write(images / "set.csv", "image,label,split\n1.jpg,cat,train\n")
    assert isinstance(failure(Path(f"train={table}")), UsageError)
