"""The command `curate`: parses and prints; every command is one library call.

Libraries are imported inside the commands, so that help and usage errors come at once.
"""

import importlib.metadata
from typing import TYPE_CHECKING, Any, NoReturn, cast

import typer
from typer.core import TyperGroup

from curate import options
from curate.commands import bench, copies, fetch, refine, suggest, upkeep
from transferset.console import print_json, print_table, run_cli, say
from transferset.label_lists import with_image_root

if TYPE_CHECKING:
    from curate.index import BuildReport
    from curate.index.engine import AskedEngine
    from curate.retrieval import RetrieveReport
    from curate.selection.selection import Shortfall
    from curate.selection.strategies import StrategyName

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
    """Embed the images of a pool. Run it again to resume or to add what is new."""
    from curate.index import BuildOptions, TooManyErrors
    from curate.index import build_index as build

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
            [["left out", f"{report.forgotten:,} forgotten images that came again"]]
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
        say(f"what could not be read, and why, is in {report.index}/parts/*/errors.parquet")
    say(f"next: curate retrieve --index {report.index} --query-dir DIR --out DIR --total N")


def _faiss_rows(faiss: dict[str, Any] | None) -> list[list[str]]:
    if faiss is None:
        return []
    rows = [["FAISS", f"{faiss['factory']}, {faiss['bytes'] / 1e6:,.1f} MB: {faiss['reason']}"]]
    if faiss["recall"] is not None:
        effort = f"{faiss['probes']} lists and " if faiss["probes"] else ""
        short = "" if faiss["recall"] >= faiss["wanted_recall"] else "; no effort reaches more"
        rows.append(
            [
                f"recall@{faiss['depth']}",
                f"{faiss['recall']:.3f} on {faiss['queries']} rows of the pool ({faiss['wanted_recall']} is "
                f"wanted{short}): {effort}{faiss['overfetch']:g} candidates for each image",
            ]
        )
    return rows


def _say_paths(what: str, paths: list[str]) -> None:
    if paths:
        more = f" and {len(paths) - _PATHS_SHOWN} more" if len(paths) > _PATHS_SHOWN else ""
        say(f"note: {len(paths)} {what}: {', '.join(paths[:_PATHS_SHOWN])}{more}")


@app.command()
def retrieve(
    index: options.Index,
    out: options.Out,
    query_dir: options.QueryDir = None,
    image_root: options.ImageRoot = None,
    total: options.Total = None,
    per_query: options.PerQuery = None,
    strategy: options.Strategy = "query-balanced",
    include_queries: options.IncludeQueries = False,
    exclude_dir: options.ExcludeDirs = None,
    no_near: options.NoNear = False,
    min_similarity: options.MinSimilarity = None,
    shortfall: options.Shortfall = "report",
    crops: options.Crops = False,
    class_blend: options.ClassBlend = 0.0,
    diversity: options.Diversity = 0.2,
    class_names: options.ClassNames = None,
    templates: options.Templates = None,
    text_depth: options.TextDepth = 4,
    min_side: options.MinSide = None,
    max_aspect: options.MaxAspect = None,
    caption_contains: options.CaptionContains = None,
    caption_matches: options.CaptionMatches = None,
    where: options.Where = None,
    engine: options.Engine = "auto",
    shard_size: options.ShardSize = 1000,
    pool_root: options.PoolRoots = None,
    workers: options.Workers = None,
    device: options.Device = "auto",
    max_pixels: options.QueryMaxPixels = 100_000_000,
    max_error_rate: options.QueryErrorRate = None,
    seed: options.DrawSeed = 0,
    json: options.AsJson = False,
) -> None:
    """Retrieve images for a few labelled ones, as WebDataset shards. Run it again to resume."""
    from curate.selection.quotas import check_amount

    check_amount(total, per_query)
    from curate.pools.roots import parse_moved
    from curate.retrieval import RetrieveOptions
    from curate.retrieval import retrieve as run
    from curate.selection.filters import Filters
    from curate.selection.options import StrategyOptions
    from curate.selection.selection import SelectOptions
    from transferset.prompts import TEMPLATES, parse_class_names, read_templates

    tuning = StrategyOptions(
        crops=crops,
        class_blend=class_blend,
        diversity=diversity,
        text_depth=text_depth,
        class_names=parse_class_names(class_names) if class_names is not None else {},
        templates=read_templates(templates) if templates is not None else TEMPLATES,
    )
    filters = Filters(
        min_side, max_aspect, tuple(caption_contains or ()), caption_matches, tuple(where or ())
    )
    selection = SelectOptions(
        total=total,
        per_query=per_query,
        strategy=cast("StrategyName", strategy),
        include_queries=include_queries,
        min_similarity=min_similarity,
        shortfall=cast("Shortfall", shortfall),
        seed=seed,
        engine=cast("AskedEngine", engine),
        filters=filters,
        tuning=tuning,
    )
    given = RetrieveOptions(
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
    _print_retrieved(run(index, with_image_root(query_dir, image_root), out, given), json)


def _print_retrieved(report: "RetrieveReport", json: bool) -> None:
    if json:
        print_json(report.to_dict())
        return
    outcome, closing = report.outcome, report.outcome["closing_similarity"]
    retrieved, asked = outcome["retrieved"], outcome["requested"]
    rows = [
        ["retrieved", f"{retrieved:,} of {asked:,} images for {outcome['queries']:,} queries"],
        ["samples", f"{outcome['samples']:,} {_whereabouts(report)}"],
        ["leakage", report.manifest["guard"]["statement"]],
    ]
    if filtered := outcome.get("filtered"):
        rows.append(["filtered out", f"{filtered:,} images of the pool"])
    if short := sum(bool(one.get("missing")) for one in outcome["classes"]):
        rows.append(["short", f"{outcome['missing']:,} images, in {short} classes"])
    if closing is not None:
        counts = [one["retrieved"] for one in outcome["classes"]]
        rows += [
            ["images a class", f"{min(counts):,} to {max(counts):,} ({len(counts)} classes)"],
            ["closing similarity", f"{closing['min']:.3f} least, {closing['median']:.3f} median"],
        ]
    print_table(f"Transfer set {report.out}", ["", ""], rows)
    say(f"look at {report.out / 'report.html'}")
    if report.is_fetched:
        say(f"next: distill train --shards {report.out} --teacher DIR --student SPEC --out DIR")
    elif report.manifest["id_kind"] == "url":
        say(f"next: curate fetch --transfer-set {report.out} --index DIR")
    else:
        say(f"the index knows paths, not URLs: {report.out / 'samples.parquet'} lists them (key)")


def _whereabouts(report: "RetrieveReport") -> str:
    if report.is_fetched:
        return f"in {len(report.manifest['shards'])} shards"
    return "as URLs, no images yet" if report.manifest["id_kind"] == "url" else "as paths, no images"


@app.command()
def info(index: options.Index, json: options.AsJson = False) -> None:
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


app.command()(copies.calibrate)
app.command()(copies.guard)
app.command()(fetch.fetch)
app.command()(upkeep.forget)
app.command()(upkeep.compact)
app.command()(upkeep.verify)
app.command()(suggest.suggest)
app.command()(refine.refine)
app.command()(bench.bench)


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
