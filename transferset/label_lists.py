"""File lists, `path,label` on each line and no header, and the word that names several of them at once.

Benchmarks publish their splits so: one text file for each split and each label budget, with names that are
relative to a folder of images, or to the folder of their class in it.
"""

import csv
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from transferset.errors import DataError, UsageError

Given = TypeVar("Given", Path, Path | None)

ROOT, ALL = "root", "all"
_KEYS = ("train", "val", "test", ALL, ROOT)
_SPLITS, _SUFFIXES = ("train", "val", "test"), (".txt", ".csv")
_HEADINGS = {"image", "path", "file", "filename", "file_name", "image_path", "name"}
IMAGE_ROOT_HINT = (
    "pass --image-root (image_root in a recipe), the folder that the names in the list are relative to"
)


@dataclass(frozen=True)
class Lists:
    """Files of labelled images by their split (None: they have none), and the folder of the images (None:
    that of each file)."""

    files: Mapping[str | None, Path]
    root: Path | None = None


@dataclass(frozen=True)
class ListRow:
    """One line: where the image is, and its label."""

    path: Path
    label: str


def parse_lists(given: Path) -> Lists | None:
    """The lists that a word such as `train=a.txt,val=b.txt,root=images` names: `train`, `val`, `test`, or
    `all` for one without splits, and `root`, the folder of the images. None where it is no such word.

    Raises UsageError for a key that is unknown or comes twice.
    """
    text = os.fspath(given)
    if not re.match(r"[A-Za-z_]+=", text) or given.exists():
        return None
    parts = re.split(r"(?:^|,)([A-Za-z_]+)=", text)[1:]
    keys, values = parts[::2], parts[1::2]
    for key, value in zip(keys, values):
        if key not in _KEYS:
            raise UsageError(f"{text}: {key}= is none of {', '.join(_KEYS)}", hint="train=…,val=…,test=…")
        if keys.count(key) > 1 or not value:
            raise UsageError(f"{text}: {key}= {'has no file' if not value else 'is given twice'}")
    named = {key: Path(value) for key, value in zip(keys, values)}
    root = named.pop(ROOT, None)
    if not named or (ALL in named and len(named) > 1):
        raise UsageError(
            f"{text} names {'no list' if not named else 'all and a split'}",
            hint="give train=…,val=…,test=…, or all=… for a list without splits",
        )
    return Lists({None if key == ALL else key: path for key, path in named.items()}, root)


def with_image_root(given: Given, root: Path | None) -> Given:
    """The word for the same lists or table with their images in `root` (`--image-root`).

    Raises UsageError for a folder of images, which needs none, and for a word that has a root.
    """
    if root is None:
        return given
    if given is None:
        raise UsageError("--image-root without labelled images", hint="leave it out")
    if not root.is_dir():
        raise UsageError(f"--image-root {root} is not a folder")
    lists = parse_lists(given) or (folder_lists(given) if given.is_dir() else Lists({None: given}))
    if lists is None:
        raise UsageError(
            f"--image-root goes with lists of files; {given} is a folder", hint="leave --image-root out"
        )
    if lists.root is not None:
        raise UsageError(
            f"--image-root {root}, and {given} says {ROOT}={lists.root}", hint="give one of them"
        )
    return _word(Lists(lists.files, root))


def lists_from(folder: Path, given: Path) -> Path:
    """Labelled images that are named from `folder`: the same path, or word for lists, from here."""
    lists = parse_lists(given)
    if lists is None:
        return folder / given
    root = None if lists.root is None else folder / lists.root
    return _word(Lists({split: folder / path for split, path in lists.files.items()}, root))


def _word(lists: Lists) -> Path:
    named = {**{split or ALL: path for split, path in lists.files.items()}, ROOT: lists.root}
    return Path(",".join(f"{name}={path}" for name, path in named.items() if path is not None))


def folder_lists(folder: Path) -> Lists | None:
    """train.txt, val.txt and test.txt (or .csv) of a folder, as far as they are there and are lists; None
    where none is, or where there are folders of these names.

    Raises DataError where it takes a choice: several lists of training images and no train.txt.
    """
    if any((folder / split).is_dir() for split in _SPLITS):
        return None
    files: dict[str | None, Path] = {}
    for split, path in ((split, folder / f"{split}{end}") for split in _SPLITS for end in _SUFFIXES):
        if split not in files and path.is_file() and _has_images(path):
            files[split] = path
    if not files:
        return None
    budgets = sorted(path for path in folder.glob("train?*.txt") if _has_images(path))
    if "train" not in files and budgets:
        names = ", ".join(path.name for path in budgets[:4]) + (", …" if len(budgets) > 4 else "")
        others = "".join(f",{split}={path}" for split, path in files.items())
        raise DataError(f"{folder} has no train.txt, but {names}", hint=f"choose: train={budgets[0]}{others}")
    return Lists(files)


def is_list(path: Path) -> bool:
    """Whether a file is a list: a .txt without the columns of a table, or a .csv that has no header."""
    first = _first_row(path)
    if "image" in first:
        return False
    return path.suffix.lower() == ".txt" or _is_image_name(first)


def read_list(path: Path, root: Path | None = None) -> list[ListRow]:
    """The lines of a list; names are relative to `root` (None: the list's own folder), or to the folder of
    their label in it.

    Raises DataError for a line that is not `path,label`, an image that is listed twice, or is not there.
    """
    base = path.parent if root is None else root
    rows: list[ListRow] = []
    seen: dict[Path, tuple[int, str]] = {}
    missing: list[ListRow] = []
    for number, fields in _fields(path):
        name, label = _checked(path, number, fields)
        row, there = _located(base, name, label)
        if row.path in seen:
            line, other = seen[row.path]
            both = f", as {other} and as {label}" if other != label else ""
            raise DataError(
                f"{path} lists {row.path} twice: lines {line} and {number}{both}",
                hint="list every image once",
            )
        seen[row.path] = number, label
        rows.append(row)
        if not there:
            missing.append(row)
    if missing:
        raise DataError(
            f"{path}: {len(missing)} of its {len(rows)} images are not there; the first: {missing[0].path}",
            hint=IMAGE_ROOT_HINT if root is None else f"{root} is --image-root: is it the right folder?",
        )
    return rows


def _located(base: Path, name: str, label: str) -> tuple[ListRow, bool]:
    plain = base / name
    if plain.is_file():
        return ListRow(plain, label), True
    in_class = base / label / name
    if in_class.is_file():
        return ListRow(in_class, label), True
    return ListRow(plain, label), False


def _checked(path: Path, number: int, fields: list[str]) -> tuple[str, str]:
    where = f"{path}, line {number}"
    if len(fields) != 2:
        hint = "each line is path,label"
        if len(fields) > 2:
            hint += "; put a name that contains a comma in double quotes"
        elif len(fields[0].split()) > 1:
            hint += ", with a comma between them"
        columns = "1 column" if len(fields) == 1 else f"{len(fields)} columns"
        raise DataError(f"{where}: {columns} instead of 2 ({','.join(fields)[:60]})", hint=hint)
    name, label = (field.strip() for field in fields)
    if not name or "\0" in name or "\0" in label:
        raise DataError(f"{where}: no image", hint="each line is path,label")
    if not label:
        raise DataError(f"{where}: {name} has no label", hint="each line is path,label")
    if number == 1 and name.lower() in _HEADINGS:
        raise DataError(
            f"{where}: {name},{label} looks like a header",
            hint="remove it, or call the columns image,label (and split)",
        )
    return name, label


def _fields(path: Path) -> list[tuple[int, list[str]]]:
    """The non-empty lines with their numbers."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True, strict=True)
            return [(reader.line_num, row) for row in reader if any(field.strip() for field in row)]
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read as a list: {error}", hint="save it as UTF-8 text, path,label on each line"
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _first_row(path: Path) -> list[str]:
    """The fields of the first line, [] where there is none that can be read."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(iter(lambda: file.readline(65_536), ""), skipinitialspace=True)
            return next((row for row in ([f.strip() for f in row] for row in reader) if any(row)), [])
    except (OSError, csv.Error, UnicodeDecodeError):
        return []


def _is_image_name(fields: list[str]) -> bool:
    from transferset.images import IMAGE_SUFFIXES  # slow to import, and commands import this module

    return bool(fields) and Path(fields[0]).suffix.lower() in IMAGE_SUFFIXES


def _has_images(path: Path) -> bool:
    fields = _first_row(path)
    return len(fields) == 2 and _is_image_name(fields)
