"""Peak memory of a process and everything that it starts, as /proc tells it (Linux)."""

import os
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_PERIOD = 0.05


@dataclass
class Peak:
    """MiB summed over all processes, each at its own largest: resident, anonymous, mapped files, and PSS
    (resident with shared pages counted once); how many processes there were at once; wall seconds; what was
    printed, and the exit code."""

    resident: float = 0.0
    anonymous: float = 0.0
    files: float = 0.0
    proportional: float = 0.0
    processes: int = 0
    seconds: float = 0.0
    output: str = ""
    code: int = 0

    def look(self, root: int) -> None:
        """Take the sums as of now."""
        names = {"VmRSS": 0, "RssAnon": 0, "RssFile": 0}
        shared, count = 0, 0
        for pid in tree(root):
            try:
                status = Path(f"/proc/{pid}/status").read_text()
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:
                continue
            count += 1
            for line in status.splitlines():
                name, _, value = line.partition(":")
                if name in names:
                    names[name] += int(value.split()[0])
            shared += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        self.resident = max(self.resident, names["VmRSS"] / 1024)
        self.anonymous = max(self.anonymous, names["RssAnon"] / 1024)
        self.files = max(self.files, names["RssFile"] / 1024)
        self.proportional = max(self.proportional, shared / 1024)
        self.processes = max(self.processes, count)


def tree(root: int) -> list[int]:
    """`root` and all its descendants."""
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                waiting += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
    return found


def run_measured(command: Sequence[str], environment: dict[str, str] | None = None) -> Peak:
    """Run a command to its end; its stdout is kept, its stderr passed on. RuntimeError if it fails."""
    peak = Peak()
    begun = time.perf_counter()
    process = subprocess.Popen(
        list(command), stdout=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})}
    )
    ended = threading.Event()

    def watch() -> None:
        pause = _PERIOD
        while not ended.wait(pause):
            start = time.perf_counter()
            peak.look(process.pid)
            pause = max(_PERIOD, 30 * (time.perf_counter() - start))  # looking takes 3 % of a core at most

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        peak.output, _ = process.communicate()
    finally:
        ended.set()
        watcher.join()
    peak.seconds, peak.code = time.perf_counter() - begun, process.returncode
    if peak.code:
        raise RuntimeError(f"{' '.join(command)[:200]} ended with exit code {peak.code}")
    return peak
