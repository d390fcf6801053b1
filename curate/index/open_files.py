"""Room for open files: a mapped part holds one, and the usual limit of 1,024 is met at 1,000 parts."""

import contextlib
import resource

_OTHERS = 512


def allow_open_files(parts: int) -> None:
    """Raise this process's soft limit, as far as the system lets us, to what mapping `parts` parts takes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = parts + _OTHERS
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
