"""Commands of `curate` that look after an index: forget, compact and verify."""

import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curate import options
from transferset.console import print_json, print_table, say
from transferset.errors import DataError, UsageError

if TYPE_CHECKING:
    from curate.index.forget import ForgetReport
    from curate.index.verify import VerifyReport

_ITEMS_SHOWN = 50


def forget(
    index: options.Index,
    item_id: Annotated[list[str] | None, typer.Option(help="An item's id. May be repeated.")] = None,
    ids: Annotated[
        str | None, typer.Option(help="File with one item id per line, or - for standard input.")
    ] = None,
    image: Annotated[
        list[Path] | None, typer.Option(help="An image file: forget its bytes. May be repeated.")
    ] = None,
    url: Annotated[
        list[str] | None,
        typer.Option(help="Pattern of URLs, quoted: 'https://example.org/*'. May be repeated."),
    ] = None,
    similar_to: Annotated[
        list[Path] | None,
        typer.Option(help="An image file: forget what looks like it; needs --yes. May be repeated."),
    ] = None,
    min_similarity: Annotated[
        float | None, typer.Option(min=-1, max=1, help="Minimum cosine similarity for --similar-to.")
    ] = None,
    who: Annotated[str | None, typer.Option(help="Who requested this. Default: your user name.")] = None,
    why: Annotated[str, typer.Option(help="Reason, recorded in the index.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be forgotten.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --similar-to: forget what was listed.")] = False,
    device: options.Device = "auto",
    json: options.AsJson = False,
) -> None:
    """Forget items, so that they are never returned again.

    They cannot come back; compact removes their rows.
    """
    from curate.index.forget import ForgetOptions
    from curate.index.forget import forget as run

    asked = bool(similar_to) and not yes
    given = ForgetOptions(
        item_ids=[*(item_id or []), *_read_ids(ids)],
        images=image or [],
        urls=url or [],
        similar_to=similar_to or [],
        min_similarity=min_similarity,
        who=_user() if who is None else who,
        why=why,
        dry_run=dry_run or asked,
        device=device,
    )
    report = run(index, given)
    if json:
        print_json(report.to_dict())
    else:
        _print_forgotten(report)
    if asked:
        say("nothing was forgotten: look at the list, then run this again with --yes")


def _read_ids(source: str | None) -> list[str]:
    if source is None:
        return []
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--ids {source} cannot be read: {error}") from error
    found = text.split()
    if not found:
        raise UsageError(f"--ids {source} holds no item id")
    return found


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _print_forgotten(report: "ForgetReport") -> None:
    rows = [
        [
            item.item_id,
            "" if item.similarity is None else f"{item.similarity:.4f}",
            f"{item.places}" if item.places else "not in the index",
            item.key or "",
            item.url or item.how,
        ]
        for item in report.items[:_ITEMS_SHOWN]
    ]
    title = f"{'Would forget' if report.dry_run else 'Forgotten'}: {len(report.items):,} items"
    print_table(title, ["item", "similarity", "places", "key", "url, or how it was given"], rows)
    if len(report.items) > _ITEMS_SHOWN:
        say(f"and {len(report.items) - _ITEMS_SHOWN:,} more (--json lists all)")
    if report.already:
        say(f"{report.already:,} of these had been forgotten before")
    if not report.dry_run:
        say(f"{report.total:,} items are forgotten; next: curate compact --index {report.index}")
        say("transfer sets written earlier are not changed, and neither is the pool")


def compact(
    index: options.Index,
    keep_gone: Annotated[
        bool, typer.Option("--keep-gone", help="Purge forgotten items only, not images that left the pool.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be purged.")] = False,
    pool_root: options.PoolRoots = None,
    json: options.AsJson = False,
) -> None:
    """Purge forgotten items, and images that left the pool.

    Run it again after an interruption.
    """
    from curate.index.compact import CompactOptions
    from curate.index.compact import compact as run
    from curate.pools.roots import parse_moved

    report = run(index, CompactOptions(parse_moved(pool_root or []), keep_gone, dry_run))
    for path in report.out_of_reach:
        say(f"note: nothing of the pool {path} was found there, so none of its images count as gone")
    if json:
        print_json(report.to_dict())
        return
    rows = [
        ["forgotten", f"{report.forgotten:,} rows"],
        ["gone from the pool, or changed there", f"{report.gone:,} rows"],
        ["parts to rewrite" if dry_run else "parts rewritten", f"{report.parts:,}"],
        ["remaining", f"{report.images:,} images"],
        ["size", f"{report.bytes / 1e6:,.1f} MB{' now' if dry_run else ''}"],
    ]
    print_table(f"{'Would purge' if dry_run else 'Purged'} {index}", ["", ""], rows)


def verify(index: options.Index, json: options.AsJson = False) -> None:
    """Compare every file of an index with its checksum.

    Explains how to repair damaged files.
    """
    from curate.index.verify import Damaged
    from curate.index.verify import verify as run

    report = run(index)
    if json:
        print_json(report.to_dict())
    else:
        _print_verified(report)
    if report.damaged:
        raise Damaged(report)


def _print_verified(report: "VerifyReport") -> None:
    whole = len(report.checked) - len(report.damaged)
    typer.echo(f"{report.index}: {whole:,} of {len(report.checked):,} files are intact")
    if report.damaged:
        rows = [[one.path, one.problem or "", one.repair or ""] for one in report.damaged]
        print_table("Damaged", ["file", "problem", "what to do"], rows)
