"""The allocator's settings."""

import platform
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest

from transferset.models.allocator import keep_freed_memory, return_freed_memory

GLIBC = sys.platform == "linux" and platform.libc_ver()[0] == "glibc"

FREED = """
import re
import numpy as np
from pathlib import Path
from transferset.models.allocator import keep_freed_memory, return_freed_memory

def resident():
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmRSS:\\s*(\\d+) kB", status)[1]) // 1024

keep_freed_memory()
before = resident()
blocks = [np.ones(20 << 20, np.uint8) for _ in range(10)]
del blocks
kept = resident() - before
return_freed_memory()
print(kept, resident() - before)
"""


def test_it_works_with_glibc_and_does_nothing_elsewhere() -> None:
    assert keep_freed_memory() is GLIBC
    assert return_freed_memory() is GLIBC


@pytest.mark.skipif(not GLIBC, reason="glibc's allocator is not what runs here")
def test_freed_memory_is_kept_until_it_is_returned(run_python: Callable[..., Any]) -> None:
    kept, left = map(int, re.findall(r"-?\d+", run_python(FREED).stdout))
    assert kept > 150
    assert left < 50
