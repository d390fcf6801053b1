import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from transferset.errors import DataError, UsageError
from transferset.writes import (
    atomic_file,
    atomic_path,
    check_file,
    read_json,
    sha256_file,
    size_of,
    sweep_temporaries,
    write_bytes,
    write_json,
    write_parquet,
)

RunPython = Callable[..., subprocess.CompletedProcess[str]]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_and_alone(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.bin"
    with atomic_file(target) as file:
        file.write(b"half")
        assert not target.exists()
        assert names(target.parent)[0].startswith(".tmp-file.bin-")
    assert target.read_bytes() == b"half" and names(target.parent) == ["file.bin"]
    umask = os.umask(0)
    os.umask(umask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~umask


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("before")
    with pytest.raises(KeyboardInterrupt), atomic_file(target, "w") as file:
        file.write("after")
        raise KeyboardInterrupt
    assert target.read_text() == "before" and names(tmp_path) == ["file.txt"]


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, run_python: RunPython) -> None:
    target = tmp_path / "file.bin"
    target.write_bytes(b"before")
    code = f"""
import errno
from pathlib import Path
from transferset.writes import write_bytes
try:
    write_bytes(Path({str(target)!r}), b"x" * 1_000_000)
except OSError as error:
    assert error.errno == errno.EFBIG and error.filename == {str(target)!r}, error
    print("told")
"""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = run_python(["-B", "-c", code], preexec_fn=limit)
    assert done.stdout == "told\n", done.stderr
    assert target.read_bytes() == b"before" and names(tmp_path) == ["file.bin"]


def test_a_kill_leaves_a_temporary_that_is_swept(tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    code = f"""
import sys, time
from pathlib import Path
from transferset.writes import atomic_file
with atomic_file(Path({str(target)!r})) as file:
    file.write(b"x" * 100_000)
    print("ready", flush=True)
    time.sleep(60)
"""
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        process.kill()
    assert not target.exists() and len(names(tmp_path)) == 1
    (tmp_path / ".tmp-folder-1-a").mkdir()
    (tmp_path / ".tmp-folder-1-a" / "inside").touch()
    (tmp_path / "kept.bin").touch()
    sweep_temporaries(tmp_path)
    assert names(tmp_path) == ["kept.bin"]
    sweep_temporaries(tmp_path / "missing")


def test_a_library_gets_a_path_and_long_names_fit(tmp_path: Path) -> None:
    target = tmp_path / ("ä" * 120 + ".bin")
    with atomic_path(target) as temporary:
        temporary.write_bytes(b"data")
    assert target.read_bytes() == b"data" and len(names(tmp_path)) == 1


def test_where_no_file_can_be_is_told_and_nothing_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    check_file(tmp_path / "file", "--out")
    check_file(tmp_path / "new/deeper/file", "--out")
    for path in (tmp_path, tmp_path / "file/below/it"):
        with pytest.raises(UsageError, match="--out"):
            check_file(path, "--out")
    assert names(tmp_path) == ["file"]


def test_json_is_sorted_and_round(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"b": [1, 2.5, None], "a": "grün\ud800"})
    assert (
        path.read_bytes().startswith(b'{\n  "a": "gr\\u00fcn\\ud800",\n') and path.read_bytes()[-1:] == b"\n"
    )
    assert read_json(path) == {"a": "grün\ud800", "b": [1, 2.5, None]}
    with pytest.raises(ValueError, match="Out of range"):
        write_json(path, {"a": float("nan")})
    assert read_json(path)["a"] == "grün\ud800"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_damaged_json_is_bad_data(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        read_json(path)


def test_missing_json_is_bad_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_json(tmp_path / "a.json")
    with pytest.raises(DataError, match="cannot be read"):
        read_json(tmp_path)


def test_parquet_is_the_same_at_another_time(tmp_path: Path) -> None:
    table = pa.table({"a": list(range(1000)), "b": [f"row {row}" for row in range(1000)]})
    write_parquet(tmp_path / "one.parquet", table)
    time.sleep(1.1)
    write_parquet(tmp_path / "two.parquet", table)
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    assert pq.read_table(tmp_path / "one.parquet").equals(table)


def test_sha256_of_a_file(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"abc")
    assert sha256_file(tmp_path / "a").startswith("ba7816bf8f01cfea")


def test_size_of_a_folder_passes_over_what_vanishes(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a" / "b" / "c", b"12345")
    write_bytes(tmp_path / "d", b"678")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    assert size_of(tmp_path) == 8 and size_of(tmp_path / "nowhere") == 0
