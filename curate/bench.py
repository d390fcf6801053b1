"""bench: every stage of build-index alone on a sample of the user's own pool, and which one holds it up."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from curate.encoding.pipeline import Prepared, prepare
from curate.index.building.id_kinds import require_images
from curate.index.building.part_writer import NewRow, write_part
from curate.index.options import DEFAULT_BATCH_SIZE, DEFAULT_ENCODER, DEFAULT_MAX_PIXELS
from curate.pools import Roots, list_pools
from curate.pools.roots import as_pools
from curate.pools.sample import Sampled, sample_images
from transferset.copies import item_id
from transferset.cores import available_cores
from transferset.errors import DataError, UsageError
from transferset.models.backbone import Backbone, load_backbone
from transferset.models.runtime import FASTER, RUNTIMES, FrozenModel, open_runtime, resolve_device
from transferset.parallel import ordered_map
from transferset.rates import Rate, bottleneck, joint, joint_with_device, measure

SAMPLE = 512
_SAMPLE_BYTES = 256 << 20
_ADVICE = {
    "read": "put the pool on a faster disk, or give more --workers if its latency is high",
    "decode": "use more cores or smaller images: an image is decoded at the smallest scale that suffices",
    "encode": "use a smaller encoder or --image-size, a faster runtime or --precision, or a GPU",
    "write": "put the index on a faster disk",
}


@dataclass(frozen=True)
class BenchOptions:
    """What is timed: see `BuildOptions`; `seconds` for each stage, on images drawn by `seed`."""

    encoder: str | None = None
    image_size: int | None = None
    precision: str | None = None
    batch_size: int | None = None
    threads: int | None = None
    workers: int | None = None
    device: str = "auto"
    max_pixels: int | None = None
    seconds: float = 5.0
    seed: int = 0


@dataclass(frozen=True)
class BenchReport:
    """Rates of the stages alone, `encoders` by runtime; `chosen` is what `--runtime auto` takes and what
    `predicted`, in images per second, and `bottleneck`, with its `share` of the time, are for. `left_out`:
    runtimes that can't be used here, and why."""

    images: int
    unreadable: int
    encoder: str
    device: str
    cores: int
    stages: tuple[Rate, ...]
    encoders: dict[str, Rate]
    chosen: str
    predicted: float
    bottleneck: str
    share: float
    advice: str
    left_out: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)


def bench(pools: Sequence[Path | str], options: BenchOptions | None = None) -> BenchReport:
    """Time read + hash, decode + render, encode on each runtime, and write; nothing is kept.

    The predicted rate is what the stages give together: on a CPU, where they share the cores, their times add
    up; with a GPU it is the slower of host and device.

    Raises UsageError for options that can't be, DataError where nothing in the pools can be read.
    """
    options = options or BenchOptions()
    if options.seconds <= 0:
        raise UsageError(f"--seconds must be more than 0, got {options.seconds}")
    roots = Roots(Path.cwd())
    listing = list_pools(as_pools(pools), roots)
    require_images(listing)
    backbone = load_backbone(options.encoder or DEFAULT_ENCODER, image_size=options.image_size)
    with sample_images(listing.sources, roots, SAMPLE, options.seed) as sample:
        return _Timing(options, backbone, sample).report()


class _Timing:
    def __init__(self, options: BenchOptions, backbone: Backbone, sample: list[Sampled]) -> None:
        self.options, self.backbone, self.sample = options, backbone, sample
        self.workers = options.workers or available_cores()
        self.device = resolve_device(options.device)

    def report(self) -> BenchReport:
        """Measure everything."""
        read = self.mapped("read and hash", _read, self.sample)
        data = self.data()
        decode = self.mapped("decode and render", self.prepare, data)
        prepared = [one for one in map(self.prepare, data) if isinstance(one, Prepared)]
        if not prepared:
            raise DataError("no image of the sample can be decoded", hint="check what the pool contains")
        encoders, left_out = self.encoders(np.stack([one.pixels for one in prepared]))
        write = self.write(prepared)
        chosen = _chosen(encoders)
        host = (read, decode, write)
        on_gpu = self.device != "cpu"
        encode = encoders[chosen]
        stages = (read, decode, encode, write)
        slowest, share = bottleneck(stages, encode if on_gpu else None)
        return BenchReport(
            images=len(self.sample),
            unreadable=len(data) - len(prepared),
            encoder=str(self.backbone.spec),
            device=self.device,
            cores=available_cores(),
            stages=stages,
            encoders=encoders,
            chosen=chosen,
            predicted=joint_with_device(host, encode) if on_gpu else joint(stages),
            bottleneck=slowest.stage,
            share=share,
            advice=_ADVICE[slowest.stage.split()[0]],
            left_out=left_out,
        )

    def mapped(self, stage: str, work: Callable[[Any], Any], items: Sequence[Any]) -> Rate:
        """A stage in the threads that a build would give it."""

        def run() -> int:
            return sum(1 for _ in ordered_map(work, items, workers=self.workers, window=4 * self.workers))

        return measure(stage, run, self.options.seconds)

    def data(self) -> list[tuple[Sampled, bytes]]:
        """Bytes of the sample, as far as 256 MB go."""
        found, size = [], 0
        for one in self.sample:
            data = _read(one)
            if data is not None and size < _SAMPLE_BYTES:
                found.append((one, data))
                size += len(data)
        if not found:
            raise DataError(
                "no image of the sample can be read", hint="check the permissions of the pool's files"
            )
        return found

    def prepare(self, one: tuple[Sampled, bytes]) -> Any:
        sampled, data = one
        limit = self.options.max_pixels or DEFAULT_MAX_PIXELS
        return prepare(sampled.item, lambda _: data, self.backbone.preprocessing, limit)

    def encoders(self, pixels: np.ndarray) -> tuple[dict[str, Rate], dict[str, str]]:
        """The rate of every runtime, and why others can't be had."""
        rates: dict[str, Rate] = {}
        left_out: dict[str, str] = {}
        for runtime in RUNTIMES[1:]:
            try:
                model = self.open(runtime)
            except UsageError as error:
                left_out[runtime] = error.message
                continue
            batch = np.resize(pixels, (model.batch_size, *pixels.shape[1:]))

            def run(model: FrozenModel = model, batch: np.ndarray = batch) -> int:
                return len(model(batch))

            rates[runtime] = measure(f"encode ({runtime} {model.info.precision})", run, self.options.seconds)
        return rates, left_out

    def open(self, runtime: Any) -> FrozenModel:
        return open_runtime(
            self.backbone,
            runtime=runtime,
            precision=self.options.precision or "auto",
            batch_size=self.options.batch_size or DEFAULT_BATCH_SIZE,
            device=self.options.device,
            threads=self.options.threads or available_cores(),
        )

    def write(self, prepared: list[Prepared[Any]]) -> Rate:
        """Parts with the sample's items, on the disk of the system's temporary folder."""
        dimension = self.backbone.dimension
        row = np.full(dimension, dimension**-0.5, np.float16)
        rows = [NewRow(one.item, one.item_id, one.header, one.perceptual_hash, row) for one in prepared]
        rows = (rows * (1 + 1_000 // len(rows)))[:1_000]
        with tempfile.TemporaryDirectory() as folder:
            written = 0

            def run() -> int:
                nonlocal written
                with write_part(Path(folder), written, dimension, {}) as writer:
                    for one in rows:
                        writer.add(one)
                written += 1
                return len(rows)

            return measure("write", run, self.options.seconds)


def _chosen(rates: dict[str, Rate]) -> str:
    """What `open_runtime` takes by itself, if its short probe shows what was measured here."""
    best = next(name for name in ("openvino", "compile", "eager") if name in rates)
    clearly = "eager" in rates and rates["eager"].per_second >= FASTER * rates[best].per_second
    return "eager" if clearly else best


def _read(one: Sampled) -> bytes | None:
    try:
        data = one.read()
    except (OSError, DataError):
        return None
    item_id(data)
    return data
