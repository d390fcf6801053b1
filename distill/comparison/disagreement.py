"""The test images on which the teacher and its student disagree most."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import rel_entr

from distill.comparison.answers import Answers, Row

SHOWN = 24
_SIDE = 112


@dataclass(frozen=True)
class Disagreement:
    """One image: its class, what each said with which probability, the Jensen-Shannon divergence of the two
    in bits (0 to 1), and a thumbnail (empty: it cannot be read)."""

    image: str
    label: str
    teacher: tuple[str, float]
    student: tuple[str, float]
    divergence: float
    thumbnail: str


def disagreements(teacher: Row, student: Row, root: Path, count: int = SHOWN) -> list[Disagreement]:
    """The `count` images with the largest divergence, of the first seed that both have; image names are
    relative to `root`."""
    seeds = sorted(teacher.answers.keys() & student.answers.keys())
    if not seeds:
        return []
    first, second = teacher.answers[seeds[0]], student.answers[seeds[0]]
    found = divergence(first.probabilities, second.probabilities)
    differ = first.probabilities.argmax(axis=1) != second.probabilities.argmax(axis=1)
    order = np.lexsort((-found, ~differ))[:count]
    return [
        Disagreement(
            image=first.images[row],
            label=first.classes[first.labels[row]],
            teacher=_said(first, row),
            student=_said(second, row),
            divergence=float(found[row]),
            thumbnail=_thumbnail(root / first.images[row]),
        )
        for row in order[differ[order]].tolist()
    ]


def divergence(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence (n,) in bits of rows of probabilities (n, C). J. Lin, "Divergence measures
    based on the Shannon entropy" (1991)."""
    p, q = (np.asarray(one, np.float64) for one in (first, second))
    middle = (p + q) / 2
    nats: np.ndarray = (rel_entr(p, middle) + rel_entr(q, middle)).sum(axis=1) / 2
    return nats / np.log(2)


def _said(answers: Answers, row: int) -> tuple[str, float]:
    best = int(answers.probabilities[row].argmax())
    return answers.classes[best], float(answers.probabilities[row, best])


def _thumbnail(path: Path) -> str:
    from transferset.images import ImageError, decode
    from transferset.report import thumbnail

    try:
        return thumbnail(decode(path.read_bytes(), short_side=_SIDE), _SIDE)
    except (OSError, ImageError):
        return ""
