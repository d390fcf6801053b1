"""Class names as queries: each in several sentences, whose embeddings are averaged.

Method: the zero-shot classifier of CLIP (Radford et al., ICML 2021, section 3.1.4): a class's vector is the
normalised mean of the normalised embeddings of its name in many templates.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from curate.selection.options import SLOT, StrategyOptions
from curate.selection.queries import Query, QuerySet, valid_text
from curate.selection.stored import unit
from transferset.errors import DataError, UsageError
from transferset.models.spec import parse_spec

_MOST_NAME = 200
_ID_DIGITS = 32
EncodeTexts = Callable[[Sequence[str]], np.ndarray]
"""A text tower: sentences to features (n, d) float32."""


def no_text_tower(encoder: str) -> UsageError:
    """The error for an encoder, by its spec, that can't embed names."""
    return UsageError(
        f"the index's encoder ({encoder}) has no text tower and can't embed names",
        hint="build an index with an open_clip encoder, or retrieve by images",
    )


def require_text_tower(encoder: str) -> None:
    """UsageError where the encoder with this spec can't have a text tower; nothing is loaded."""
    if parse_spec(encoder).family != "open_clip":
        raise no_text_tower(encoder)


def class_phrases(labels: Sequence[str | None], names: Mapping[str, str]) -> dict[str | None, str]:
    """What each class is called: as `names` says, else its label with spaces for underscores.

    UsageError for a class without a name, or a name of a class that there isn't.
    """
    classes = list(dict.fromkeys(label if label is None else valid_text(label) for label in labels))
    if None in classes:
        raise UsageError(
            "texts need class names, and these queries have none",
            hint="put the query images into a folder for each class, or give --class-names",
        )
    unknown = sorted(set(names) - set(classes))
    if unknown:
        raise UsageError(
            f"--class-names has {', '.join(unknown[:5])}, and there is no such class",
            hint=f"the classes are {', '.join(str(label) for label in classes[:20])}",
        )
    return {label: names.get(str(label), str(label).replace("_", " ")) for label in classes}


def prompts(phrase: str, templates: Sequence[str]) -> tuple[str, ...]:
    """The name in every template."""
    return tuple(template.replace(SLOT, phrase) for template in templates)


def text_vector(encode: EncodeTexts, sentences: Sequence[str]) -> np.ndarray:
    """The normalised mean (d,) float32 of the normalised embeddings of some sentences."""
    return unit(unit(encode(sentences)).mean(axis=0))


def text_vectors(
    encode: EncodeTexts, labels: Sequence[str | None], options: StrategyOptions
) -> dict[str | None, np.ndarray]:
    """The vector of every class."""
    phrases = class_phrases(labels, options.class_names)
    return {
        label: text_vector(encode, prompts(phrase, options.templates)) for label, phrase in phrases.items()
    }


def text_queries(labels: Sequence[str | None], options: StrategyOptions) -> QuerySet:
    """One query a class, made of its name; by label. Its id is made of its sentences."""
    phrases = class_phrases(labels, options.class_names)
    queries = []
    for label, phrase in sorted(phrases.items(), key=lambda pair: str(pair[0])):
        sentences = prompts(phrase, options.templates)
        identity = hashlib.sha256("\0".join(("text", str(label), *sentences)).encode("utf-8")).hexdigest()
        queries.append(Query(identity[:_ID_DIGITS], label, phrase, prompts=sentences))
    return QuerySet(tuple(queries))


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
        raise UsageError(f"--templates {path} holds no template", hint=f"write one a line, with {SLOT} in it")
    return found


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
