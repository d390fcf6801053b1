"""What a build is asked for, and what it tells when it is done."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transferset.images import MAX_PIXELS

DEFAULT_ENCODER = "open_clip:ViT-B-32/laion2b_s34b_b79k"
DEFAULT_MAX_PIXELS = MAX_PIXELS
DEFAULT_BATCH_SIZE = 64


@dataclass(frozen=True)
class BuildOptions:
    """Options of `build_index`. None means: what the index was begun with, or else the default.

    Attributes:
        encoder: model spec.
        image_size: side of the encoder's input in pixels (default: the model's own).
        runtime: auto, eager, compile or openvino.
        precision: auto, fp32, bf16 or fp16.
        batch_size: images per run of the encoder (default 64); part of the plan, because it can change bits.
        max_pixels: larger images are errors (default 100 million).
        seed: of an encoder with random weights (default 0).
        threads: CPU threads of the encoder (default: the number of cores); part of the plan too.
        workers: threads that read and decode (default: the number of cores).
        device: auto, cpu, cuda, … or several with commas between: a process on each.
        max_error_rate: share of unreadable images above which the build is a failure (exit 3) in the end.
        faiss: whether to make the FAISS file.
        memory_gb, recall: how much memory its search may take, in GB (default: half of the machine's), and
            which share of the 100 nearest it has to find (default 0.95).
    """

    encoder: str | None = None
    image_size: int | None = None
    runtime: str | None = None
    precision: str | None = None
    batch_size: int | None = None
    max_pixels: int | None = None
    seed: int | None = None
    workers: int | None = None
    device: str = "auto"
    max_error_rate: float | None = None
    faiss: bool = True
    threads: int | None = None
    memory_gb: float | None = None
    recall: float | None = None


@dataclass
class BuildReport:
    """What a build did.

    Attributes:
        parts, images, distinct, errors, bytes: of the whole index; `errors` counts unreadable images by
        reason. new_parts, new_images: of this run.
        rate: new images per second of encoding; 0 if there were none.
        faiss: of which kind the FAISS file is, why, and its recall; None if there is none.
        seconds: of each stage.
        forgotten: images of this run that were left out because they are forgotten.
        changed, gone, skipped: paths in the pools that were changed or removed since they were indexed, or
            that can't be used (with the reason).
        notes: sentences that the user should read.
    """

    index: Path
    encoder: str
    runtime: str
    parts: int = 0
    images: int = 0
    distinct: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    new_parts: int = 0
    new_images: int = 0
    forgotten: int = 0
    rate: float = 0.0
    faiss: dict[str, Any] | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def error_count(self) -> int:
        return sum(self.errors.values())

    @property
    def error_rate(self) -> float:
        """Share of the pool's images that can't be read."""
        return self.error_count / max(1, self.images + self.error_count)

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        values: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("encoder", "runtime", "parts", "images", "distinct", "errors", "bytes", "new_parts")
        }
        values.update(
            index=str(self.index),
            new_images=self.new_images,
            forgotten=self.forgotten,
            faiss=self.faiss,
            error_rate=round(self.error_rate, 6),
            rate=round(self.rate, 2),
            seconds={name: round(value, 3) for name, value in self.seconds.items()},
            changed=self.changed,
            gone=self.gone,
            skipped=[{"path": path, "reason": reason} for path, reason in self.skipped],
            notes=self.notes,
        )
        return values
