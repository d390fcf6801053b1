"""Requests that come as multipart/form-data."""

from collections.abc import Sequence

from fastapi import Request
from starlette.datastructures import UploadFile

from curate.selection.queries import Query
from service.errors import ApiError
from service.queries import image_query
from service.schemas import LISTS, Selecting
from service.settings import Settings

_FILES, _LABELS = "files", "labels"
_MAX_LABEL = 200
_SCALARS = 64


async def read_form(request: Request, settings: Settings) -> tuple[Selecting, list[Query]]:
    """The options and the image queries of an upload.

    The files are in fields called `files`; a file's label is the folder in its name (`cat/1.jpg`), or stands
    in the parallel fields `labels`, one for each file.
    """
    async with request.form(
        max_files=settings.max_queries, max_fields=settings.max_queries + _SCALARS, max_part_size=4096
    ) as form:
        files: list[UploadFile] = []
        labels: list[str] = []
        fields: dict[str, str] = {}
        lists: dict[str, list[str]] = {}
        for name, value in form.multi_items():
            if name == _FILES and isinstance(value, UploadFile):
                files.append(value)
            elif isinstance(value, UploadFile) or name == _FILES:
                raise _refused(f"{name}: files go into fields called {_FILES}, and only files do")
            elif name == _LABELS:
                labels.append(value)
            elif name in LISTS:
                lists.setdefault(name, []).append(value)
            elif name in fields:
                raise _refused(f"{name} is given twice")
            else:
                fields[name] = value
        options = Selecting.model_validate_strings(fields)
        if lists:
            options = Selecting.model_validate({**options.model_dump(exclude_unset=True), **lists})
        if not files:
            raise _refused(f"no file in a field called {_FILES}")
        chosen = _labels(files, labels)
        queries = [
            image_query(await file.read(), label, f"{_FILES}.{number}")
            for number, (file, label) in enumerate(zip(files, chosen, strict=True))
        ]
    return options, queries


def _labels(files: Sequence[UploadFile], labels: Sequence[str]) -> list[str | None]:
    if not labels:
        chosen: list[str | None] = [_folder(file.filename or "") for file in files]
    elif len(labels) == len(files):
        chosen = [label or None for label in labels]
    else:
        raise _refused(f"{len(labels)} {_LABELS} for {len(files)} {_FILES}: give one for each, or none")
    for number, label in enumerate(chosen):
        if label is not None and len(label) > _MAX_LABEL:
            raise _refused(f"the label of {_FILES}.{number} has more than {_MAX_LABEL} characters")
    return chosen


def _folder(filename: str) -> str | None:
    """The folder that a file name says its file is in; None if it says none."""
    parts = [part for part in filename.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return parts[-2] if len(parts) > 1 else None


def _refused(message: str) -> ApiError:
    return ApiError(422, "invalid_request", message, "see /docs for the fields of this request")
