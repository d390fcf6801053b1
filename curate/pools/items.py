"""What a pool is made of: sources (tars, tables, loose files) below roots, and the items in them."""

from dataclasses import dataclass, field

FORGOTTEN = "forgotten by request"
"""The reason of a `Problem` of that kind."""


@dataclass(frozen=True, slots=True)
class Source:
    """A tar, a Parquet table with images in it, a file of ready embeddings (or a piece of it) or a loose
    image file as it was found on disk.

    `root` is the number of the folder it lies in (`Roots`), `path` its path below that, with `/` between the
    parts. Of ready embeddings it is `rows` rows from row `first` on.
    A loose file may be named by a row of a `table` (absolute path), which says more about it.
    """

    root: int
    path: str
    size: int
    mtime_ns: int
    first: int = 0
    rows: int = 0
    table: str = ""
    table_row: int = 0

    def to_dict(self, images: int) -> dict[str, int | str]:
        """As it stands in a part's done.json, with the number of images that were in it."""
        entry: dict[str, int | str] = {
            "root": self.root,
            "path": self.path,
            "size": self.size,
            "mtime_ns": self.mtime_ns,
            "images": images,
        }
        return {**entry, "first": self.first, "rows": self.rows} if self.is_embeddings else entry

    @property
    def is_tar(self) -> bool:
        return self.path.lower().endswith(".tar")

    @property
    def is_table(self) -> bool:
        return self.path.lower().endswith(".parquet")

    @property
    def is_embeddings(self) -> bool:
        return self.path.endswith(".npy")

    @property
    def holds_many(self) -> bool:
        """Whether items lie in it at offsets; else it is one image itself."""
        return self.is_tar or self.is_table or self.is_embeddings


@dataclass(frozen=True, slots=True)
class PoolItem:
    """One image of a pool, not read yet: where its bytes are and what the pool says about it.

    In a tar, `offset` is where the member's data starts, in a table or ready embeddings the number of the
    row; a loose file has offset None. `extra` is a JSON object as text: the pool's metadata except what has a
    field of its own. `data` are the encoded bytes where they came with the item.
    """

    key: str
    source: Source
    offset: int | None
    size: int
    caption: str | None = None
    url: str | None = None
    extra: str | None = None
    data: bytes | None = field(default=None, repr=False)

    @property
    def is_inside(self) -> bool:
        """Whether it lies in a source that holds many items."""
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
    """The unit of work: whole tars and tables, a piece of ready embeddings, or up to 10,000 loose files;
    never mixed.

    `images` is the expected number.
    """

    sources: tuple[Source, ...]
    images: int

    @property
    def of_files(self) -> bool:
        """Whether the sources are loose images."""
        return not self.sources or not self.sources[0].holds_many

    @property
    def of_embeddings(self) -> bool:
        return bool(self.sources) and self.sources[0].is_embeddings


@dataclass
class PoolListing:
    """What looking through the pools found: sources in the order in which they are indexed, and what was left
    out. `id_kind` says what item ids are made of: "bytes", or of ready embeddings "url" or "path".
    `dimensions` names a file for each dimension that ready embeddings have."""

    sources: list[Source] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    id_kind: str = "bytes"
    dimensions: dict[int, str] = field(default_factory=dict)
