"""Upper limits of the service."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

MEBIBYTE = 1024 * 1024


class Settings(BaseSettings):
    """Limits of the service. Each can be set by an environment variable, `TRANSFERSET_MAX_QUERIES` and so
    on."""

    model_config = SettingsConfigDict(env_prefix="TRANSFERSET_", frozen=True, extra="forbid")

    max_body_bytes: int = Field(
        32 * MEBIBYTE, ge=1, description="size of a request body, sent in one piece or in chunks"
    )
    max_body_seconds: float = Field(60.0, gt=0, description="time until a request's body must have arrived")
    max_in_flight: int = Field(
        8, ge=1, description="concurrent retrievals, received or in progress; further ones are told to wait"
    )
    max_queries: int = Field(256, ge=1, description="queries per request")
    max_pixels: int = Field(40_000_000, ge=1, description="pixels per query image")
    max_total_pixels: int = Field(
        400_000_000, ge=1, description="pixels of all query images of one request together"
    )
    max_results: int = Field(
        10_000, ge=1, description="results per request: total, or per_query times queries"
    )
    max_text_length: int = Field(1_000, ge=1, description="characters of a text query")
    max_thumbnail: int = Field(1_024, ge=16, description="largest ?size= of an image, in pixels")
