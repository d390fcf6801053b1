"""A small task of its own for every module that kills its commands."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.runs import succeeded
from tests.trees import tree

Make = Callable[..., Any]


@pytest.fixture(scope="session")
def make_task(
    tmp_path_factory: pytest.TempPathFactory, picture: Make, encode: Make, run_python: Make
) -> Callable[[int], Path]:
    """A folder with `pool` (so many images), its `index`, and two `queries` of each of two classes."""

    def make(images: int) -> Path:
        root = tmp_path_factory.mktemp("task")
        for folder, count, first in (("pool", images, 0), ("queries/a", 2, 900), ("queries/b", 2, 950)):
            (root / folder).mkdir(parents=True)
            for seed in range(first, first + count):
                (root / folder / f"{seed}.png").write_bytes(encode(picture(32, 32, seed=seed), "png"))
        build = ["-m", "curate.cli", "build-index", "--pool", str(root / "pool")]
        build += ["--index", str(root / "index"), "--encoder", "timm:test_efficientnet@none"]
        succeeded(run_python([*build, "--image-size", "32", "--runtime", "eager"]))
        return root

    return make


@pytest.fixture(scope="module")
def unbroken(task: list[str], tmp_path_factory: pytest.TempPathFactory, run_python: Make) -> dict[str, bytes]:
    """What the module's `task`, a command line without --out, writes where nobody kills it."""
    out = tmp_path_factory.mktemp("unbroken") / "out"
    succeeded(run_python(["-m", "curate.cli", *task, "--out", str(out)]))
    return tree(out)
