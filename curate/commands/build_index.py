"""The command `curate build-index`."""

from typing import TYPE_CHECKING, Any

from curate import options
from curate.commands import bench
from transferset.console import print_json, print_table, say

if TYPE_CHECKING:
    from curate.index.options import BuildReport

_PATHS_SHOWN = 5


def build_index(
    pool: options.Pools,
    index: options.NewIndex,
    encoder: options.EncoderSpec = None,
    image_size: options.ImageSize = None,
    runtime: options.Runtime = None,
    precision: options.Precision = None,
    batch_size: options.BatchSize = None,
    threads: options.Threads = None,
    workers: options.Workers = None,
    device: options.Devices = "auto",
    max_pixels: options.PoolMaxPixels = None,
    max_error_rate: options.PoolErrorRate = None,
    memory_gb: options.MemoryGb = None,
    recall: options.Recall = None,
    seed: options.WeightsSeed = None,
    dry_run: options.DryRun = False,
    json: options.AsJson = False,
) -> None:
    """Embed the images of a pool. Run it again to resume or to add new images."""
    from curate.index.build import TooManyErrors
    from curate.index.build import build_index as build
    from curate.index.options import BuildOptions

    given = BuildOptions(
        encoder=encoder,
        image_size=image_size,
        runtime=runtime,
        precision=precision,
        batch_size=batch_size,
        max_pixels=max_pixels,
        seed=seed,
        threads=threads,
        workers=workers,
        device=device,
        max_error_rate=max_error_rate,
        memory_gb=memory_gb,
        recall=recall,
    )
    if dry_run:
        bench.dry_run(pool, index, given, json)
        return
    try:
        report = build(pool, index, given)
    except TooManyErrors as error:
        _print_build(error.report, json)
        raise
    _print_build(report, json)


def _print_build(report: "BuildReport", json: bool) -> None:
    for note in report.notes:
        say(f"note: {note}")
    _say_paths("changed since they were indexed (their new content was added)", report.changed)
    _say_paths("gone since they were indexed", report.gone)
    _say_paths("left out", [f"{path} ({reason})" for path, reason in report.skipped])
    if json:
        print_json(report.to_dict())
        return
    rows = [
        ["encoder", f"{report.encoder} on {report.runtime}"],
        ["images", f"{report.images:,} in {report.parts} parts, {report.distinct:,} distinct"],
        ["new", f"{report.new_images:,} in {report.new_parts} parts, {report.rate:.1f} images/s"],
        *(
            [["left out", f"{report.forgotten:,} forgotten images that turned up again"]]
            if report.forgotten
            else []
        ),
        *([f"unreadable: {reason}", f"{count:,}"] for reason, count in report.errors.items()),
        *_faiss_rows(report.faiss),
        ["size", f"{report.bytes / 1e6:,.1f} MB"],
        ["time", ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in report.seconds.items())],
    ]
    print_table(f"Index {report.index}", ["", ""], rows)
    if report.errors:
        say(f"see {report.index}/parts/*/errors.parquet for what could not be read, and why")
    say(f"next: curate retrieve --index {report.index} --query-dir DIR --out DIR --total N")


def _faiss_rows(faiss: dict[str, Any] | None) -> list[list[str]]:
    if faiss is None:
        return []
    rows = [["FAISS", f"{faiss['factory']}, {faiss['bytes'] / 1e6:,.1f} MB: {faiss['reason']}"]]
    if faiss["recall"] is not None:
        effort = f"{faiss['probes']} lists and " if faiss["probes"] else ""
        short = "" if faiss["recall"] >= faiss["wanted_recall"] else "; no search effort reaches more"
        rows.append(
            [
                f"recall@{faiss['depth']}",
                f"{faiss['recall']:.3f} on {faiss['queries']} rows of the pool ({faiss['wanted_recall']} "
                f"wanted{short}): {effort}{faiss['overfetch']:g} candidates per image",
            ]
        )
    return rows


def _say_paths(what: str, paths: list[str]) -> None:
    if paths:
        more = f" and {len(paths) - _PATHS_SHOWN} more" if len(paths) > _PATHS_SHOWN else ""
        say(f"note: {len(paths)} {what}: {', '.join(paths[:_PATHS_SHOWN])}{more}")
