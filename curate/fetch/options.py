"""Options of `curate fetch`."""

import ipaddress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from transferset.errors import UsageError
from transferset.images import MAX_PIXELS

USER_AGENT_TOKEN = "transferset"
_LANES = 4
OPT_OUT_DIRECTIVES = ("noai", "noimageai", "noindex", "noimageindex")


@dataclass(frozen=True)
class DownloadOptions:
    """How URLs are downloaded.

    Attributes:
        allow_private_hosts: also connect to private, loopback, link-local, multicast and metadata-service
            addresses; the environment's proxies are used only then.
        allowed_networks: networks ("10.1.2.0/24") or addresses that are allowed although they are such.
        timeout: seconds without an answer after which a connection is given up.
        max_seconds: seconds for one image in all, redirects included.
        max_bytes: larger images are not taken.
        max_redirects: hops for one image.
        per_host: requests to one host at a time, in each process.
        retries: how often what failed for now is tried again.
        processes, threads: processes, and threads in each of them, that download.
        user_agent_token: how the requests name themselves, and the name that opt-out headers may address.
        directives: X-Robots-Tag directives that are obeyed.
    """

    allow_private_hosts: bool = False
    allowed_networks: tuple[str, ...] = ()
    timeout: float = 10.0
    max_seconds: float = 60.0
    max_bytes: int = 32 << 20
    max_redirects: int = 5
    per_host: int = 8
    retries: int = 2
    processes: int = 1
    threads: int = 64
    user_agent_token: str = USER_AGENT_TOKEN
    directives: tuple[str, ...] = OPT_OUT_DIRECTIVES

    def __post_init__(self) -> None:
        for name in ("timeout", "max_seconds"):
            if not 0 < getattr(self, name) < 86_400:
                raise UsageError(f"{_flag(name)} is in seconds, above 0, got {getattr(self, name)}")
        for name in ("max_bytes", "per_host", "processes", "threads"):
            if getattr(self, name) < 1:
                raise UsageError(f"{_flag(name)} must be at least 1, got {getattr(self, name)}")
        for name in ("max_redirects", "retries"):
            if getattr(self, name) < 0:
                raise UsageError(f"{_flag(name)} must be at least 0, got {getattr(self, name)}")
        token = self.user_agent_token.strip()
        if not token or not token.isascii() or not token.isprintable() or set(token) & set("();:,"):
            raise UsageError(
                f"--user-agent-token must be a plain name, got {self.user_agent_token!r}",
                hint="a name without brackets, colons, commas and semicolons, such as my-lab",
            )
        for network in self.allowed_networks:
            try:
                ipaddress.ip_network(network, strict=False)
            except ValueError as error:
                raise UsageError(f"{network} is neither an address nor a network: {error}") from error

    @property
    def lanes(self) -> int:
        """Chunks that a process works on at a time, sharing its threads."""
        return min(_LANES, self.threads)

    def outcome_depends_on(self) -> dict[str, Any]:
        """What can make a URL that failed succeed: all but how many are downloaded at a time."""
        values = asdict(self)
        for name in ("processes", "threads", "per_host", "retries"):
            del values[name]
        return values


@dataclass(frozen=True)
class FetchOptions:
    """Options of `fetch`.

    Attributes:
        download: how URLs are downloaded.
        exclude_dirs: folders (val, test) whose images must not be in the set.
        min_agreement: least cosine between an image and the row that the index holds for it, below which
            the image counts as changed (None: the index's calibrated copy threshold, if it has one).
        retry_failed: download again what failed for now in a run that is finished.
        max_pixels: larger images are not taken.
        workers: threads that read and decode (None: one a core). device: auto, cpu, cuda, …
        near: whether near copies of excluded images, and near-duplicates, are left out too.
    """

    download: DownloadOptions = field(default_factory=DownloadOptions)
    exclude_dirs: tuple[Path, ...] = ()
    min_agreement: float | None = None
    retry_failed: bool = False
    max_pixels: int = MAX_PIXELS
    workers: int | None = None
    device: str = "auto"
    near: bool = True

    def __post_init__(self) -> None:
        if self.min_agreement is not None and not -1 <= self.min_agreement <= 1:
            raise UsageError(f"--min-agreement is a cosine, from -1 to 1, got {self.min_agreement}")
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"--workers must be at least 1, got {self.workers}")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
