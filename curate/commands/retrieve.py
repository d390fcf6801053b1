"""The command `curate retrieve`."""

from typing import TYPE_CHECKING, cast

from curate import options
from transferset.console import print_json, print_table, say
from transferset.label_lists import with_image_root

if TYPE_CHECKING:
    from curate.index.search.engine import AskedEngine
    from curate.selection.select_options import Shortfall
    from curate.selection.strategies import StrategyName
    from curate.transfer_set.retrieved_set import RetrieveReport


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
    max_pixels: options.QueryMaxPixels = options.MAX_PIXELS,
    max_error_rate: options.QueryErrorRate = None,
    seed: options.DrawSeed = 0,
    json: options.AsJson = False,
) -> None:
    """Retrieve a transfer set for a few labelled images.

    It is written as WebDataset shards. Run it again to resume.
    """
    from curate.selection.quotas import check_amount

    check_amount(total, per_query)
    from curate.pools.roots import parse_moved
    from curate.retrieval import retrieve as run
    from curate.retrieve_options import RetrieveOptions
    from curate.selection.filters import Filters
    from curate.selection.options import StrategyOptions
    from curate.selection.select_options import SelectOptions
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
            ["images per class", f"{min(counts):,} to {max(counts):,} ({len(counts)} classes)"],
            ["closing similarity", f"{closing['min']:.3f} minimum, {closing['median']:.3f} median"],
        ]
    print_table(f"Transfer set {report.out}", ["", ""], rows)
    say(f"look at {report.out / 'report.html'}")
    if report.is_fetched:
        say(f"next: distill train --shards {report.out} --teacher DIR --student SPEC --out DIR")
    elif report.manifest["id_kind"] == "url":
        say(f"next: curate fetch --transfer-set {report.out} --index DIR")
    else:
        say(f"the index knows paths, not URLs: {report.out / 'samples.parquet'} lists them (column key)")


def _whereabouts(report: "RetrieveReport") -> str:
    if report.is_fetched:
        return f"in {len(report.manifest['shards'])} shards"
    return "as URLs, no images yet" if report.manifest["id_kind"] == "url" else "as paths, no images"
