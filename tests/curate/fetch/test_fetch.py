"""`fetch` on a site where much goes wrong: what is in the set afterwards, and what is said of the rest."""

import hashlib
import io
import json
import shutil
import tarfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset
from PIL import Image

from curate.fetch import reasons
from curate.fetch.checks import recorded_hash
from curate.fetch.completion import FetchReport, NothingFetched, fetch
from curate.fetch.options import DownloadOptions, FetchOptions
from curate.index.forget import ForgetOptions, forget
from curate.index.index import open_index
from curate.retrieval import RetrieveOptions, retrieve
from curate.selection.removed import EXACT_BYTES, QUERY, SAME_PIXELS
from curate.selection.select_options import SelectOptions
from curate.transfer_set.manifest import damaged_files
from distill.data.samples import ImageReader
from distill.data.transfer_shards import open_transfer_shards
from tests.curate.fetch import web
from transferset.errors import BusyError, DataError, UsageError
from transferset.lock import DirectoryLock
from transferset.writes import sha256_file

LOCAL = DownloadOptions(
    allowed_networks=("127.0.0.1",),
    timeout=1,
    max_seconds=2,
    max_bytes=200_000,
    retries=0,
    per_host=32,
    threads=24,
)
OPTIONS = FetchOptions(LOCAL, min_agreement=0.999)
AMOUNT = 72


@dataclass
class Case:
    """A fetched set, what was chosen for it (rows of the unfetched samples.parquet), and what each URL that
    failed should be called."""

    root: Path
    index: Path
    site: web.Site
    chosen: list[dict[str, Any]]
    expected: dict[str, str]
    report: FetchReport
    excluded: Path
    queries: Path

    @property
    def samples(self) -> list[dict[str, Any]]:
        return pq.read_table(self.root / "samples.parquet").to_pylist()

    @property
    def not_fetched(self) -> list[dict[str, Any]]:
        return pq.read_table(self.root / "not_fetched.parquet").to_pylist()


def path_of(row: dict[str, Any]) -> str:
    return "/" + row["url"].rpartition("/")[2]


@pytest.fixture(scope="module")
def queries(tmp_path_factory, tinted, encode) -> Path:
    root = tmp_path_factory.mktemp("queries")
    for label, tint in (("red", 0), ("blue", 2)):
        (root / label).mkdir()
        for number in range(2):
            (root / label / f"{number}.png").write_bytes(encode(tinted(tint, 900 + number), "png"))
    return root


def unfetched(
    url_pool, queries: Path, out: Path, total: int = AMOUNT, **options: Any
) -> list[dict[str, Any]]:
    retrieve(
        url_pool.index, queries, out, RetrieveOptions(SelectOptions(total=total), shard_size=8, **options)
    )
    return pq.read_table(out / "samples.parquet").to_pylist()


@pytest.fixture(scope="module")
def case(url_pool, queries, tmp_path_factory, tinted, encode) -> Case:
    """One fetch in which every kind of failure occurs once or twice."""
    root = tmp_path_factory.mktemp("case")
    excluded = root / "val"
    excluded.mkdir()
    site = url_pool.site
    rehearsal = unfetched(url_pool, queries, root / "rehearsal")
    by_kind: dict[str | None, list[dict[str, Any]]] = {"sha256": [], "md5": [], None: []}
    index = open_index(url_pool.index)
    images = [site.files[path_of(row)] for row in rehearsal]
    twins = [row for row, image in zip(rehearsal, images, strict=True) if images.count(image) > 1]
    for row in rehearsal:
        if row in twins:
            continue
        found = recorded_hash(index.item(bytes.fromhex(row["item_id"])).extra)
        by_kind[found[0] if found else None].append(row)
    hashed, plain = iter(by_kind["sha256"] + by_kind["md5"]), iter(by_kind[None])
    expected = {}

    def spoil(rows: Any, behaviour: Any, reason: str) -> bytes:
        row = next(rows)
        data = site.files[path_of(row)]
        site.behave[path_of(row)] = behaviour(data) if behaviour.__name__ != "run" else behaviour
        expected[row["url"]] = reason
        return data

    def always(behaviour: Any) -> Any:
        return lambda data: behaviour

    spoil(hashed, always(web.status(404)), reasons.NOT_FOUND)
    spoil(hashed, always(web.status(410)), reasons.NOT_FOUND)
    spoil(hashed, always(web.status(503)), reasons.SERVER_ERROR)
    spoil(hashed, always(web.hangs), reasons.TIMEOUT)
    spoil(hashed, always(web.never_ends), reasons.TOO_LARGE)
    spoil(hashed, web.breaks_off, reasons.TRUNCATED)
    spoil(hashed, lambda data: web.gives(data, X_Robots_Tag="noai"), reasons.OPT_OUT)
    spoil(hashed, lambda data: web.gives(data, X_Robots_Tag="transferset: noindex"), reasons.OPT_OUT)
    spoil(hashed, always(web.redirect(site.url("/elsewhere", "127.0.0.2"))), reasons.ADDRESS)
    spoil(hashed, always(web.redirect("/circle")), reasons.REDIRECTS)
    site.behave["/circle"] = web.redirect("/circle")
    page = b"<html>this image has moved</html>"
    spoil(hashed, always(web.gives(page, Content_Type="image/jpeg")), reasons.NOT_AN_IMAGE)
    spoil(hashed, always(web.gives(encode(tinted(1, 7), "png"))), reasons.CHANGED)
    spoil(hashed, lambda data: web.gives(reencoded(data)), reasons.CHANGED)
    noise = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    spoil(plain, always(web.gives(encode(noise, "png"))), reasons.CHANGED)
    query = sorted(queries.rglob("*.png"))[0].read_bytes()
    spoil(plain, always(web.gives(query)), QUERY)
    (excluded / "bytes.jpg").write_bytes(spoil(plain, web.gives, EXACT_BYTES))
    data = spoil(plain, web.gives, SAME_PIXELS)
    Image.open(io.BytesIO(data)).save(excluded / "pixels.png", compress_level=0)
    moved = next(plain)
    site.files["/moved"] = site.files[path_of(moved)]
    site.behave[path_of(moved)] = web.redirect("/moved")
    assert len(twins) == 4
    earlier = {site.files[path_of(row)]: row for row in reversed(twins)}
    expected |= {row["url"]: reasons.DUPLICATE for row in twins if row not in earlier.values()}
    chosen = unfetched(url_pool, queries, root / "set", exclude_dirs=(excluded,))
    options = replace(OPTIONS, exclude_dirs=(excluded,), min_agreement=None)
    report = fetch(root / "set", url_pool.index, options)
    return Case(root / "set", url_pool.index, site, chosen, expected, report, excluded, queries)


def reencoded(data: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").save(buffer, "JPEG", quality=50)
    return buffer.getvalue()


def test_every_failure_is_written_down_with_its_reason(case: Case) -> None:
    assert {row["url"]: row["reason"] for row in case.not_fetched} == case.expected
    assert all(row["detail"] for row in case.not_fetched)
    transient = {row["reason"] for row in case.not_fetched if row["transient"]}
    assert transient == {reasons.SERVER_ERROR, reasons.TIMEOUT, reasons.TRUNCATED}
    numbers = case.report.numbers
    assert numbers["not_fetched"] == Counter(case.expected.values())
    assert (numbers["chosen"], numbers["fetched"]) == (AMOUNT, AMOUNT - len(case.expected))
    assert numbers["failed_for_now"] == 3


def test_the_rest_is_in_the_set_in_the_order_of_the_selection(case: Case) -> None:
    kept = [row for row in case.chosen if row["url"] not in case.expected]
    assert [row["item_id"] for row in case.samples] == [row["item_id"] for row in kept]
    for row, before in zip(case.samples, kept, strict=True):
        same = ("query_ids", "hinted_label", "rank", "similarity", "source", "url", "licence")
        assert {name: row[name] for name in same} == {name: before[name] for name in same}


def test_shards_hold_the_bytes_of_the_site_under_their_own_id(case: Case) -> None:
    for row in case.samples:
        with (case.root / "shards" / row["shard"]).open("rb") as file:
            file.seek(row["offset"])
            data = file.read(row["size"])
        assert data == case.site.files[path_of(row)]
        assert hashlib.sha256(data).hexdigest()[:32] == row["bytes_id"]
        assert hashlib.sha256(row["url"].encode()).hexdigest()[:32] == row["item_id"]
    with tarfile.open(case.root / "shards/000000.tar") as tar:
        names = tar.getnames()
        about = json.loads(tar.extractfile(names[1]).read())  # type: ignore[union-attr]
    first = case.samples[0]
    assert names[0].split(".")[0] == names[1].split(".")[0] == first["bytes_id"]
    assert (about["item_id"], about["bytes_id"], about["url"]) == (
        first["item_id"],
        first["bytes_id"],
        first["url"],
    )
    assert about["caption"].startswith("picture ") and (about["width"], about["height"]) == (48, 48)


def test_distill_and_webdataset_read_it(case: Case) -> None:
    opened = open_transfer_shards([case.root])
    reader = ImageReader(opened.samples, None)
    assert reader.check(range(len(opened.samples))) == list(range(len(case.samples)))
    assert [one.tobytes().hex() for one in opened.samples.ids] == [row["bytes_id"] for row in case.samples]
    shards = [str(path) for path in sorted((case.root / "shards").glob("*.tar"))]
    read = list(webdataset.WebDataset(shards, shardshuffle=False, empty_check=False))
    assert [one["__key__"] for one in read] == [row["bytes_id"] for row in case.samples]


def test_the_manifest_vouches_for_every_file(case: Case) -> None:
    manifest = json.loads((case.root / "manifest.json").read_text())
    assert (manifest["id_kind"], manifest["bytes"]) == ("url", "written")
    assert damaged_files(case.root, manifest) == []
    assert {"not_fetched.parquet", "samples.parquet", "report.html"} <= set(manifest["files"])
    assert sum(shard["samples"] for shard in manifest["shards"]) == len(case.samples)
    assert all(shard["samples"] <= 8 for shard in manifest["shards"])
    assert not (case.root / ".fetch").exists() and not list(case.root.rglob(".tmp-*"))
    assert "same pixels" in manifest["guard"]["checked"]


def test_images_without_a_hash_are_compared_with_the_row(case: Case) -> None:
    unchanged = case.report.numbers["unchanged"]
    agreements = [row["agreement"] for row in case.samples if row["agreement"] is not None]
    assert unchanged == {
        "by_recorded_hash": len(case.samples) - len(agreements),
        "by_agreement": len(agreements),
        "not_told": 0,
    }
    threshold = case.report.numbers["threshold"]
    assert threshold["source"] == "calibrated on fetched images" and threshold["images"] >= 40
    assert agreements and min(agreements) >= threshold["value"]
    details = [row["detail"] for row in case.not_fetched if row["reason"] == reasons.CHANGED]
    assert sorted(detail.split()[0] for detail in details) == ["its", "its", "similarity"]


def test_queries_tell_what_came_for_them(case: Case) -> None:
    rows = pq.read_table(case.root / "queries.parquet").to_pylist()
    counts = Counter(row["query_ids"][0] for row in case.samples)
    assert {row["query_id"]: row["fetched"] for row in rows} == {
        row["query_id"]: counts[row["query_id"]] for row in rows
    }
    assert all(row["fetched"] <= row["filled"] for row in rows)


def test_the_report_shows_pictures_and_reasons(case: Case) -> None:
    page = (case.root / "report.html").read_text()
    assert page.count("data:image/jpeg") >= len(case.samples)
    for reason in set(case.expected.values()):
        assert reason in page
    assert "http-equiv" in page and "<script" not in page


def test_requests_name_the_project_and_refused_hosts_get_none(case: Case) -> None:
    assert case.site.agents and all("transferset" in agent for agent in case.site.agents)
    assert case.site.hits["/elsewhere"] == 0


def test_the_same_command_finds_it_complete(case: Case) -> None:
    before = {path: sha256_file(path) for path in case.root.rglob("*") if path.is_file()}
    hits = case.site.hits.total()
    again = fetch(case.root, case.index, replace(OPTIONS, exclude_dirs=(case.excluded,)))
    assert again.already_complete and again.numbers == case.report.numbers
    assert case.site.hits.total() == hits
    assert {path: sha256_file(path) for path in case.root.rglob("*") if path.is_file()} == before
    retrieved = retrieve(
        case.index,
        case.queries,
        case.root,
        RetrieveOptions(SelectOptions(total=AMOUNT), shard_size=8, exclude_dirs=(case.excluded,)),
    )
    assert retrieved.already_complete and retrieved.is_fetched


def test_what_failed_for_now_can_be_tried_again(url_pool, queries, tmp_path) -> None:
    """Three fail at first, one of them is gone later; the end is that of a set where they never failed."""
    chosen, site = unfetched(url_pool, queries, tmp_path / "set", 12), url_pool.site
    healthy = dict(site.behave)
    site.behave.clear()
    paths = [path_of(row) for row in chosen]
    try:
        site.behave |= {paths[0]: web.status(503), paths[5]: web.status(500), paths[9]: web.status(404)}
        first = fetch(tmp_path / "set", url_pool.index, OPTIONS)
        assert first.numbers["not_fetched"] == {reasons.SERVER_ERROR: 2, reasons.NOT_FOUND: 1}
        site.behave = {paths[9]: web.status(404)}
        hits = site.hits.copy()
        again = fetch(tmp_path / "set", url_pool.index, replace(OPTIONS, retry_failed=True))
        assert again.numbers["not_fetched"] == {reasons.NOT_FOUND: 1}
        fresh = site.hits - hits
        assert fresh[paths[0]] == fresh[paths[5]] == 1
        assert fresh.total() == 2, "what is there, and what is gone, is not asked for"
        unfetched(url_pool, queries, tmp_path / "healthy", 12)
        fetch(tmp_path / "healthy", url_pool.index, OPTIONS)
    finally:
        site.behave = healthy
    assert tree(tmp_path / "set") == tree(tmp_path / "healthy")


def test_a_damaged_shard_is_fetched_again(url_pool, queries, tmp_path) -> None:
    chosen, site = unfetched(url_pool, queries, tmp_path / "set", 20), url_pool.site
    assert len(chosen) == 20
    fetch(tmp_path / "set", url_pool.index, OPTIONS)
    before = tree(tmp_path / "set")
    shard = tmp_path / "set/shards/000001.tar"
    shard.write_bytes(shard.read_bytes()[:3000])
    hits = site.hits.total()
    fetch(tmp_path / "set", url_pool.index, OPTIONS)
    assert tree(tmp_path / "set") == before
    assert site.hits.total() > hits
    (tmp_path / "set/samples.parquet").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"samples\.parquet"):
        fetch(tmp_path / "set", url_pool.index, OPTIONS)


def tree(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def test_without_a_threshold_nothing_is_guessed_and_what_was_forgotten_is_not_asked_for(
    url_pool, queries, tmp_path, capsys
) -> None:
    shutil.copytree(url_pool.index, tmp_path / "index")
    chosen = unfetched(url_pool, queries, tmp_path / "set", 12)
    forget(tmp_path / "index", ForgetOptions(item_ids=[chosen[3]["item_id"]], who="me"))
    hits = url_pool.site.hits[path_of(chosen[3])]
    options = replace(OPTIONS, min_agreement=None)
    numbers = fetch(tmp_path / "set", tmp_path / "index", options).numbers
    assert numbers["not_fetched"][reasons.FORGOTTEN] == 1
    assert url_pool.site.hits[path_of(chosen[3])] == hits
    assert numbers["threshold"]["value"] is None
    assert numbers["unchanged"]["not_told"] > 0 and not numbers["unchanged"]["by_agreement"]
    assert "could not be determined" in capsys.readouterr().err


def test_nothing_at_all_leaves_the_set_as_it_was(url_pool, queries, tmp_path) -> None:
    unfetched(url_pool, queries, tmp_path / "set", 12)
    before = tree(tmp_path / "set")
    private = replace(OPTIONS, download=replace(LOCAL, allowed_networks=()))
    with pytest.raises(NothingFetched, match="12 address refused") as caught:
        fetch(tmp_path / "set", url_pool.index, private)
    assert caught.value.exit_code == 3
    after = tree(tmp_path / "set")
    after.pop("not_fetched.parquet")
    assert after == before
    with pytest.raises(DataError, match="12 of 12 images"):
        open_transfer_shards([tmp_path / "set"])


def test_one_writer_at_a_time(url_pool, queries, tmp_path) -> None:
    unfetched(url_pool, queries, tmp_path / "set", 8)
    with DirectoryLock(tmp_path / "set"), pytest.raises(BusyError):
        fetch(tmp_path / "set", url_pool.index, OPTIONS)


def test_what_cannot_be_fetched_at_all(url_pool, small_pool, queries, tmp_path, case) -> None:
    with pytest.raises(DataError, match="not a finished transfer set"):
        fetch(tmp_path, url_pool.index)
    retrieve(small_pool.index, queries, tmp_path / "bytes", RetrieveOptions(SelectOptions(total=8)))
    with pytest.raises(UsageError, match="holds its images already"):
        fetch(tmp_path / "bytes", url_pool.index)
    unfetched(url_pool, queries, tmp_path / "set", 8, exclude_dirs=(case.excluded,))
    with pytest.raises(UsageError, match="was not retrieved from"):
        fetch(tmp_path / "set", small_pool.index)
    with pytest.raises(UsageError, match="excluded images") as caught:
        fetch(tmp_path / "set", url_pool.index)
    assert "--exclude-dir" in str(caught.value.hint)


@pytest.mark.parametrize(
    "wrong",
    [
        {"timeout": 0}, {"max_seconds": -1}, {"max_bytes": 0}, {"retries": -1}, {"threads": 0},
        {"user_agent_token": "a\nb"}, {"user_agent_token": ""}, {"user_agent_token": "x (y)"},
        {"allowed_networks": ("here",)},
    ],
)  # fmt: skip
def test_options_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        DownloadOptions(**wrong)
