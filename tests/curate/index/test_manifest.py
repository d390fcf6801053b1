import json
import shutil

import pytest

from curate.index.index import open_index
from curate.index.info import info
from curate.index.manifest import read_manifest
from transferset.errors import DataError


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        (["plan.json", "manifest.json"], "not an index: it has no plan.json, manifest.json"),
        (["manifest.json"], "not finished: it has a plan, but no manifest.json"),
        (["parts.parquet"], "no parts.parquet"),
        (["parts"], "no parts"),
    ],
)
def test_what_is_missing_is_named(make_index, unit_rows, missing, told):
    path = make_index([unit_rows(3, 4)])
    for name in missing:
        shutil.rmtree(path / name) if (path / name).is_dir() else (path / name).unlink()
    for call in (open_index, info):
        with pytest.raises(DataError, match=told) as caught:
            call(path)
        assert "build-index" in caught.value.hint


def test_no_folder_and_a_file_are_not_an_index(tmp_path):
    (tmp_path / "file").write_text("x")
    for name in ("nowhere", "file"):
        with pytest.raises(DataError, match="not an index"):
            open_index(tmp_path / name)


@pytest.mark.parametrize("name", ["plan.json", "manifest.json"])
def test_damaged_or_foreign_json_is_a_data_error(make_index, unit_rows, name):
    path = make_index([unit_rows(3, 4)])
    content = json.loads((path / name).read_text())
    for text, told in [
        ("{", "not JSON"),
        ("[]", "damaged"),
        (json.dumps({**content, "format_version": 99}), "format_version 99"),
    ]:
        (path / name).write_text(text)
        with pytest.raises(DataError, match=told):
            open_index(path)


def test_a_parts_table_that_the_manifest_does_not_know(make_index, unit_rows, monkeypatch):
    from curate.index import manifest

    monkeypatch.setattr(manifest, "_RACE_SECONDS", 0)
    path = make_index([unit_rows(3, 4)])
    other = make_index([unit_rows(4, 4), unit_rows(3, 4)], name="other")
    shutil.copy(other / "parts.parquet", path / "parts.parquet")
    with pytest.raises(DataError, match=r"parts\.parquet is not the one"):
        read_manifest(path)


def test_a_manifest_of_another_plan(make_index, unit_rows):
    path = make_index([unit_rows(3, 4)])
    content = json.loads((path / "plan.json").read_text())
    content["encoder"]["fingerprint"] = "0" * 64
    (path / "plan.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="not of the same index"):
        open_index(path)
