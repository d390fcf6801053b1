"""The command `curate fetch`."""

from typing import TYPE_CHECKING

from curate import options
from transferset.console import print_json, print_table, say

if TYPE_CHECKING:
    from curate.fetch.completion import FetchReport


def fetch(
    transfer_set: options.TransferSet,
    index: options.Index,
    exclude_dir: options.ExcludeDirs = None,
    no_near: options.NoNear = False,
    min_agreement: options.MinAgreement = None,
    allow_private_hosts: options.AllowPrivateHosts = False,
    retry_failed: options.RetryFailed = False,
    timeout: options.Timeout = 10.0,
    max_seconds: options.MaxSeconds = 60.0,
    max_bytes: options.MaxBytes = 32 << 20,
    retries: options.Retries = 2,
    processes: options.Processes = 1,
    threads: options.DownloadThreads = 64,
    per_host: options.PerHost = 8,
    user_agent_token: options.UserAgentToken = "transferset",
    workers: options.Workers = None,
    device: options.Device = "auto",
    max_pixels: options.ImageMaxPixels = options.MAX_PIXELS,
    json: options.AsJson = False,
) -> None:
    """Download the images of a transfer set of URLs.

    The set is then complete. Run it again to resume.
    """
    from curate.fetch.options import DownloadOptions, FetchOptions

    download = DownloadOptions(
        allow_private_hosts=allow_private_hosts,
        timeout=timeout,
        max_seconds=max_seconds,
        max_bytes=max_bytes,
        per_host=per_host,
        retries=retries,
        processes=processes,
        threads=threads,
        user_agent_token=user_agent_token,
    )
    given = FetchOptions(
        download=download,
        exclude_dirs=tuple(exclude_dir or ()),
        min_agreement=min_agreement,
        retry_failed=retry_failed,
        max_pixels=max_pixels,
        workers=workers,
        device=device,
        near=not no_near,
    )
    from curate.fetch.completion import fetch as run

    _print_fetched(run(transfer_set, index, given), json)


def _print_fetched(report: "FetchReport", json: bool) -> None:
    if json:
        print_json(report.to_dict())
        return
    numbers = report.numbers
    unchanged = numbers["unchanged"]
    told = [
        (unchanged["by_recorded_hash"], "by the recorded hash"),
        (unchanged["by_agreement"], "by the row in the index"),
        (unchanged["not_told"], "could not be checked"),
    ]
    rows = [
        ["fetched", f"{numbers['fetched']:,} of {numbers['chosen']:,} images"],
        *([f"not fetched: {reason}", f"{count:,}"] for reason, count in numbers["not_fetched"].items()),
        ["unchanged", ", ".join(f"{count:,} {how}" for count, how in told if count) or "none"],
        ["leakage", report.manifest["guard"]["statement"]],
    ]
    print_table(f"Transfer set {report.transfer_set}", ["", ""], rows)
    if numbers["failed_for_now"]:
        say(f"{numbers['failed_for_now']:,} failed temporarily: --retry-failed tries them again")
    say(f"look at {report.transfer_set / 'report.html'}")
    say(f"next: distill train --shards {report.transfer_set} --teacher DIR --student SPEC --out DIR")
