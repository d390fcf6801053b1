import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from transferset.progress import progress

ROOT = Path(__file__).parents[2]


def test_plain_progress_tells_little_and_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with progress("embedding", 60, "images", initial=10) as bar:
        for _ in range(50):
            now[0] += 0.5
            bar.advance()
        bar.note("3 unreadable")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "embedding: 30/60 images, 2.0 images/s, 0:00:15 left",
        "embedding: 50/60 images, 2.0 images/s, 0:00:05 left",
        "embedding: 60/60 images, 2.0 images/s, 0:00:25, 3 unreadable",
    ]


def test_progress_of_unknown_length(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("reading", None, "files") as bar:
        bar.advance(3)
    assert capsys.readouterr().err.startswith("reading: 3 files, ")


def test_a_terminal_gets_a_bar() -> None:
    code = """
from transferset.progress import progress
with progress("embedding [x]", 3, "images") as bar:
    for _ in range(3):
        bar.advance()
        bar.note("note [y]\\x1b[31m")
"""
    leader, follower = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen([sys.executable, "-c", code], stderr=follower, env=environment)
    os.close(follower)
    shown = b""
    try:
        while chunk := os.read(leader, 4096):
            shown += chunk
    except OSError:  # Linux tells the end of a terminal this way
        pass
    os.close(leader)
    assert process.wait() == 0
    assert b"embedding [x]" in shown and b"3/3" in shown and b"note [y]\\x1b[31m" in shown
