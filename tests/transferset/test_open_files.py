import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import FewFiles
from transferset.errors import DataError, OpenFilesError
from transferset.known_errors import known_error
from transferset.tars import TarReader, scan
from transferset.writes import read_json


@pytest.mark.parametrize("read", [read_json, scan, TarReader])
def test_the_limit_of_open_files_is_no_bad_data(
    read: Callable[[Path], object], tmp_path: Path, few_files: FewFiles
) -> None:
    path = tmp_path / "a"
    path.write_text("{}")
    with few_files(0), pytest.raises(OpenFilesError, match="a: too many open files") as told:
        read(path)
    assert "ulimit -n" in str(told.value.hint)


@pytest.mark.parametrize(("code", "hint"), [(errno.EMFILE, "ulimit -n"), (errno.ENFILE, "whole machine")])
def test_what_was_told_of_a_file_is_put_right_at_the_end(code: int, hint: str) -> None:
    outer = DataError("the weights are damaged", hint="train again")
    outer.__cause__ = OSError(code, os.strerror(code), "/x")
    found = known_error(outer)
    assert isinstance(found, OpenFilesError) and found.message == "/x: too many open files"
    assert hint in str(found.hint)
