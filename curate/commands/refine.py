"""`curate refine`: parses, calls one library function, prints."""

from typing import cast

from curate import options
from transferset.console import print_json, print_table, say
from transferset.errors import UsageError
from transferset.label_lists import with_image_root


def refine(
    index: options.Index,
    query_dir: options.LabelledDir,
    table: options.TeacherTable,
    transfer_set: options.FromSet,
    out: options.Out,
    total: options.RefinedTotal,
    drop: options.DropShare = None,
    off_task: options.OffTask = None,
    most: options.MostQuota = 2.0,
    uncertain_share: options.UncertainShare = 0.2,
    uncertain_queries: options.UncertainQueries = None,
    image_root: options.ImageRoot = None,
    exclude_dir: options.ExcludeDirs = None,
    no_near: options.NoNear = False,
    min_similarity: options.MinSimilarity = None,
    shortfall: options.Shortfall = "report",
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
    """Retrieve again, guided by a teacher's outputs. Run it again to resume."""
    from curate.index.search.engine import AskedEngine
    from curate.pools.roots import parse_moved
    from curate.refinement.refine import refine as run
    from curate.refinement.rule import Rule
    from curate.retrieve_options import RetrieveOptions
    from curate.selection.select_options import SelectOptions, Shortfall

    if drop is not None and off_task is not None:
        raise UsageError(
            "--drop and --off-task were both given",
            hint="give one: --drop drops its share regardless of what random images look like",
        )
    least = Rule.off_task if off_task is None else off_task
    rule = Rule(drop, most, uncertain_share, uncertain_queries, least)
    selection = SelectOptions(
        total=total,
        min_similarity=min_similarity,
        shortfall=cast("Shortfall", shortfall),
        seed=seed,
        engine=cast("AskedEngine", engine),
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
    report = run(index, with_image_root(query_dir, image_root), table, transfer_set, out, given, rule)
    if json:
        print_json(report.to_dict())
        return
    outcome = report.retrieved.outcome
    rows = [
        ["retrieved", f"{outcome['retrieved']:,} of {outcome['requested']:,} images"],
        ["dropped as off task", f"{report.dropped:,}"],
        ["uncertain images used as queries", f"{report.uncertain:,}"],
        ["not judged", f"{report.unjudged:,}"],
        ["leakage", report.retrieved.manifest["guard"]["statement"]],
    ]
    print_table(f"Refined transfer set {out}", ["", ""], rows)
    classes = [
        [name, f"{100 * report.mass[name]:.1f} %", f"{weight:.2f}"] for name, weight in report.weights.items()
    ]
    print_table("what the teacher saw of each class", ["class", "share", "quota / even share"], classes)
    say(f"look at {report.retrieved.out / 'report.html'}")
    if not report.retrieved.is_fetched:
        say(f"next: curate fetch --transfer-set {report.retrieved.out} --index {index}")
