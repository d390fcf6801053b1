"""The allocator's settings."""

import platform
import sys

from transferset.models.allocator import keep_freed_memory


def test_it_works_with_glibc_and_does_nothing_elsewhere() -> None:
    glibc = sys.platform == "linux" and platform.libc_ver()[0] == "glibc"
    assert keep_freed_memory() is glibc
