"""Commands of `curate` that measure this machine: bench, and build-index --dry-run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curate import options
from transferset.console import print_json, print_table, say

if TYPE_CHECKING:
    from curate.bench import BenchReport
    from curate.index.options import BuildOptions


def bench(
    pool: options.Pools,
    encoder: options.EncoderSpec = None,
    image_size: options.ImageSize = None,
    precision: options.Precision = None,
    batch_size: options.BatchSize = None,
    threads: options.Threads = None,
    workers: options.Workers = None,
    device: options.Device = "auto",
    max_pixels: options.PoolMaxPixels = None,
    seconds: Annotated[float, typer.Option(help="Seconds to measure each stage.")] = 5.0,
    seed: options.DrawSeed = 0,
    json: options.AsJson = False,
) -> None:
    """Time every stage of build-index, and name the bottleneck.

    Measured on a sample of the pool.
    """
    from curate.bench import BenchOptions
    from curate.bench import bench as run

    given = BenchOptions(
        encoder=encoder,
        image_size=image_size,
        precision=precision,
        batch_size=batch_size,
        threads=threads,
        workers=workers,
        device=device,
        max_pixels=max_pixels,
        seconds=seconds,
        seed=seed,
    )
    report = run(pool, given)
    print_json(report.to_dict()) if json else _print_bench(report)


def _print_bench(report: "BenchReport") -> None:
    others = [rate for name, rate in report.encoders.items() if name != report.chosen]
    rows = [
        [rate.stage, f"{rate.per_second:,.1f}", f"{rate.core_ms:.2f}"] for rate in (*report.stages, *others)
    ]
    title = f"{report.encoder} on {report.device}, {report.cores} cores, {report.images} images of the pool"
    print_table(title, ["stage on its own", "images/s", "core-ms per image"], rows)
    for runtime, reason in report.left_out.items():
        say(f"left out: {runtime}: {reason}")
    if report.unreadable:
        say(f"note: {report.unreadable} images of the sample can't be decoded")
    together = "the slower of host and device" if report.device != "cpu" else "on the same cores"
    print_table(
        "Together",
        ["", ""],
        [
            ["predicted", f"{report.predicted:,.1f} images/s ({together}, with {report.chosen})"],
            ["per hour", f"{3600 * report.predicted:,.0f} images"],
            ["bottleneck", f"{report.bottleneck}: {report.share:.0%} of the time"],
            ["what helps", report.advice],
        ],
    )


def dry_run(pools: list[str], index: Path, given: "BuildOptions", json: bool) -> None:
    """Print what a build would need."""
    from curate.index.building.estimate import estimate_build

    found = estimate_build(pools, index, given)
    if json:
        print_json(found.to_dict())
        return
    about = "" if found.counted else "about "
    rows = [
        ["encoder", f"{found.encoder} on {found.runtime}"],
        ["new images", f"{about}{found.new_images:,}"],
        ["rows afterwards", f"{about}{found.rows:,}"],
        ["disk", f"about {found.disk_bytes / 1e6:,.1f} MB"],
        ["memory", f"about {found.memory_bytes / 1e6:,.0f} MB at peak"],
    ]
    if found.new_images:
        rows.append(["time", f"about {_duration(found.seconds)} of embedding at {found.rate:,.1f} images/s"])
    if found.unreadable:
        rows.append(["unreadable", f"{found.unreadable:.1%} of the sample"])
    if found.faiss is not None:
        size = f"{found.faiss['bytes'] / 1e6:,.1f} MB"
        rows.append(["FAISS", f"{found.faiss['factory']}, {size}: {found.faiss['reason']}"])
    print_table(f"Index {found.index}, estimated", ["", ""], rows)


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
