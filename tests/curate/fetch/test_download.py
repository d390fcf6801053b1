"""Rounds and chunks: what is downloaded again, and what is not."""

import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from curate.fetch import processes as module
from curate.fetch import reasons
from curate.fetch.chunks import Outcome, finished_chunks, read_chunk
from curate.fetch.download import download
from curate.fetch.options import DownloadOptions
from curate.fetch.state import FetchState
from tests.curate.fetch import web
from transferset.errors import DataError, InterruptedRun

OPTIONS = DownloadOptions(allowed_networks=("127.0.0.1",), timeout=3, max_seconds=6, retries=2, per_host=64)


@pytest.fixture(scope="module")
def site(serve) -> web.Site:
    made = serve()
    made.files |= {f"/{number}": b"image %d" % number for number in range(300)}
    return made


def test_rounds_try_again_what_failed_for_now_and_a_second_run_goes_on(site, tmp_path, capsys) -> None:
    def comes_late(handler) -> None:
        web.answer(handler, b"late" if site.hits["/3"] > 1 else b"", 200 if site.hits["/3"] > 1 else 503)

    site.behave |= {"/3": comes_late, "/4": web.status(404), "/5": web.status(500)}
    urls = {place: site.url(f"/{place}") for place in range(300)}
    found = download(tmp_path, urls, replace(OPTIONS, processes=2, threads=4), pause=0.01)
    assert [found[place].reason for place in (2, 3, 4, 5)] == [
        None,
        None,
        reasons.NOT_FOUND,
        reasons.SERVER_ERROR,
    ]
    assert found[3].read() == b"late" and found[299].read() == b"image 299"
    assert (site.hits["/3"], site.hits["/4"], site.hits["/5"]) == (2, 1, 3)
    assert [len(finished_chunks(tmp_path / f"round-{n}")) for n in range(3)] == [3, 1, 1]
    hits, expected = site.hits.total(), told(found)
    assert told(download(tmp_path, urls, OPTIONS, pause=0.01)) == expected
    assert site.hits.total() == hits

    tables = [tmp_path / f"round-0/{number:06d}.parquet" for number in range(3)]
    tables[1].unlink()  # as if killed before it
    tables[2].write_bytes(b"PAR1")
    assert told(download(tmp_path, urls, OPTIONS, pause=0.01)) == expected
    assert site.hits.total() == hits + 128 + 44
    shutil.copy(tables[0], tables[1])
    assert told(download(tmp_path, urls, OPTIONS, pause=0.01)) == expected
    assert site.hits.total() == hits + 128 + 44 + 128
    assert "damaged" in capsys.readouterr().err


def told(found: dict[int, Outcome]) -> dict[int, bytes | str]:
    return {place: one.reason or one.read() for place, one in found.items()}


def test_bytes_that_were_damaged_on_disk_are_noticed(site, tmp_path) -> None:
    found = download(tmp_path, {0: site.url("/0")}, OPTIONS)
    path = found[0].data
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(DataError, match="damaged"):
        found[0].read()


def test_a_process_that_dies_ends_the_run_with_a_word(site, tmp_path, monkeypatch) -> None:
    send = module._Process._send

    def dying(self, message):
        send(self, message)
        if "number" in message:
            self.popen.send_signal(signal.SIGKILL)

    monkeypatch.setattr(module._Process, "_send", dying)
    with pytest.raises(InterruptedRun, match="ended") as caught:
        download(tmp_path, {0: site.url("/0")}, OPTIONS)
    assert caught.value.exit_code == 75


def test_other_options_keep_what_came_and_forget_what_failed(site, tmp_path: Path) -> None:
    import pyarrow as pa

    state = FetchState(tmp_path)
    state.begin(pa.table({"a": [1]}), {}, OPTIONS)
    download(state.folder, {6: site.url("/6"), 8: site.url("/8", "127.0.0.2")}, OPTIONS)
    state.resume(OPTIONS)
    assert state.kept_images() == {}
    state.resume(replace(OPTIONS, threads=3, retries=0))
    assert state.kept_images() == {}, "how many at a time changes nothing"
    state.resume(replace(OPTIONS, allow_private_hosts=True))
    assert list(state.kept_images()) == [6] and state.kept_images()[6].read() == b"image 6"
    assert not list(state.folder.glob("round-*"))
    outcomes = [one for table in finished_chunks(state.kept) for one in read_chunk(table)]
    assert [(one.place, one.reason) for one in outcomes] == [(6, None), (8, reasons.ADDRESS)]
    state.end()
    assert not state.folder.exists()
