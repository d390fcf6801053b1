"""Commands that tests have run."""

import subprocess


def succeeded(run: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    """The run, if its exit code is 0; else what it said fails the test."""
    assert run.returncode == 0, run.stderr
    return run
