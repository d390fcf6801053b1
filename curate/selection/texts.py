"""Class names as queries: each in several sentences, whose embeddings are averaged.

Method: the zero-shot classifier of CLIP (Radford et al., ICML 2021, section 3.1.4): a class's vector is the
normalised mean of the normalised embeddings of its name in many templates.
"""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from curate.selection.options import StrategyOptions
from curate.selection.queries import Query, QuerySet
from transferset.errors import UsageError
from transferset.models.spec import parse_spec
from transferset.prompts import EncodeTexts, check_class_names, phrase, prompts, text_vector, valid_text

_ID_DIGITS = 32


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
            hint="put the query images into one folder per class, or give --class-names",
        )
    check_class_names(names, [str(label) for label in classes])
    return {label: phrase(str(label), names) for label in classes}


def text_vectors(
    encode: EncodeTexts, labels: Sequence[str | None], options: StrategyOptions
) -> dict[str | None, np.ndarray]:
    """The vector of every class."""
    phrases = class_phrases(labels, options.class_names)
    return {label: text_vector(encode, prompts(name, options.templates)) for label, name in phrases.items()}


def text_queries(labels: Sequence[str | None], options: StrategyOptions) -> QuerySet:
    """One query a class, made of its name; by label. Its id is made of its sentences."""
    phrases = class_phrases(labels, options.class_names)
    queries = []
    for label, name in sorted(phrases.items(), key=lambda pair: str(pair[0])):
        sentences = prompts(name, options.templates)
        identity = hashlib.sha256("\0".join(("text", str(label), *sentences)).encode("utf-8")).hexdigest()
        queries.append(Query(identity[:_ID_DIGITS], label, name, prompts=sentences))
    return QuerySet(tuple(queries))
