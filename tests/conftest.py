"""Fixtures that every test may use: pictures made on the spot, and real data beside the project where it is
there."""

import atexit
import io
import os
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ["TRANSFERSET_CACHE"] = tempfile.mkdtemp(prefix="transferset-cache-")
atexit.register(shutil.rmtree, os.environ["TRANSFERSET_CACHE"], ignore_errors=True)

FewFiles = Callable[[int], AbstractContextManager[None]]
RunCommand = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


def _needed(path: Path, what: str) -> Path:
    if not path.exists():
        pytest.skip(f"{what} is not beside the project ({path.relative_to(ROOT.parent)})")
    return path


@pytest.fixture
def few_files() -> FewFiles:
    """`with few_files(n)`: no more than `n` further files can be open at the same time."""

    @contextmanager
    def limited(count: int) -> Iterator[None]:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = [os.open(os.devnull, os.O_RDONLY) for _ in range(count + 1)]
        for one in free:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free[-1], limits[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    return limited


@pytest.fixture
def run_command(capsys: pytest.CaptureFixture[str]) -> RunCommand:
    """`run_command(app, *arguments)`: exit code, stdout and stderr of a command, run within this process."""
    from transferset.entry_point import run_cli

    def run(app: Any, *arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            run_cli(app, [str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real images and models for development; the test is skipped where it is missing."""
    return _needed(SHARED, "the folder with real images")


@pytest.fixture(scope="session")
def pool_tars(shared: Path) -> list[Path]:
    """Tars of real photographs in img2dataset's output format, sorted."""
    return sorted(_needed(shared / "data" / "pool", "the pool of real images").glob("*.tar"))


@pytest.fixture(scope="session")
def scenes20(shared: Path) -> Path:
    """A labelled set of real photographs: `{train,val,test}/<class>/`, twenty kinds of scene."""
    return _needed(shared / "data" / "targets" / "scenes20", "the scenes20 set")


@pytest.fixture(scope="session")
def tinyclip(shared: Path) -> Path:
    """Folder of a small real CLIP that open_clip loads as `local-dir:PATH`."""
    return _needed(shared / "models" / "tinyclip", "the small CLIP model")


@pytest.fixture(scope="session")
def picture() -> Callable[..., np.ndarray]:
    """`picture(width, height, seed=0)`: a smooth coloured picture (h, w, 3) uint8, different for every
    seed."""

    def make(width: int = 64, height: int = 48, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
        return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))

    return make


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    """`encode(rgb or PIL image, format="jpeg", **options of Pillow's save)`: the encoded bytes."""

    def make(image: np.ndarray | Image.Image, format: str = "jpeg", **options: Any) -> bytes:
        buffer = io.BytesIO()
        pillow = image if isinstance(image, Image.Image) else Image.fromarray(image)
        pillow.save(buffer, format, **options)
        return buffer.getvalue()

    return make


@pytest.fixture(scope="session")
def write_tar() -> Callable[[Path, Mapping[str, bytes]], Path]:
    """`write_tar(path, {member name: bytes})`: a tar with these members in this order; returns `path`."""

    def make(path: Path, members: Mapping[str, bytes]) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w") as tar:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return path

    return make


@pytest.fixture(scope="session")
def run_python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`run_python(code or argument list, **options of subprocess.run)`: a fresh interpreter with the
    project in it."""

    def run(code: str | list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        arguments = ["-c", code] if isinstance(code, str) else code
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
        options = {"capture_output": True, "text": True, "timeout": 120, **options}
        return subprocess.run([sys.executable, *arguments], env=environment, check=False, **options)

    return run
