"""A transfer set as a whole: written, gone on with, or found complete."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.selection.selection import Selection
from curate.transfer_set.manifest import MANIFEST, REPORT
from curate.transfer_set.plan import StoredPlan, write_once
from curate.transfer_set.writing import Retrieved, write_transfer_set
from transferset.console import say


@dataclass(frozen=True)
class RetrieveReport:
    """The transfer set in `out`: its manifest, and whether it was there before this run."""

    out: Path
    manifest: dict[str, Any]
    already_complete: bool

    @property
    def is_fetched(self) -> bool:
        """Whether the images are in it; else `curate fetch` has to get them."""
        return self.manifest.get("bytes", "written") == "written"

    @property
    def outcome(self) -> dict[str, Any]:
        """The numbers: requested, retrieved, missing, closing similarities, by class."""
        return dict(self.manifest["outcome"])

    def to_dict(self) -> dict[str, Any]:
        """As JSON types, for `--json`."""
        return {
            **self.outcome,
            "out": str(self.out),
            "manifest": str(self.out / MANIFEST),
            "report": str(self.out / REPORT),
            "already_complete": self.already_complete,
            "id_kind": self.manifest.get("id_kind", "bytes"),
            "bytes": self.manifest.get("bytes", "written"),
            "guard": self.manifest["guard"],
            "query_errors": self.manifest["query_errors"],
            "notes": self.manifest["notes"],
            "shards": len(self.manifest["shards"]),
        }


def write_set(
    out: Path,
    arguments: dict[str, Any],
    choose: Callable[[], Selection],
    made_of: Callable[[Selection], Retrieved],
    shard_size: int,
    threads: int,
    also: Callable[[], None] | None = None,
) -> RetrieveReport:
    """Write the transfer set of these arguments to `out`, go on with one that was begun, or find it complete.

    `choose` makes the selection if none is stored; `also` writes what stands beside the set's own files.
    """

    def write(plan: StoredPlan) -> dict[str, Any]:
        selection = plan.load_selection()
        if selection is None:
            selection = choose()
            plan.begin(arguments, selection)
        else:
            say(f"{out}: resuming with the selection of {len(selection.picks)} images made before")
        if also is not None:
            also()
        return write_transfer_set(out, made_of(selection), arguments, shard_size, plan, threads)

    manifest, already_complete = write_once(out, arguments, StoredPlan, write)
    return RetrieveReport(out, manifest, already_complete)
