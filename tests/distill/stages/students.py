"""What a run of `distill` has made."""

from pathlib import Path

from distill.models.student import MODEL
from transferset.writes import sha256_file


def weights_sum(run: Path) -> str:
    """The SHA-256 of a student's weights: of two runs it is the same where they learnt the same, bit by
    bit."""
    return sha256_file(run / MODEL)
