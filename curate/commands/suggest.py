"""The command `curate suggest`."""

from typing import TYPE_CHECKING, cast

from curate import options
from transferset.console import print_json, print_table, say
from transferset.label_lists import with_image_root

if TYPE_CHECKING:
    from curate.index.search.engine import AskedEngine
    from curate.suggestion.suggest import SuggestReport


def suggest(
    index: options.Index,
    query_dir: options.LabelledDir,
    out: options.SuggestionsOut,
    count: options.Count = 50,
    image_root: options.ImageRoot = None,
    exclude_dir: options.ExcludeDirs = None,
    no_near: options.NoNear = False,
    engine: options.Engine = "auto",
    pool_root: options.PoolRoots = None,
    workers: options.Workers = None,
    device: options.Device = "auto",
    max_pixels: options.QueryMaxPixels = options.MAX_PIXELS,
    seed: options.DrawSeed = 0,
    json: options.AsJson = False,
) -> None:
    """Find the pool images most worth labelling next. Run it again to resume."""
    from curate.pools.roots import parse_moved
    from curate.suggestion.suggest import SuggestOptions
    from curate.suggestion.suggest import suggest as run

    given = SuggestOptions(
        count=count,
        exclude_dirs=tuple(exclude_dir or ()),
        engine=cast("AskedEngine", engine),
        seed=seed,
        pool_roots=parse_moved(pool_root or []),
        max_pixels=max_pixels,
        workers=workers,
        device=device,
        near=not no_near,
    )
    report = run(index, with_image_root(query_dir, image_root), out, given)
    if json:
        print_json(report.to_dict())
    else:
        _print_suggested(report)


def _print_suggested(report: "SuggestReport") -> None:
    outcome, coverage = report.outcome, report.outcome["coverage"]
    rows = [
        ["suggested", f"{outcome['suggested']:,} of {outcome['candidates']:,} images near the queries"],
        [
            "coverage",
            f"{coverage['queries']:.3f} by the queries, {coverage['with_suggestions']:.3f} with them",
        ],
        ["with as many random images", f"{coverage['with_random']:.3f}"],
        ["leakage", report.manifest["guard"]["statement"]],
    ]
    if outcome["missing"]:
        rows.insert(1, ["missing", f"{outcome['missing']:,}: the pool has no more"])
    print_table(f"Suggestions {report.out}", ["", ""], rows)
    say(f"look at {report.out / 'report.html'}")
    say(f"next: fill in the column label of {report.out / 'suggestions.csv'} to make it a labelled set")
