import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from transferset.errors import BusyError
from transferset.lock import DirectoryLock

HOLD = """
import os, sys, time
from pathlib import Path
from transferset.lock import DirectoryLock
with DirectoryLock(Path(sys.argv[1])):
    says_held = len(sys.argv) == 2 or os.fork() == 0
    if says_held:
        print("held", flush=True)
    time.sleep(60)
    os._exit(0)
"""


def hold(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", HOLD, str(folder), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, start_new_session=True)
    assert process.stdout is not None and process.stdout.readline() == b"held\n"
    return process


def test_makes_the_folder_names_its_owner_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    with DirectoryLock(folder):
        owner = json.loads((folder / ".lock").read_text())
        assert owner["pid"] == os.getpid() and owner["host"] and owner["start"]
    assert list(folder.iterdir()) == []


def test_a_live_owner_is_named(tmp_path: Path) -> None:
    process = hold(tmp_path)
    try:
        with (
            pytest.raises(BusyError, match=f"process {process.pid} on .* since 20") as caught,
            DirectoryLock(tmp_path),
        ):
            pass
        assert caught.value.exit_code == 75 and caught.value.hint
        assert (tmp_path / ".lock").exists()
    finally:
        process.kill()
        process.communicate()


def test_a_dead_owner_is_taken_over(tmp_path: Path) -> None:
    process = hold(tmp_path)
    process.kill()
    process.communicate()
    assert (tmp_path / ".lock").exists()
    with DirectoryLock(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()


def test_a_forked_worker_does_not_keep_a_dead_owners_lock(tmp_path: Path) -> None:
    process = hold(tmp_path, "fork")
    process.kill()
    process.wait()
    try:
        with DirectoryLock(tmp_path):
            pass
    finally:
        os.killpg(process.pid, 9)
        assert process.stdout is not None
        process.stdout.close()


def test_twice_in_one_process_is_busy_and_again_afterwards_is_fine(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path)
    with lock, pytest.raises(BusyError, match=str(os.getpid())), DirectoryLock(tmp_path):
        pass
    with lock:
        pass


def test_an_error_inside_releases(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), DirectoryLock(tmp_path):
        raise RuntimeError
    with DirectoryLock(tmp_path):
        pass


def test_garbage_in_the_file_of_a_dead_owner_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_bytes(b"\xff" * 1000)
    with DirectoryLock(tmp_path):
        pass


def test_of_many_at_once_one_at_a_time_holds_it(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from transferset.errors import BusyError
from transferset.lock import DirectoryLock
folder, ends = Path(sys.argv[1]), time.monotonic() + 1.0
while time.monotonic() < ends:
    try:
        with DirectoryLock(folder):
            (folder / "inside").open("x").close()
            (folder / "inside").unlink()
    except BusyError:
        pass
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [subprocess.Popen(command, env=environment) for _ in range(4)]
    assert [process.wait() for process in processes] == [0, 0, 0, 0]
    assert list(tmp_path.iterdir()) == []
