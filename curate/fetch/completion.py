"""`curate fetch`: from a transfer set of URLs to one with images."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.encoding.pipeline import PipelineOptions
from curate.fetch.agreement import Threshold
from curate.fetch.checks import Checker
from curate.fetch.copies import Against, refuse_copies
from curate.fetch.download import download
from curate.fetch.options import FetchOptions
from curate.fetch.reasons import ADDRESS, DOWNLOAD_REASONS, FORGOTTEN, TRANSIENT
from curate.fetch.state import FetchState, read_table
from curate.fetch.urls import fit_for_requests
from curate.fetch.verdicts import (
    Refused,
    Verdicts,
    judge,
    known_threshold,
    query_names,
)
from curate.fetch.writing import NOT_FETCHED, Completion, complete, describe, merge_chosen, write_not_fetched
from curate.index.index import Index, open_index
from curate.index.part import ItemRow
from curate.selection.guard import ExcludedSet, load_excluded
from curate.transfer_set.manifest import MANIFEST, REPORT, TABLES, damaged_files, read_manifest
from transferset.console import say
from transferset.cores import available_cores
from transferset.errors import DataError, UsageError
from transferset.lock import DirectoryLock

_URL = "url"


class NothingFetched(DataError):
    """Not one of the chosen images could be had."""


@dataclass(frozen=True)
class FetchReport:
    """The completed set: its manifest, and whether it was complete before this run."""

    transfer_set: Path
    manifest: dict[str, Any]
    already_complete: bool

    @property
    def numbers(self) -> dict[str, Any]:
        """Chosen, fetched, not fetched by reason, and how images were told from changed ones."""
        return dict(self.manifest["fetch"])

    def to_dict(self) -> dict[str, Any]:
        """As JSON types, for `--json`."""
        return {
            **self.numbers,
            "transfer_set": str(self.transfer_set),
            "manifest": str(self.transfer_set / MANIFEST),
            "report": str(self.transfer_set / REPORT),
            "list": str(self.transfer_set / NOT_FETCHED),
            "already_complete": self.already_complete,
            "guard": self.manifest["guard"],
            "shards": len(self.manifest["shards"]),
        }


def fetch(transfer_set: Path, index: Path | Index, options: FetchOptions | None = None) -> FetchReport:
    """Download the images of a transfer set that `curate retrieve` wrote from an index over URLs, check them,
    and complete the set with them.

    Everything that is not taken, and why, is in not_fetched.parquet. The same command finishes what a
    stopped one began, and finds a complete set complete.

    Raises: UsageError: no set of URLs, another index than it was retrieved from, or excluded images that
    were named to `curate retrieve` and are not named now. DataError: a damaged set or index, or nothing
    could be fetched (NothingFetched). BusyError: another process is writing the set. InterruptedRun: a
    downloading process died.
    """
    root, options = Path(transfer_set), options or FetchOptions()
    manifest = _manifest(root)
    opened = index if isinstance(index, Index) else open_index(index)
    _require_index_of(root, manifest, opened)
    workers = options.workers or available_cores()
    excluded = _excluded(root, manifest, options, workers)
    with DirectoryLock(root):
        state = FetchState(root)
        if not _begin(state, options):
            return FetchReport(root, _manifest(root), already_complete=True)
        done = _fetch(state, opened, options, excluded, workers)
        if not done.verdicts.kept:
            _tell_nothing(state, done)
        finished = complete(state, done, workers)
        state.end()
    _tell(finished)
    return FetchReport(root, finished, already_complete=False)


def _manifest(root: Path) -> dict[str, Any]:
    if not (root / MANIFEST).is_file():
        raise DataError(
            f"{root} is not a finished transfer set: it has no {MANIFEST}",
            hint="curate retrieve makes one; if it was stopped, run it again",
        )
    manifest = read_manifest(root)
    kind = manifest.get("id_kind", "bytes")
    if kind == "bytes":
        raise UsageError(f"{root} holds its images already: there is nothing to fetch")
    if kind != _URL:
        raise UsageError(
            f"{root}: its images are named by {kind}, not by URL", hint="only URLs can be fetched"
        )
    return manifest


def _require_index_of(root: Path, manifest: Mapping[str, Any], index: Index) -> None:
    planned = manifest["arguments"]["index"]
    if planned["plan"] != index.plan.fingerprint:
        raise UsageError(
            f"{root} was not retrieved from {index.path} (encoder {planned['encoder']} there, "
            f"{index.encoder_spec} here)",
            hint="give the index that it was retrieved from as --index",
        )


def _excluded(
    root: Path, manifest: Mapping[str, Any], options: FetchOptions, workers: int
) -> ExcludedSet | None:
    """The excluded images; those that `curate retrieve` was given have to be given again."""
    planned = manifest["arguments"].get("excluded")
    if not options.exclude_dirs:
        if planned is not None:
            folders = ", ".join(manifest["guard"]["folders"])
            raise UsageError(
                f"{root} was retrieved with {planned['images']} excluded images ({folders}), which can be "
                "compared only with the images themselves",
                hint="give the same --exclude-dir to curate fetch",
            )
        return None
    excluded = load_excluded(options.exclude_dirs, options.max_pixels, workers)
    if planned is not None and planned["sha256"] != excluded.digest:
        say("note: the excluded images are not the ones that the set was retrieved with")
    return excluded


def _begin(state: FetchState, options: FetchOptions) -> bool:
    """Make the state ready; False if there is nothing to do."""
    root = state.transfer_set
    if state.begun:
        say(f"{root}: resuming with the images fetched before")
        state.resume(options.download)
        return True
    state.abandon()
    manifest = _manifest(root)
    if manifest["bytes"] != "written":
        state.begin(read_table(root / "samples.parquet"), manifest, options.download)
        return True
    damaged = damaged_files(root, manifest)
    again = _to_retry(root, options) if options.retry_failed else 0
    if not damaged and not again:
        more = "; none of the failures is worth retrying" if options.retry_failed else ""
        say(f"{root} is already complete{more}")
        return False
    if damaged:
        _require_tables(root, damaged)
        say(f"{root}: {', '.join(damaged[:5])} missing or damaged; fetching again what is")
    _reopen(state, manifest, options)
    return True


def _require_tables(root: Path, damaged: Sequence[str]) -> None:
    """DataError if tables are damaged, which no URL brings back."""
    tables = [name for name in damaged if name in (*TABLES, NOT_FETCHED)]
    if tables:
        raise DataError(
            f"{root}: {', '.join(tables)} missing or damaged",
            hint="restore it from a copy, or retrieve and fetch into a new folder",
        )


def _to_retry(root: Path, options: FetchOptions) -> int:
    reasons = read_table(root / NOT_FETCHED).column("reason").to_pylist()
    return sum(reason in _again(options) for reason in reasons)


def _again(options: FetchOptions) -> frozenset[str]:
    """The reasons that may not hold any more."""
    return TRANSIENT | ({ADDRESS} if options.download.allow_private_hosts else set())


def _reopen(state: FetchState, manifest: Mapping[str, Any], options: FetchOptions) -> None:
    """Turn a finished set into one to be finished, with the images that it has. What hosts refused, or don't
    have, is not asked for again; what came and was not taken is judged anew."""
    root = state.transfer_set
    samples = read_table(root / "samples.parquet")
    not_fetched = read_table(root / NOT_FETCHED)
    chosen, places = merge_chosen(samples, not_fetched)
    final = DOWNLOAD_REASONS - (_again(options) if options.retry_failed else frozenset())
    state.refuse([row for row in not_fetched.to_pylist() if row["reason"] in final])
    state.keep(list(zip(places, samples.to_pylist(), strict=True)))
    unfetched = {name: value for name, value in manifest.items() if name != "fetch"}
    unfetched |= {"bytes": "to fetch", "shards": []}
    state.threshold(lambda: Threshold(**manifest["fetch"]["threshold"]))
    state.begin(chosen, unfetched, options.download)


def _fetch(
    state: FetchState, index: Index, options: FetchOptions, excluded: ExcludedSet | None, workers: int
) -> Completion:
    """Download and check; nothing of the set is changed yet."""
    chosen = state.chosen().to_pylist()
    before = [Refused(**row) for row in state.refused()]
    items, refused = _items(index, chosen, {one.place for one in before})
    refused += before
    outcomes = {place: one for place, one in state.kept_images().items() if place in items}
    missing = {place: chosen[place]["url"] for place in items if place not in outcomes}
    urls, bad = fit_for_requests(missing)
    refused += [Refused(place, one.reason, one.detail) for place, one in bad.items()]
    for outcome in download(state.folder, urls, options.download).values():
        if outcome.reason is None:
            outcomes[outcome.place] = outcome
        else:
            refused.append(Refused(outcome.place, outcome.reason, outcome.detail or ""))
    came = [outcomes[place] for place in sorted(outcomes)]
    state.checked.mkdir(exist_ok=True)
    checker = Checker(index, options.device, workers, options.max_pixels)
    checks = checker.check_all(state.checked, came, items)
    threshold = known_threshold(index.manifest, options.min_agreement) or state.threshold(
        lambda: checker.calibrate(came, checks)
    )
    queries = query_names(read_table(state.transfer_set / "queries.parquet").to_pylist())
    verdicts = judge(checks, [row["item_id"] for row in chosen], queries, threshold)
    against = Against(index, excluded, checker, PipelineOptions(workers, options.max_pixels), options.near)
    verdicts, near = refuse_copies(verdicts, checks, outcomes, items, against)
    everything = sorted([*refused, *verdicts.refused], key=lambda one: one.place)
    verdicts = Verdicts(verdicts.kept, everything)
    return Completion(chosen, items, outcomes, checks, verdicts, threshold, excluded, near, options.download)


def _items(
    index: Index, chosen: Sequence[Mapping[str, Any]], besides: Collection[int]
) -> tuple[dict[int, ItemRow], list[Refused]]:
    """The index's items of the chosen rows, except those at the places `besides`; what was forgotten since is
    refused."""
    found: dict[int, ItemRow] = {}
    refused = []
    forgotten = index.forgotten.ids
    for place, row in enumerate(chosen):
        if place in besides:
            continue
        item_id = bytes.fromhex(row["item_id"])
        if item_id in forgotten:
            refused.append(Refused(place, FORGOTTEN, "forgotten since it was chosen"))
            continue
        position = index.find(item_id)
        if position is None:
            raise UsageError(
                f"item {row['item_id']} of the set is not in {index.path}",
                hint="give the index that it was retrieved from as --index",
            )
        found[place] = index.item(position)
    return found, refused


def _tell_nothing(state: FetchState, done: Completion) -> None:
    """Leave the set as it was, with the list of what failed, and raise NothingFetched."""
    if _manifest(state.transfer_set)["bytes"] != "written":
        write_not_fetched(state, done)
    state.end()
    counts = describe(done)["not_fetched"]
    told = ", ".join(f"{count} {reason}" for reason, count in list(counts.items())[:5])
    private = "; --allow-private-hosts if the hosts are your own" if ADDRESS in counts else ""
    raise NothingFetched(
        f"none of the {len(done.chosen)} images could be fetched ({told})",
        hint=f"{state.transfer_set / NOT_FETCHED} has the details; the same command tries again{private}",
    )


def _tell(manifest: Mapping[str, Any]) -> None:
    numbers = manifest["fetch"]
    say(f"fetched {numbers['fetched']} of {numbers['chosen']} images")
    for reason, count in numbers["not_fetched"].items():
        say(f"not fetched: {count} {reason}")
    if numbers["unchanged"]["not_told"]:
        say(
            f"note: whether {numbers['unchanged']['not_told']} images are those that were indexed could not "
            f"be determined: {numbers['threshold']['source']}"
        )
    say(f"leakage: {manifest['guard']['statement']}")
