"""What users install: the wheel, in an environment of its own, used from another folder."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"transferset", "curate", "distill", "service"}


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    (path,) = out.glob("transferset-*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel in it; dependencies come from this one, the checkout does not."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=folder)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return folder


def test_the_wheel_holds_the_four_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    folders = {name.partition("/")[0] for name in names}
    assert folders - PACKAGES == {wheel.name.removesuffix("-py3-none-any.whl") + ".dist-info"}
    sources = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if name.partition("/")[0] in PACKAGES} == sources
    assert "transferset/py.typed" in names


@pytest.mark.parametrize("command", ["curate", "distill"])
def test_commands_of_the_wheel_run_from_anywhere(environment: Path, tmp_path: Path, command: str) -> None:
    done = run(environment / "bin" / command, "--help", cwd=tmp_path)
    expected = {
        "curate": ("build-index", "retrieve", "info", "serve"),
        "distill": ("adapt", "train", "finetune"),
    }
    assert all(name in done.stdout for name in expected[command])


def test_the_installed_packages_are_the_wheels(environment: Path, tmp_path: Path) -> None:
    code = """
import importlib.util, curate, distill, service, transferset
from importlib.metadata import version
print(*(module.__file__ for module in (curate, distill, service, transferset)), sep="\\n")
assert version("transferset") == transferset.__version__
for name in ("tests", "benchmarks", "index_data"):
    assert importlib.util.find_spec(name) is None, name
"""
    files = run(environment / "bin" / "python", "-c", code, cwd=tmp_path).stdout.split()
    assert len(files) == 4 and all(Path(file).is_relative_to(environment) for file in files)
