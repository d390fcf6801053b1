"""Class names in sentences, for text towers.

Method: the zero-shot classifier of CLIP (Radford et al., ICML 2021, section 3.1.4): a class's vector is the
normalised mean of the normalised embeddings of its name in many templates.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from transferset.errors import DataError, UsageError
from transferset.vectors import unit

SLOT = "{}"
TEMPLATES = (
    "a photo of a {}",
    "a picture showing a {}",
    "a close-up photo of one {}",
    "a blurry, low-quality photo of a {}",
    "many examples of {}",
    "a view of a typical {}",
    "{}",
)
"""Sentences around a class name. Averaged, they name the class better than any one of them."""

_MOST_NAME = 200
EncodeTexts = Callable[[Sequence[str]], np.ndarray]
"""A text tower: sentences to features (n, d) float32."""


def check_templates(templates: Sequence[str]) -> None:
    """UsageError where there is none, or one without exactly one place for the name."""
    if not templates:
        raise UsageError("no template is given", hint=f"give one with {SLOT} for the class name")
    for template in templates:
        if template.count(SLOT) != 1:
            raise UsageError(
                f"the template {template!r} has {template.count(SLOT)} places for the class name",
                hint=f"write {SLOT} once where the class name goes",
            )


def check_class_names(names: Mapping[str, str], classes: Sequence[str]) -> None:
    """UsageError for a name of a class that there isn't."""
    unknown = sorted(set(names) - set(classes))
    if unknown:
        raise UsageError(
            f"--class-names has {', '.join(unknown[:5])}, and there is no such class",
            hint=f"the classes are {', '.join(classes[:20])}",
        )


def phrase(label: str, names: Mapping[str, str]) -> str:
    """What a class is called: as `names` says, else its label with spaces for underscores."""
    return names.get(label, valid_text(label).replace("_", " "))


def prompts(name: str, templates: Sequence[str]) -> tuple[str, ...]:
    """The name in every template."""
    return tuple(template.replace(SLOT, name) for template in templates)


def text_vector(encode: EncodeTexts, sentences: Sequence[str]) -> np.ndarray:
    """The normalised mean (d,) float32 of the normalised embeddings of some sentences."""
    return unit(unit(encode(sentences)).mean(axis=0))


def parse_class_names(text: str) -> dict[str, str]:
    """Class names out of a file, one a line, or a list with commas; a name may be `LABEL=NAME`, where the
    class's label (its folder's name) isn't what to call it. UsageError if there are none, or a label comes
    twice."""
    lines = _lines(Path(text)) if _is_file(text) else [one.strip() for one in valid_text(text).split(",")]
    names: dict[str, str] = {}
    for line in filter(None, lines):
        label, _, name = (piece.strip() for piece in line.partition("="))
        name = name or label.replace("_", " ")
        if not label or len(line) > 2 * _MOST_NAME:
            raise UsageError(f"--class-names: {line[:80]!r} is no class name")
        if label in names:
            raise UsageError(f"--class-names has {label} twice")
        names[label] = name
    if not names:
        raise UsageError(f"--class-names {text!r} holds no name", hint="give a file, or a,b,c")
    return names


def read_templates(path: Path) -> tuple[str, ...]:
    """Templates out of a file, one a line; UsageError if there is no such file, or no template in it."""
    if not path.is_file():
        raise UsageError(f"--templates {path} is not a file")
    found = tuple(dict.fromkeys(filter(None, _lines(path))))
    if not found:
        raise UsageError(
            f"--templates {path} holds no template", hint=f"write one per line, with {SLOT} in it"
        )
    return found


def valid_text(name: str) -> str:
    """A name that UTF-8 can hold: undecodable bytes of a file name become escapes."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text("utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a text in UTF-8") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
