"""What a pool is made of: sources (tars and loose files) below roots, and the items in them."""

from dataclasses import dataclass, field

FORGOTTEN = "forgotten by request"
"""The reason of a `Problem` of that kind."""


@dataclass(frozen=True, slots=True)
class Source:
    """A tar or a loose image file as it was found on disk.

    `root` is the number of the folder it lies in (`Roots`), `path` its path below that, with `/` between the
    parts.
    """

    root: int
    path: str
    size: int
    mtime_ns: int

    @property
    def is_tar(self) -> bool:
        return self.path.lower().endswith(".tar")


@dataclass(frozen=True, slots=True)
class PoolItem:
    """One image of a pool, not read yet: where its bytes are and what the pool says about it.

    In a tar, `offset` is where the member's data starts; a loose file has offset None. `extra` is a JSON
    object as
    text: the pool's metadata except what has a field of its own.
    """

    key: str
    source: Source
    offset: int | None
    size: int
    caption: str | None = None
    url: str | None = None
    extra: str | None = None

    @property
    def in_tar(self) -> bool:
        return self.offset is not None


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a pool that could not be used.

    `kind`: "image" (an image that can't be read), "metadata" (a sidecar that can't; the image is kept),
    "source" (a tar that is damaged or cut off; what is whole in it is kept) or "forgotten" (an image that
    must not come again and has no row; in a tar its name is not noted either)
    """

    kind: str
    source: Source
    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class PlannedPart:
    """The unit of work: whole tars, or up to 10,000 loose files; never both. `images` is the expected
    number."""

    sources: tuple[Source, ...]
    images: int

    @property
    def of_tars(self) -> bool:
        return bool(self.sources) and self.sources[0].is_tar


@dataclass
class PoolListing:
    """What looking through the pools found: sources in the order in which they are indexed, and what was left
    out."""

    sources: list[Source] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
