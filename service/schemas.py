"""Requests and answers of the service, as they stand in /docs."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from curate.selection.filters import Filters
from curate.selection.options import StrategyOptions
from curate.selection.select_options import Shortfall
from curate.selection.strategies import StrategyName
from transferset.prompts import SLOT, TEMPLATES

ITEM_ID = r"^[0-9a-f]{32}$"
_SEED_LIMIT = 2**63 - 1
_FORMS = ("image", "embedding", "item_id", "text")

_SELECTION = ("per_query", "total", "strategy", "min_similarity", "shortfall", "seed")
LISTS = ("templates", "caption_contains", "where")
"""Fields that a form may repeat."""

Text = Annotated[str, Field(min_length=1, max_length=1000)]
Template = Annotated[str, Field(min_length=2, max_length=1000)]
Label = Annotated[str, Field(min_length=1, max_length=200)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class RetrieveQuery(_Strict):
    """One query: exactly one of `image`, `embedding`, `item_id`, `text`."""

    image: str | None = Field(
        None, description="a JPEG, PNG or WebP file in base64 (a data: URI works too); no URL is ever fetched"
    )
    embedding: list[float] | None = Field(
        None,
        description="a vector of the index's dimension, made by the index's encoder; of any length but zero",
    )
    item_id: str | None = Field(
        None, pattern=ITEM_ID, description="an item of the index; it is not retrieved itself"
    )
    text: str | None = Field(
        None,
        min_length=1,
        description="works if the encoder has a text tower; with strategy text, a class name, which is put "
        "into every template",
    )
    label: Label | None = Field(
        None, description="the query's class; it becomes the hinted label of what it retrieves"
    )

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        given = [name for name in _FORMS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(_FORMS)}, got {' and '.join(given) or 'none'}")
        if self.embedding is not None and not any(self.embedding):
            raise ValueError("the embedding is empty or zero and has no direction")
        return self


EXAMPLES: list[Any] = [
    {
        "queries": [{"image": "/9j/4AAQ…", "label": "beach"}, {"image": "/9j/4AAQ…", "label": "kitchen"}],
        "per_query": 20,
        "strategy": "query-balanced",
        "crops": True,
        "min_side": 128,
        "where": ["licence in CC0,CC-BY"],
    },
    {
        "queries": [
            {"text": "a sandy beach", "label": "beach"},
            {"text": "kitchen", "label": "kitchen"},
        ],
        "total": 100,
        "strategy": "text",
        "templates": ["a photo of {}", "{} in the evening"],
        "caption_matches": "photo|picture",
    },
]


class Selecting(_Strict):
    """How many images are retrieved, and how: the options of `curate retrieve`."""

    per_query: int | None = Field(None, ge=1, description="images for each query; give this or `total`")
    total: int | None = Field(
        None, ge=1, description="total number of images, spread evenly over the queries"
    )
    strategy: StrategyName = "query-balanced"
    min_similarity: float | None = Field(None, ge=-1, le=1, description="minimum cosine; none by default")
    shortfall: Shortfall = "report"
    seed: int = Field(0, ge=0, le=_SEED_LIMIT)
    crops: bool = Field(False, description="also search with five crops of each query image")
    class_blend: float = Field(
        0.0, ge=0, le=1, description="how far queries are shifted towards their class's mean"
    )
    diversity: float | None = Field(None, ge=0, le=1, description="for strategy diverse; 0.2 by default")
    text_depth: int | None = Field(
        None,
        ge=1,
        le=64,
        description="for strategy text-image: candidates found by name, per image; 4 by default",
    )
    templates: list[Template] | None = Field(
        None,
        min_length=1,
        max_length=16,
        description="for text strategies: sentences, with {} for the name",
    )
    min_side: int | None = Field(None, ge=1, description="minimum length of the shorter side, in pixels")
    max_aspect: float | None = Field(
        None, ge=1, description="maximum ratio of the longer to the shorter side"
    )
    caption_contains: list[Text] = Field([], max_length=16, description="what the caption must contain")
    caption_matches: Text | None = Field(None, description="a regular expression (RE2) for the caption")
    where: list[Text] = Field(
        [],
        max_length=16,
        description="conditions on metadata, `NAME OP VALUE` with ==, !=, <, <=, >, >=, ~ (contains) or in",
        examples=[["width >= 256", "licence in CC0,CC-BY"]],
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.per_query is None) == (self.total is None):
            raise ValueError(f"give per_query or total, got {'neither' if self.total is None else 'both'}")
        if self.min_similarity is not None and self.strategy == "random":
            raise ValueError(
                "min_similarity has no meaning with strategy random, which looks at no similarity"
            )
        return self

    @property
    def sentences(self) -> tuple[str, ...]:
        """What a text is put in: as it is, but for strategy text."""
        return tuple(self.templates or TEMPLATES) if self.strategy == "text" else (SLOT,)

    def selection(self) -> dict[str, Any]:
        """The options of `SelectOptions`; what doesn't fit together is a UsageError."""
        filters = Filters(
            self.min_side,
            self.max_aspect,
            tuple(self.caption_contains),
            self.caption_matches,
            tuple(self.where),
        )
        named = ("crops", "class_blend", "diversity", "text_depth", "templates")
        given = {name: value for name in named if (value := getattr(self, name)) is not None}
        if "templates" in given:
            given["templates"] = tuple(given["templates"])
        plain = {name: getattr(self, name) for name in _SELECTION}
        return {**plain, "filters": filters, "tuning": StrategyOptions(**given)}


class RetrieveRequest(Selecting):
    """What to retrieve."""

    model_config = ConfigDict(json_schema_extra={"examples": EXAMPLES})

    queries: list[RetrieveQuery] = Field(min_length=1)


class RetrieveForm(Selecting):
    """The same as multipart/form-data: each image is a file."""

    files: list[Annotated[bytes, Field(json_schema_extra={"format": "binary"})]] = Field(
        min_length=1,
        description="image files; the folder in a file name (`cat/1.jpg`) is its label without `labels`",
    )
    labels: list[Label] | None = Field(None, description="one for each of `files`, in the same order")


class RetrievedItem(BaseModel):
    """One retrieved image."""

    item_id: str
    query: int | None = Field(
        description="position in the request of the query that retrieved it; null for random draws"
    )
    score: float | None = Field(description="cosine of item and query; null for random draws")
    rank: int | None = Field(description="place in the query's ranking of the whole index, from 1")
    hinted_label: str | None = Field(description="the query's label: a hint, not a label")
    also: list[int] = Field(
        description="other queries that had it among their candidates, most similar first"
    )
    key: str
    caption: str | None
    url: str | None = Field(description="where the pool says the image is from; never fetched by the service")
    width: int | None = Field(description="pixels; null if a pool without images doesn't state it")
    height: int | None
    extra: dict[str, Any] | None = Field(description="the pool's other metadata")
    image_url: str | None = Field(
        description="the thumbnail, on this service; where the pool holds no images, the image's own web"
        " address"
    )


class ClassOutcome(BaseModel):
    """Outcome for one class."""

    label: str | None
    quota: int
    returned: int
    missing: int


class QueryOutcome(BaseModel):
    """Outcome for one query."""

    query: int
    label: str | None
    quota: int
    returned: int
    closing_similarity: float | None = Field(description="score of its least similar image")
    same_as: int | None = Field(description="an earlier query with the same content, which counts for both")


class Dropped(BaseModel):
    """Items that were kept out."""

    query: int = Field(description="they are queries themselves")
    filtered: int = Field(0, description="left out by the filters")


class RetrieveResponse(BaseModel):
    """Retrieved images ordered by query, then score."""

    results: list[RetrievedItem]
    queries: list[QueryOutcome]
    classes: list[ClassOutcome]
    requested: int
    returned: int
    missing: int
    dropped: Dropped
    notes: list[str]


class Health(BaseModel):
    """The service is up; what it serves."""

    status: str
    version: str
    items: int
    distinct: int
    dimension: int
    encoder: str
    runtime: str
    text_queries: bool


class ErrorBody(BaseModel):
    """What happened, and what to do."""

    code: str
    message: str
    hint: str | None


class ErrorResponse(BaseModel):
    """Every 4xx and 5xx."""

    error: ErrorBody
