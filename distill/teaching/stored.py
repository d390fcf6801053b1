"""A student's targets out of a store that `distill label` has written."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from distill.data.batches import ViewPlan
from distill.data.compact_logits import LogitFormat
from distill.data.decoder import decoder_pixels, require_same_pixels
from distill.data.label_shards import LabelShard, Unit
from distill.data.label_store import LabelStore, open_store
from distill.data.mixture import Mixture
from distill.data.stored_outputs import StoredOutputs
from distill.data.views import AUGMENTATIONS, Augmentation
from distill.loop.run_directory import REPORT, read_object
from distill.methods.top_k import top_k_loss
from distill.methods.transfer import Loss, Transfer
from distill.models.joint_heads import Head
from distill.models.student import read_preprocessing
from distill.teaching.teaching import Outputs, Teaching, heads_of, with_features
from transferset.errors import UsageError
from transferset.models.preprocessing import Preprocessing


@dataclass(frozen=True, eq=False)
class StoredTeaching:
    """The teacher's outputs are read from a store; `units` and `shards`: of the images at hand."""

    store: LabelStore
    method: Transfer
    plan: ViewPlan
    units: list[Unit] = field(default_factory=list)
    shards: list[LabelShard] = field(default_factory=list)

    preprocessings: tuple[Preprocessing, ...] = ()

    @property
    def heads(self) -> tuple[Head, ...]:
        return heads_of(self.store.classes, self.method, self.store.features)

    @property
    def width(self) -> int:
        return (len(self.store.classes) if self._layout else 0) + self._features

    @property
    def target_width(self) -> int:
        return (self._layout.width if self._layout else 0) + self._features

    @property
    def _layout(self) -> LogitFormat | None:
        return None if self.method.targets == "features" else self.store.layout

    @property
    def _features(self) -> int:
        return 0 if self.method.targets == "logits" else self.store.features

    def decode_size(self, student: int) -> int:
        """The store's, whatever the student: the same pixels that were labelled."""
        return self.store.decode_size

    def on(self, mixture: Mixture, workers: int) -> tuple[Teaching, Mixture]:
        mixture = mixture.identified(workers)
        units = mixture.units(self.plan.views)
        return replace(self, units=units, shards=self.store.find(mixture.samples, units)), mixture

    def outputs(self, path: Path, samples: int, number: int = 0) -> Outputs:
        return StoredOutputs(self._layout, self.units, self.shards, samples, self._features)

    def loss(self, method: Transfer) -> Loss:
        layout = self._layout
        if layout is None or layout.top is None:
            return with_features(method.loss, method, len(self.store.classes))
        return with_features(top_k_loss(method.loss), method, layout.classes, layout.width)

    def unreadable(self) -> Mapping[int, str]:
        return {
            int(unit.rows[int(row)]): reason
            for unit, shard in zip(self.units, self.shards, strict=True)
            for row, reason in shard.facts.unreadable.items()
        }

    def inputs(self) -> dict[str, Any]:
        return {"teacher_sha256": self.store.teacher_sha256, "store_sha256": self.store.fingerprint}

    def facts(self) -> dict[str, Any]:
        flip = {"teacher_flip": True} if self.store.flip else {}
        return {**self.store.teacher, "stored": True, "label_costs": self.store.costs, **flip}


def stored_teaching(path: Path, plan: ViewPlan, asked: "Asked", method: Transfer) -> StoredTeaching:
    """Open a store for a run; UsageError where it does not hold what was `asked` for."""
    store = open_store(path)
    _check_held(store, method)
    if asked.teacher is not None:
        fingerprint = read_object(Path(asked.teacher) / REPORT).get("fingerprint")
        if fingerprint != store.teacher_sha256:
            raise UsageError(
                f"{path} was labelled by another teacher than {asked.teacher}: SHA-256 "
                f"{store.teacher_sha256[:12]}… there, {str(fingerprint)[:12]}… now",
                hint="label again, or leave --teacher out",
            )
    if asked.augment not in (None, store.augment):
        raise UsageError(
            f"--augment {asked.augment}: {path} holds views of --augment {store.augment}",
            hint="leave it out, or label again",
        )
    views = store.views if asked.views is None else asked.views
    if not 1 <= views <= store.views:
        fewer = "leave it out, give fewer, or label more into another directory"
        raise UsageError(
            f"--views {asked.views}: {path} holds {store.views} views of every image",
            hint=fewer if views else "leave it out; new views in every epoch need a --teacher",
        )
    stored = ViewPlan(_views_of(store), plan.seed, plan.batch_size, views, store.seed)
    return StoredTeaching(store, method, stored)


def _views_of(store: LabelStore) -> Augmentation:
    """The augmentation that the store's views were drawn with; UsageError where a student would be shown
    other views than the teacher saw."""
    known = AUGMENTATIONS.get(store.augment)
    there, now = store.augmentation, known.to_dict() if known else {}
    if known is None or there != now:
        changes = [
            f"{name} {there.get(name)} there, {now.get(name)} now"
            for name in sorted(there.keys() | now.keys())
            if there.get(name) != now.get(name)
        ]
        raise UsageError(
            f"{store.path} holds views of another --augment {store.augment}: {'; '.join(changes)}",
            hint="label again into another directory, or use the version of transferset that labelled it",
        )
    here = decoder_pixels(known, read_preprocessing(store.path))
    require_same_pixels(store.path, store.config, here)
    return known


def _check_held(store: LabelStore, method: Transfer) -> None:
    if method.output == "patches":
        raise UsageError(
            f"--labels-from with --feature-loss {method.feature_loss}: a store holds no grid of features",
            hint="give --teacher instead, or another --feature-loss",
        )
    if method.targets != "logits" and not store.features:
        asking = "--feature-weight" if method.feature_weight else "--method task-agnostic"
        raise UsageError(
            f"--labels-from with {asking}: {store.path} holds no features of the teacher",
            hint="label again with --features into another directory, or give --teacher instead",
        )


@dataclass(frozen=True)
class Asked:
    """What the user has said of the teacher and its views; None: nothing."""

    teacher: Path | None
    views: int | None
    augment: str | None
