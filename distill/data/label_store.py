"""A store of teacher outputs, opened for training: what it holds, and whether that is what a run needs.

config.json                  arguments, inputs, teacher, the decoder's pixels, what the machine resolved
labels.json                  the classes, in the order of the teacher's outputs
outputs/000000.safetensors   one a shard: `log_probabilities` (n, views, …), see `compact_logits`; `readable`
                             with --features also `features` (n, views, D) float16, at unit length
outputs/000000.json          the shard's name, item ids' SHA-256, checksum, unreadable images
store.json                   last: the fingerprint, and how much there is

D stands in config.json as `features` among the arguments; a store without features has no such key. Neither
has one of answers to the views alone `teacher_flip`: true, which says that they are means over mirror images.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distill.data.compact_logits import LogitFormat
from distill.data.label_shards import LABELLED, LabelShard, ShardFacts, Unit, open_shard, paths, read_facts
from distill.data.samples import Samples
from distill.loop.run_directory import CONFIG, read_config, read_object
from distill.models.student import read_classes
from transferset.errors import DataError, UsageError

FORMAT_VERSION = 2
STORE = "store.json"


@dataclass(frozen=True, eq=False)
class LabelStore:
    """A finished store. `views` K of every image (of labelled ones a multiple), drawn with `seed` and
    `augment`, whose values were those of `augmentation`, from images decoded for `decode_size`; `layout` says
    how outputs are kept; `features`: how long the teacher's are, 0: there are none; `flip`: answers are means
    over mirror images; `config`: its config.json. `costs`: images that the teacher looked at, and FLOPs."""

    path: Path
    classes: tuple[str, ...]
    layout: LogitFormat
    views: int
    seed: int
    augment: str
    augmentation: dict[str, Any]
    decode_size: int
    fingerprint: str
    config: dict[str, Any]
    shards: tuple[LabelShard, ...]
    features: int = 0
    flip: bool = False
    costs: dict[str, float] | None = None

    @property
    def teacher(self) -> dict[str, Any]:
        """Who labelled, on what, for people."""
        return dict(self.config["teacher"])

    @property
    def teacher_sha256(self) -> str:
        """The fingerprint of the teacher, its temperature included."""
        return str(self.teacher["sha256"])

    def find(self, samples: Samples, units: Sequence[Unit]) -> list[LabelShard]:
        """The shard of each unit, by the item ids of its images; UsageError with the difference where the
        store lacks one, or views of it."""
        by_ids = {shard.facts.ids_sha256: shard for shard in self.shards}
        found = [by_ids.get(unit.ids_sha256(samples)) for unit in units]
        lacking = [unit for unit, shard in zip(units, found, strict=True) if shard is None]
        if lacking:
            more = f" (and {len(lacking) - 1} more)" if len(lacking) > 1 else ""
            raise UsageError(
                f"{self.path} does not match: {self._difference(lacking[0])}{more}",
                hint="label these images into another store, or train without --labels-from",
            )
        shards = [shard for shard in found if shard is not None]
        for unit, shard in zip(units, shards, strict=True):
            if shard.facts.views < unit.views:
                raise UsageError(
                    f"{self.path} holds {shard.facts.views} views of {unit.name}, not {unit.views}",
                    hint="give fewer --views or a smaller --labelled-share, or label with more",
                )
        return shards

    def _difference(self, unit: Unit) -> str:
        here = {shard.facts.name: shard.facts for shard in self.shards}.get(unit.name)
        if here is None:
            hint = "; label with --data too, or give --labelled-share 0" if unit.name == LABELLED else ""
            return f"it holds nothing of {unit.name}{hint}"
        if here.images != len(unit.rows):
            return f"{unit.name}: {here.images} images in the store, {len(unit.rows)} now"
        return f"{unit.name}: other images, or in another order, than when it was labelled"


def open_store(path: Path) -> LabelStore:
    """Open what `distill label` has finished, every checksum proven.

    Raises DataError where it is no store, unfinished or damaged, or of a newer format.
    """
    path = Path(path)
    config = read_config(path, "label")
    if not (path / STORE).is_file():
        raise DataError(f"the store {path} is not finished", hint="run distill label again until it is done")
    facts = read_object(path / STORE)
    if facts.get("format_version") != FORMAT_VERSION:
        raise DataError(
            f"{path}: format_version {facts.get('format_version')}, this program reads {FORMAT_VERSION}",
            hint="use the version of transferset that wrote it, or label again",
        )
    classes = read_classes(path)
    try:
        arguments, shards = config["arguments"], int(facts["shards"])
        store = LabelStore(
            path=path,
            classes=classes,
            layout=LogitFormat(len(classes), arguments["top_k"]),
            views=int(arguments["views"]),
            seed=int(arguments["seed"]),
            augment=str(arguments["augment"]),
            augmentation=dict(arguments["augmentation"]),
            decode_size=int(arguments["decode_size"]),
            fingerprint=str(facts["fingerprint"]),
            config={**config, "teacher": dict(config["teacher"])},
            shards=tuple(open_shard(path, number) for number in range(shards)),
            features=int(arguments.get("features") or 0),
            flip=bool(arguments.get("teacher_flip")),
            costs=_costs(facts),
        )
        fingerprint = store_fingerprint(config, [shard.facts for shard in store.shards])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is damaged: {error!r}", hint="remove it and label again") from error
    if fingerprint != store.fingerprint:
        raise DataError(
            f"{path} is damaged: its files are not those that {STORE} names", hint="run distill label again"
        )
    for number, shard in enumerate(store.shards):
        _check_features(store, number, shard)
    return store


def _costs(facts: dict[str, Any]) -> dict[str, float] | None:
    images, flops = facts.get("teacher_images"), facts.get("teacher_flops")
    return None if images is None or flops is None else {"images": int(images), "flops": float(flops)}


def _check_features(store: LabelStore, number: int, shard: LabelShard) -> None:
    found = None if shard.features is None else (shard.features.dtype, shard.features.shape)
    kept = (np.dtype(np.float16), (shard.facts.images, shard.facts.views, store.features))
    if found != (kept if store.features else None):
        told = "no features" if found is None else f"features {found[0]} {found[1]}"
        raise DataError(
            f"{paths(store.path, number)[0]} is damaged: it holds {told}, {CONFIG} names {store.features}",
            hint="remove the store and label again",
        )


def store_fingerprint(config: dict[str, Any], shards: Sequence[ShardFacts]) -> str:
    """SHA-256 over arguments, inputs (teacher, images), the decoder's pixels and the checksum of every
    file."""
    pixels = config["decoder"]["pixels"]
    named = [config["arguments"], config["inputs"], pixels, [shard.sha256 for shard in shards]]
    return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()


def finished_shards(path: Path, samples: Samples, units: Sequence[Unit]) -> dict[int, ShardFacts]:
    """The shards that are there, whole, and of these images, by number."""
    found = {}
    for number, unit in enumerate(units):
        facts = read_facts(path, number)
        if facts is not None and (facts.ids_sha256, facts.views) == (unit.ids_sha256(samples), unit.views):
            found[number] = facts
    return found


def rows_of(shard: LabelShard, rows: np.ndarray, views: np.ndarray) -> dict[str, np.ndarray]:
    """The class outputs of some (image, view) pairs of a shard, each tensor (m, …)."""
    return {name: np.asarray(tensor[rows, views]) for name, tensor in shard.tensors.items()}
