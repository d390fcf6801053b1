"""Make the offline demo's images: a pool, a labelled set and a test set out of packaged photographs.

The photographs are those that lie inside the wheels of scikit-image and scikit-learn, so that no network is
needed. Ten of them are the classes of the task; the others are distractors and only ever appear in the pool.

**Disjoint regions.** Each of the ten is cut into a grid of roughly square cells with a gap between cells.
Along a row the cells belong in turn to the pool, the labelled set, the pool and the test set; the next row
starts one further. Every crop lies inside one cell, so no pixel of a photograph occurs in two of the three
sets, and each of them sees the whole photograph, not one side of it. The distractors are one cell.

**Not too easy.** Which photograph a crop is from can be told by its colour or its sharpness alone. So every
crop, also those of the distractors, is turned to grey, mirrored and turned at random, taken at a random
scale, and gets a random exposure, contrast, blur and noise.

The result is a pure function of the photographs, the versions of Pillow and numpy, and the seed.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

CLASSES = {
    "brick": ("skimage", "data/brick.png"),
    "cat": ("skimage", "data/chelsea.png"),
    "coins": ("skimage", "data/coins.png"),
    "dahlia": ("sklearn", "datasets/images/flower.jpg"),
    "grass": ("skimage", "data/grass.png"),
    "gravel": ("skimage", "data/gravel.png"),
    "handwriting": ("skimage", "data/text.png"),
    "moon": ("skimage", "data/moon.png"),
    "print": ("skimage", "data/page.png"),
    "tissue": ("skimage", "data/ihc.png"),
}
DISTRACTORS = {
    "astronaut": ("skimage", "data/astronaut.png"),
    "camera": ("skimage", "data/camera.png"),
    "cell": ("skimage", "data/cell.png"),
    "clock": ("skimage", "data/clock_motion.png"),
    "coffee": ("skimage", "data/coffee.png"),
    "galaxies": ("skimage", "data/hubble_deep_field.jpg"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "pagoda": ("sklearn", "datasets/images/china.jpg"),
    "retina": ("skimage", "data/retina.jpg"),
    "rocket": ("skimage", "data/rocket.jpg"),
}
POOL, LABELLED, TEST = "pool", "train", "test"
ROW_PATTERN = (POOL, LABELLED, POOL, TEST)
CELL_SIDE = 96
GAP = 4
MIN_CONTRAST = 8.0
TRIES = 20


@dataclass(frozen=True)
class DemoSizes:
    """How many crops are made: per class of the task, and per distractor photograph of the pool."""

    labelled: int = 5
    test: int = 60
    pool_relevant: int = 80
    pool_distractor: int = 320


@dataclass(frozen=True)
class Cell:
    """A rectangle of a photograph in pixels and the set ("pool", "train", "test") its crops belong to."""

    left: int
    top: int
    right: int
    bottom: int
    split: str


def photograph_path(package: str, inside: str) -> Path:
    """Where a packaged photograph lies on disk. Raises FileNotFoundError that names the package to
    install."""
    spec = importlib.util.find_spec(package)
    path = Path(next(iter(spec.submodule_search_locations or [""]))) / inside if spec else Path(inside)
    if not path.is_file():
        wheel = {"skimage": "scikit-image", "sklearn": "scikit-learn"}[package]
        raise FileNotFoundError(f"{inside} of {package} is not installed (pip install {wheel})")
    return path


def grid(width: int, height: int) -> list[Cell]:
    """The cells of a photograph, `GAP` pixels apart, in reading order, with the set that each belongs to."""
    columns, rows = max(4, round(width / CELL_SIDE)), max(2, round(height / CELL_SIDE))
    cells = []
    for row in range(rows):
        for column in range(columns):
            split = ROW_PATTERN[(row + column) % len(ROW_PATTERN)]
            cells.append(
                Cell(
                    left=column * width // columns + GAP // 2,
                    top=row * height // rows + GAP // 2,
                    right=(column + 1) * width // columns - GAP // 2,
                    bottom=(row + 1) * height // rows - GAP // 2,
                    split=split,
                )
            )
    return cells


def crop(photograph: Image.Image, cell: Cell, rng: np.random.Generator) -> bytes:
    """One square grey JPEG from inside `cell`: random place, scale, orientation, exposure, contrast, blur and
    noise."""
    for _ in range(TRIES):
        image = photograph.crop(place(cell, rng))
        if np.asarray(image).std() >= MIN_CONTRAST:
            break
    side = int(rng.integers(64, 129))
    image = image.resize((side, side), Image.Resampling.BICUBIC).rotate(90 * int(rng.integers(0, 4)))
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.2, 1.2))))
    grey = np.asarray(image, dtype=np.float32) / 255
    grey = (grey - float(grey.mean())) / float(grey.std()) * rng.uniform(0.08, 0.22) + rng.uniform(0.3, 0.7)
    grey += rng.normal(0, rng.uniform(0.0, 0.05), grey.shape).astype(np.float32)
    buffer = io.BytesIO()
    Image.fromarray((grey.clip(0, 1) * 255).round().astype(np.uint8)).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def place(cell: Cell, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """A random square inside the cell, as (left, top, right, bottom)."""
    width, height = cell.right - cell.left, cell.bottom - cell.top
    side = int(rng.uniform(0.6, 1.0) * min(width, height, 2 * CELL_SIDE))
    left = cell.left + int(rng.integers(0, width - side + 1))
    top = cell.top + int(rng.integers(0, height - side + 1))
    return left, top, left + side, top + side


def crops(photograph: Image.Image, cells: list[Cell], count: int, seed: list[int]) -> Iterator[bytes]:
    """`count` crops, taken from the cells in turn. The seed makes them independent of every other
    photograph."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        yield crop(photograph, cells[number % len(cells)], rng)


def write_demo_images(out: Path, sizes: DemoSizes = DemoSizes(), seed: int = 0) -> dict[str, int]:
    """Write `out/pool/*.jpg` and `out/task/{train,test}/<class>/*.jpg`; returns the number of images of each.

    The pool's file names say nothing of their content: its images are numbered in a shuffled order.
    """
    pool: list[bytes] = []
    counts = {POOL: 0, LABELLED: 0, TEST: 0}
    for position, (name, where) in enumerate(sorted(CLASSES.items())):
        photograph = Image.open(photograph_path(*where)).convert("L")
        cells = grid(*photograph.size)
        for number, split in enumerate((POOL, LABELLED, TEST)):
            wanted = {POOL: sizes.pool_relevant, LABELLED: sizes.labelled, TEST: sizes.test}[split]
            own = [cell for cell in cells if cell.split == split]
            made = list(crops(photograph, own, wanted, [seed, position, number]))
            if split == POOL:
                pool += made
            else:
                counts[split] += write_folder(out / "task" / split / name, made)
    for position, (_, where) in enumerate(sorted(DISTRACTORS.items())):
        photograph = Image.open(photograph_path(*where)).convert("L")
        whole = Cell(0, 0, *photograph.size, POOL)
        pool += crops(photograph, [whole], sizes.pool_distractor, [seed, len(CLASSES) + position, 0])
    order = np.random.default_rng([seed, 999]).permutation(len(pool))
    counts[POOL] = write_folder(out / "pool", [pool[index] for index in order])
    return counts


def write_folder(folder: Path, images: list[bytes]) -> int:
    """Write JPEGs as `00000.jpg`, …; returns how many. What is there already keeps its time of change."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(images):
        path = folder / f"{number:05d}.jpg"
        if not path.is_file() or path.read_bytes() != data:
            path.write_bytes(data)
    return len(images)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="folder to write pool/ and task/ to")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    counts = write_demo_images(arguments.out, seed=arguments.seed)
    print(f"{arguments.out}: {counts[POOL]} pool, {counts[LABELLED]} labelled and {counts[TEST]} test images")
    return 0


if __name__ == "__main__":
    sys.exit(main())
