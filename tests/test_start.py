"""Help and usage errors come at once: nothing heavy is imported before a command needs it."""

import resource
import subprocess
from collections.abc import Callable

import pytest

RunPython = Callable[..., subprocess.CompletedProcess[str]]
HEAVY = {"torch", "torchvision", "timm", "open_clip", "faiss", "openvino", "pandas", "matplotlib"}
CODE = """
import sys
from {package}.cli import main
try:
    main()
finally:
    print("loaded:", *sorted({{name.partition(".")[0] for name in sys.modules}}), file=sys.stderr)
"""
CALLS = [
    ("curate", ["--help"], 0),
    ("curate", ["retrieve", "--help"], 0),
    ("curate", ["retrieve", "--no-such-option"], 2),
    ("curate", ["info", "--index", "/no/such/index"], 3),
    ("distill", ["--help"], 0),
    ("distill", ["train", "--help"], 0),
    ("distill", ["train", "--no-such-option"], 2),
]


@pytest.mark.parametrize(("package", "arguments", "code"), CALLS)
def test_nothing_heavy_is_imported(
    run_python: RunPython, package: str, arguments: list[str], code: int
) -> None:
    seconds = []
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = run_python(["-c", CODE.format(package=package), *arguments])
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert done.returncode == code, done.stderr
    loaded = set(done.stderr.rpartition("loaded:")[2].split())
    assert loaded and not loaded & HEAVY
    assert min(seconds) < 1.0, "seconds of processor time"
