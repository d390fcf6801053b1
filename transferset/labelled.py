"""Labelled sets: class folders, split folders, a flat folder, or a table; read the same way everywhere."""

import csv
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from transferset.errors import DataError, UsageError
from transferset.images import IMAGE_SUFFIXES
from transferset.label_lists import IMAGE_ROOT_HINT, Lists, folder_lists, is_list, parse_lists, read_list

SPLITS = ("train", "val", "test")
OTHER_FORMATS = frozenset(
    (".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jxl", ".pgm", ".ppm", ".tif", ".tiff")
)
"""Suffixes of images that are not read: JPEG, PNG and WebP are."""
_TABLES, _LISTS = {".csv", ".parquet"}, {".txt"}


@dataclass(frozen=True)
class LabelledImage:
    """Where an image is, its class (None: no class was given) and its split (None: the set has no splits)."""

    path: Path
    label: str | None
    split: str | None


@dataclass(frozen=True)
class LabelledSet:
    """Images of one task in a fixed order (split, class, path). Nothing was opened: an image may be
    unreadable. `passed_over`: images of other formats in the folders, which are not part of the set."""

    root: Path
    images: tuple[LabelledImage, ...]
    passed_over: tuple[Path, ...] = ()

    @property
    def warning(self) -> str | None:
        """What people should know of `passed_over`."""
        if not self.passed_over:
            return None
        count, first = len(self.passed_over), self.passed_over[0]
        return f"{count} images in other formats than JPEG, PNG or WebP are left out; the first: {first}"

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The class names in sorted order; empty for an unlabelled (flat) set."""
        return tuple(sorted({image.label for image in self.images if image.label is not None}))

    @property
    def splits(self) -> set[str]:
        """The splits that have images, out of train, val and test."""
        return {image.split for image in self.images if image.split is not None}

    @property
    def has_splits(self) -> bool:
        """Whether the images were given splits."""
        return bool(self.splits)

    def split(self, name: str) -> "LabelledSet":
        """The images of one split, possibly none."""
        return LabelledSet(self.root, tuple(image for image in self.images if image.split == name))


def load_labelled(path: Path) -> LabelledSet:
    """List a labelled set: `PATH/<class>/…`, `PATH/{train,val,test}/<class>/…`, a flat folder of images
    (one unnamed class), a CSV or Parquet table with the columns image[,label[,split]], its paths relative
    to the table; or file lists (`transferset.label_lists`): one, a folder with train.txt, val.txt and
    test.txt, or a word such as `train=a.txt,val=b.txt,root=images`.

    Raises UsageError if `path` is none of these, DataError for a class without an image, an empty folder or a
    faulty table or list.
    """
    path = Path(path)
    lists = parse_lists(path)
    if lists is None and path.is_dir():
        lists = folder_lists(path)
    passed_over: tuple[Path, ...] = ()
    if lists is not None:
        images, root = _read_lists(lists)
    elif path.is_dir():
        images, root = _read_folder(path), path
        passed_over = tuple(_files_below(path, OTHER_FORMATS))
    else:
        images, root = _read_file(path, None), path.parent
    if not images:
        raise DataError(
            f"{path} holds no image", hint=f"images are files that end in {', '.join(sorted(IMAGE_SUFFIXES))}"
        )
    order = {name: number for number, name in enumerate(SPLITS)}
    images.sort(
        key=lambda image: (order.get(image.split or "", -1), image.label or "", os.fsencode(image.path))
    )
    return LabelledSet(root, tuple(images), passed_over)


def _read_lists(lists: Lists) -> tuple[list[LabelledImage], Path]:
    images: list[LabelledImage] = []
    for split, path in lists.files.items():
        found = _read_file(path, lists.root)
        own = next((image.split for image in found if image.split is not None), None)
        if split is not None and own is not None:
            raise UsageError(
                f"{path} has a column split, and is given as {split}=",
                hint=f"give {path} alone, or a list without splits",
            )
        if split is not None and any(image.label is None for image in found):
            raise DataError(f"{path} has no labels", hint="each line is path,label")
        images += [replace(image, split=split or image.split) for image in found]
    return images, lists.root or _common_folder([path.parent for path in lists.files.values()])


def _common_folder(folders: list[Path]) -> Path:
    if len(set(folders)) == 1:
        return folders[0]
    return Path(os.path.commonpath([folder.absolute() for folder in folders]))


def _read_file(path: Path, root: Path | None) -> list[LabelledImage]:
    """The images of a list or a table; names are relative to `root`, or to the file."""
    if not path.exists():
        raise UsageError(f"{path} does not exist")
    suffix = path.suffix.lower()
    if not path.is_file() or suffix not in _TABLES | _LISTS:
        raise UsageError(f"{path} is neither a folder nor a .txt list nor a .csv or .parquet table")
    if suffix != ".parquet" and is_list(path):
        return [LabelledImage(row.path, row.label, None) for row in read_list(path, root)]
    return _read_table(path, path.parent if root is None else root)


def _read_folder(root: Path) -> list[LabelledImage]:
    folders, files = _entries(root)
    if files and folders:
        raise DataError(
            f"{root} holds both images ({files[0].name}, …) and folders ({folders[0].name}, …)",
            hint="move the images into one folder per class, or into a folder of their own",
        )
    if files:
        return [LabelledImage(file, None, None) for file in files]
    splits = [folder for folder in folders if folder.name in SPLITS]
    if not splits or not all(_holds_folders_only(folder) for folder in splits):
        return _read_classes(folders, None, root)
    if len(splits) < len(folders):
        other = next(folder.name for folder in folders if folder.name not in SPLITS)
        raise DataError(
            f"{root} holds split folders ({splits[0].name}, …) and others ({other}, …)",
            hint="keep only train, val and test there, or only class folders",
        )
    return _read_splits(splits, root)


def _read_splits(splits: list[Path], root: Path) -> list[LabelledImage]:
    images: list[LabelledImage] = []
    empty: set[str] = set()
    for split in splits:
        for folder in _entries(split)[0]:
            found = _files_below(folder, IMAGE_SUFFIXES)
            images.extend(LabelledImage(file, folder.name, split.name) for file in found)
            if not found:
                empty.add(folder.name)
    _refuse_empty(empty - {image.label for image in images}, root)
    return images


def _read_classes(folders: list[Path], split: str | None, root: Path) -> list[LabelledImage]:
    found = {folder.name: _files_below(folder, IMAGE_SUFFIXES) for folder in folders}
    _refuse_empty({name for name, files in found.items() if not files}, root)
    return [LabelledImage(file, name, split) for name, files in found.items() for file in files]


def _refuse_empty(names: Iterable[str | None], root: Path) -> None:
    empty = sorted(str(name) for name in names)
    if empty:
        raise DataError(
            f"{root}: no image in the class folder{'s' if len(empty) > 1 else ''} {', '.join(empty)}",
            hint=f"add images ({', '.join(sorted(IMAGE_SUFFIXES))}), or remove the folder",
        )


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """The visible folders and image files directly in `folder`, sorted."""
    folders, files = [], []
    for entry in sorted(folder.iterdir()):
        if _hidden(entry.name):
            continue
        if entry.is_dir():
            folders.append(entry)
        elif _is_one_of(entry, IMAGE_SUFFIXES):
            files.append(entry)
    return folders, files


def _holds_folders_only(folder: Path) -> bool:
    folders, files = _entries(folder)
    return not files and bool(folders)


def _files_below(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    found: list[Path] = []
    for directory, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _hidden(name))
        paths = (Path(directory, name) for name in files if not _hidden(name))
        found.extend(path for path in paths if _is_one_of(path, suffixes))
    return found


def _is_one_of(path: Path, suffixes: frozenset[str]) -> bool:
    """By its name; a link may be broken, which is told when it is read, but nothing waits for a pipe."""
    return path.suffix.lower() in suffixes and (path.is_file() or path.is_symlink())


def _read_table(path: Path, base: Path) -> list[LabelledImage]:
    columns, rows = _parquet_rows(path) if path.suffix.lower() == ".parquet" else _csv_rows(path)
    if "image" not in columns:
        raise DataError(
            f"{path} has no column `image` (its columns: {', '.join(columns) or 'none'})",
            hint="the columns are image, label and, if there are splits, split",
        )
    images = [_image_of_row(path, base, number, row) for number, row in rows]
    _check_table(path, images)
    return images


def _image_of_row(path: Path, base: Path, number: int, row: dict[str, str]) -> LabelledImage:
    name, label, split = (row.get(column, "").strip() for column in ("image", "label", "split"))
    if not name or "\0" in name:
        raise DataError(f"{path}, row {number}: no image")
    if split and split not in SPLITS:
        raise DataError(f"{path}, row {number}: the split {split!r} is none of {', '.join(SPLITS)}")
    return LabelledImage(base / name, label or None, split or None)


def _check_table(path: Path, images: list[LabelledImage]) -> None:
    for what in ("label", "split"):
        missing = sum(getattr(image, what) is None for image in images)
        if 0 < missing < len(images):
            raise DataError(f"{path}: {missing} of {len(images)} rows have no {what}")
    repeated = [str(name) for name, times in Counter(image.path for image in images).items() if times > 1]
    if repeated:
        raise DataError(f"{path} lists {repeated[0]} more than once", hint="list every image once")
    if images and not any(image.path.is_file() for image in images):
        raise DataError(
            f"{path}: none of its images exists (the first: {images[0].path})",
            hint=f"paths in the table are relative to its folder: {IMAGE_ROOT_HINT}",
        )


def _csv_rows(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="", skipinitialspace=True, strict=True)
            columns = list(reader.fieldnames or [])
            rows = [(reader.line_num, row) for row in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read as CSV: {error}", hint="save it as UTF-8 with commas"
        ) from error
    for number, row in rows:
        if None in row:
            raise DataError(f"{path}, row {number}: more fields than columns")
    return columns, rows


def _parquet_rows(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from error
    table = table.select([name for name in ("image", "label", "split") if name in table.column_names])
    rows = [
        (number, {name: "" if value is None else str(value) for name, value in row.items()})
        for number, row in enumerate(table.to_pylist(), start=1)
    ]
    return table.column_names, rows
