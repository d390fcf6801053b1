"""The command `curate`: parses and prints; every command is one library call.

Libraries are imported inside the commands, so that help and usage errors come at once.
"""

import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, cast

import typer
from typer.core import TyperGroup

from transferset.console import print_json, print_table, run_cli, say

if TYPE_CHECKING:
    from curate.index import BuildReport
    from curate.retrieval import RetrieveReport
    from curate.selection.selection import Shortfall, StrategyName

COMMANDS_GROUP = "transferset.curate_commands"
_PATHS_SHOWN = 5


class _Commands(TyperGroup):
    """Our commands and those that installed distributions contribute under `transferset.curate_commands`. A
    contributed one is imported when it is asked for."""

    def _contributed(self) -> dict[str, importlib.metadata.EntryPoint]:
        points = importlib.metadata.entry_points(group=COMMANDS_GROUP)
        return {point.name: point for point in points if point.name not in self.commands}

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *sorted(self._contributed())]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        point = self._contributed().get(cmd_name)
        if point is None:
            return super().get_command(ctx, cmd_name)
        one = typer.Typer(add_completion=False)
        one.command(cmd_name)(point.load())
        return typer.main.get_command(one)


app = typer.Typer(
    cls=_Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="From a pool of images to an index, and from an index and a few images to a transfer set.",
)


@app.callback()
def _curate() -> None:
    """From a pool of images to an index, and from an index and a few images to a transfer set."""


@app.command("build-index")
def build_index(
    pool: Annotated[
        list[str],
        typer.Option(
            help="A folder (tars and loose images are both read), a tar, or a quoted glob. May be repeated."
        ),
    ],
    index: Annotated[Path, typer.Option(help="Folder of the index; new, or one to resume or add to.")],
    encoder: Annotated[
        str | None,
        typer.Option(
            help="open_clip:MODEL/PRETRAINED, open_clip:local-dir:PATH, timm:NAME, "
            "timm:NAME@WEIGHTS.safetensors or embedded. Default: the index's, or "
            "open_clip:ViT-B-32/laion2b_s34b_b79k.",
            show_default=False,
        ),
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(min=1, help="Side of the encoder's input, pixels. Default: the model's own.")
    ] = None,
    runtime: Annotated[str | None, typer.Option(help="auto, eager or openvino.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images a run of the encoder. Default: 64.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of the encoder. Default: cores.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads that read and decode. Default: cores.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, …")] = "auto",
    max_pixels: Annotated[
        int | None, typer.Option(min=1, help="Larger images are errors. Default: 100 million.")
    ] = None,
    max_error_rate: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Exit with 3 if a larger share of the images is unreadable."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of an encoder with random weights. Default: 0.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Embed the images of a pool. Run it again to resume or to add what is new."""
    from curate.index import BuildOptions, TooManyErrors
    from curate.index import build_index as build

    options = BuildOptions(
        encoder=encoder,
        image_size=image_size,
        runtime=runtime,
        batch_size=batch_size,
        max_pixels=max_pixels,
        seed=seed,
        threads=threads,
        workers=workers,
        device=device,
        max_error_rate=max_error_rate,
    )
    try:
        report = build([Path(path) for path in pool], index, options)
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
        *([f"unreadable: {reason}", f"{count:,}"] for reason, count in report.errors.items()),
        ["size", f"{report.bytes / 1e6:,.1f} MB"],
        ["time", ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in report.seconds.items())],
    ]
    print_table(f"Index {report.index}", ["", ""], rows)
    if report.errors:
        say(f"what could not be read, and why, is in {report.index}/parts/*/errors.parquet")
    say(f"next: curate retrieve --index {report.index} --query-dir DIR --out DIR --total N")


def _say_paths(what: str, paths: list[str]) -> None:
    if paths:
        more = f" and {len(paths) - _PATHS_SHOWN} more" if len(paths) > _PATHS_SHOWN else ""
        say(f"note: {len(paths)} {what}: {', '.join(paths[:_PATHS_SHOWN])}{more}")


@app.command()
def retrieve(
    index: Annotated[Path, typer.Option(help="Folder of the index.")],
    query_dir: Annotated[
        Path, typer.Option(help="Labelled images: DIR/<class>/*.jpg, a flat folder, or a table image,label.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the transfer set; new, or one to resume.")],
    total: Annotated[
        int | None, typer.Option(min=1, help="Images to retrieve in all, spread evenly over the queries.")
    ] = None,
    per_query: Annotated[int | None, typer.Option(min=1, help="Images to retrieve for each query.")] = None,
    strategy: Annotated[
        str, typer.Option(help="query-balanced, best-match or random (for comparison).")
    ] = "query-balanced",
    include_queries: Annotated[
        bool, typer.Option("--include-queries", help="Write the queries too; --total counts them.")
    ] = False,
    exclude_dir: Annotated[
        list[Path] | None,
        typer.Option(help="Folder whose images must not be retrieved: val, test. May be repeated."),
    ] = None,
    no_near: Annotated[
        bool,
        typer.Option(
            "--no-near",
            help="Don't look for near copies of excluded images (15 views of each are embedded for that) "
            "nor for near-duplicates: only for the same bytes and the same pixels.",
        ),
    ] = False,
    min_similarity: Annotated[
        float | None, typer.Option(min=-1, max=1, help="Least cosine similarity. Default: no floor.")
    ] = None,
    shortfall: Annotated[
        str, typer.Option(help="What to do about a quota that can't be filled: report, topup or fail.")
    ] = "report",
    shard_size: Annotated[int, typer.Option(min=1, help="Samples a shard.")] = 1000,
    pool_root: Annotated[
        list[str] | None, typer.Option(help="OLD=NEW: where a pool is now. May be repeated.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads that read and decode. Default: cores.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, …")] = "auto",
    max_pixels: Annotated[int, typer.Option(min=1, help="Larger query images are unreadable.")] = 100_000_000,
    max_error_rate: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Exit with 3 if a larger share of the query images is unreadable."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of what is drawn or shuffled.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Retrieve images for a few labelled ones, as WebDataset shards. Run it again to resume."""
    from curate.selection.quotas import check_amount

    check_amount(total, per_query)
    from curate.pools.roots import parse_moved
    from curate.retrieval import RetrieveOptions
    from curate.retrieval import retrieve as run
    from curate.selection.selection import SelectOptions

    selection = SelectOptions(
        total=total,
        per_query=per_query,
        strategy=cast("StrategyName", strategy),
        include_queries=include_queries,
        min_similarity=min_similarity,
        shortfall=cast("Shortfall", shortfall),
        seed=seed,
    )
    options = RetrieveOptions(
        selection=selection,
        exclude_dirs=tuple(exclude_dir or ()),
        shard_size=shard_size,
        pool_roots=parse_moved(pool_root or []),
        max_pixels=max_pixels,
        max_error_rate=max_error_rate,
        workers=workers,
        device=device,
        near=not no_near,
    )
    _print_retrieved(run(index, query_dir, out, options), json)


def _print_retrieved(report: "RetrieveReport", json: bool) -> None:
    if json:
        print_json(report.to_dict())
        return
    outcome, closing = report.outcome, report.outcome["closing_similarity"]
    retrieved, asked = outcome["retrieved"], outcome["requested"]
    rows = [
        ["retrieved", f"{retrieved:,} of {asked:,} images for {outcome['queries']:,} queries"],
        ["samples", f"{outcome['samples']:,} in {len(report.manifest['shards'])} shards"],
        ["leakage", report.manifest["guard"]["statement"]],
    ]
    if closing is not None:
        counts = [one["retrieved"] for one in outcome["classes"]]
        rows += [
            ["images a class", f"{min(counts):,} to {max(counts):,} ({len(counts)} classes)"],
            ["closing similarity", f"{closing['min']:.3f} least, {closing['median']:.3f} median"],
        ]
    print_table(f"Transfer set {report.out}", ["", ""], rows)
    say(f"look at {report.out / 'report.html'}")
    say(f"next: distill train --shards {report.out} --teacher DIR --student SPEC --out DIR")


@app.command()
def calibrate(
    index: Annotated[Path, typer.Option(help="Folder of the index.")],
    sample: Annotated[
        int, typer.Option(min=2, help="Images of the pool that are edited and compared.")
    ] = 100,
    pool_root: Annotated[
        list[str] | None, typer.Option(help="OLD=NEW: where a pool is now. May be repeated.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads that read and decode. Default: cores.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, …")] = "auto",
    seed: Annotated[int, typer.Option(help="Of the sample and the edits.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Find from which cosine on images may be copies, for the encoder of this index, and store it there.

    Retrieval does this by itself for an index that was never calibrated.
    """
    from curate.calibration import calibrate as run
    from curate.encoding.pipeline import PipelineOptions
    from curate.index.index import open_index
    from curate.near import IndexEncoder
    from curate.pools.roots import parse_moved

    opened = open_index(index, parse_moved(pool_root or []))
    report = run(opened, IndexEncoder(opened, device).model, sample, seed, PipelineOptions(workers))
    if json:
        print_json(report.to_dict())
        return
    entry = report.entry
    rows = [
        [
            "suspected leak from",
            f"{entry['leak_candidate']:.4f}",
            f"{entry['copies_found']:.1%} of {entry['copies']:,} edited copies",
            f"{entry['innocent_items_suspected']:.1%} of {entry['items']:,} items",
        ],
        [
            "suspected duplicate from",
            f"{entry['duplicate']:.4f}",
            f"{entry['slight_copies_found']:.1%} of {entry['slight_copies']:,} slightly edited copies",
            f"{entry['innocent_neighbours_suspected']:.1%} of {entry['neighbours']:,} nearest neighbours",
        ],
        [
            "copy without a look at pixels from",
            f"{entry['alone']:.4f}",
            f"{entry['slight_copies_found_by_cosine_alone']:.1%} of the slightly edited copies",
            "",
        ],
    ]
    print_table(f"Thresholds of {index}", ["", "cosine", "finds", "and of innocents"], rows)


@app.command()
def guard(
    against: Annotated[
        list[Path],
        typer.Option(help="Folder whose images must not be in the set: val, test. May be repeated."),
    ],
    transfer_set: Annotated[Path, typer.Option(help="Folder of a finished transfer set.")],
    index: Annotated[Path, typer.Option(help="Folder of the index that it was retrieved from.")],
    no_near: Annotated[
        bool, typer.Option("--no-near", help="Look only for the same bytes and the same pixels.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads that read and decode. Default: cores.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, …")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Look for copies of val and test images in a finished transfer set.

    Exit code 0: none found. 3: copies found; they are listed, and nothing is changed.
    """
    from curate.check import guard as run
    from curate.encoding.pipeline import PipelineOptions
    from curate.index.index import open_index

    report = run(against, transfer_set, open_index(index), not no_near, device, PipelineOptions(workers))
    if json:
        print_json(report.to_dict())
    else:
        rows = [
            [leak.item_id, leak.why, leak.match, *("" if x is None else f"{x:.2f}" for x in scores)]
            for leak in report.leaks
            for scores in [(leak.similarity, leak.agreement)]
        ]
        columns = ["sample", "why", "copy of", "similarity", "pixels agree"]
        print_table(f"{len(rows)} copies among {report.samples:,} samples", columns, rows)
    if report.leaks:
        say(f"{len(report.leaks)} samples are copies of images of {', '.join(map(str, against))}")
        raise typer.Exit(3)


@app.command()
def info(
    index: Annotated[Path, typer.Option(help="Folder of the index.")],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Describe an index."""
    from curate.index.info import info as describe

    found = describe(index)
    if json:
        print_json(found)
        return
    print_table(
        f"Index {index}",
        ["", ""],
        [[name, _plain(value)] for name, value in found.items() if name != "index"],
    )


def _plain(value: Any) -> str:
    """A value of `info` as one cell."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(one)}" for name, one in value.items()) or "none"
    if isinstance(value, list):
        return "; ".join(_plain(one) for one in value)
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:,}" if isinstance(value, int) else str(value)


def main() -> NoReturn:
    """Entry point of the console script."""
    run_cli(app)


if __name__ == "__main__":
    main()
