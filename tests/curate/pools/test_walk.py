"""The files of a folder: in which order, how deep, and what is passed over."""

import os
from pathlib import Path

import pytest

from curate.pools.items import PoolListing
from curate.pools.walk import walk


def filled(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def walked(folder: Path, own: Path | str = "") -> tuple[list[str], list[tuple[str, str]]]:
    """Files, by their path in the folder, and what was skipped."""
    listing = PoolListing()
    found = list(walk(os.fspath(folder), os.fspath(own), listing))
    return [os.path.relpath(path, folder) for path in found], listing.skipped


def test_files_of_any_depth_come_by_the_bytes_of_their_names(tmp_path: Path) -> None:
    folder = filled(tmp_path / "pool", "b.jpg", "B.jpg", "a/2.jpg", "a/10.jpg", "a/z/1.jpg", "ä.jpg")
    assert walked(folder) == (["B.jpg", "a/10.jpg", "a/2.jpg", "a/z/1.jpg", "b.jpg", "ä.jpg"], [])


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    folder = filled(tmp_path / "pool", ".hidden.jpg", ".git/a.jpg", "a.jpg")
    assert walked(folder) == (["a.jpg"], [])


def test_the_folder_of_the_index_is_passed_over_also_by_another_way_to_it(tmp_path: Path) -> None:
    folder = filled(tmp_path / "pool", "a.jpg", "index/b.jpg")
    (folder / "link").symlink_to("index")
    assert walked(folder, tmp_path / "pool/index") == (["a.jpg"], [])


def test_links_are_followed_but_never_round_in_a_circle(tmp_path: Path) -> None:
    folder = filled(tmp_path / "pool", "deep/a.jpg")
    filled(tmp_path / "elsewhere", "b.jpg")
    (folder / "deep/up").symlink_to("..")
    (folder / "out").symlink_to(tmp_path / "elsewhere")
    (folder / "twice").symlink_to("deep")
    assert walked(folder) == (["deep/a.jpg", "out/b.jpg", "twice/a.jpg"], [])


def test_a_link_to_nothing_is_given_to_who_reads_it(tmp_path: Path) -> None:
    folder = filled(tmp_path / "pool", "a.jpg")
    (folder / "lost.jpg").symlink_to("nowhere")
    assert walked(folder) == (["a.jpg", "lost.jpg"], [])


def test_a_link_to_itself_is_told(tmp_path: Path) -> None:
    folder = filled(tmp_path / "pool", "z.jpg")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    found, [(path, reason)] = walked(folder)
    assert found == ["z.jpg"] and path == str(folder / "loop.jpg")
    assert reason.startswith("cannot be read: ")


def test_pipes_are_no_files(tmp_path: Path) -> None:
    folder = filled(tmp_path / "pool", "a.jpg")
    os.mkfifo(folder / "pipe.jpg")
    assert walked(folder) == (["a.jpg"], [])


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    assert walked(tmp_path / "none") == (
        [],
        [(str(tmp_path / "none"), "cannot be read: No such file or directory")],
    )


@pytest.mark.parametrize("below", [True, False])
def test_a_transfer_set_is_passed_over_below_a_pool_and_read_where_it_is_named(
    tmp_path: Path, below: bool
) -> None:
    made = filled(tmp_path / "pool/set", "shards/0.tar", "samples.parquet")
    (made / "manifest.json").write_text(
        '{"transferset_version": "1", "arguments": {}, "kind": "transfer set"}'
    )
    found, skipped = walked(tmp_path / "pool" if below else made)
    if below:
        assert found == [] and [path for path, _ in skipped] == [str(made)]
        assert skipped[0][1].startswith("a transfer set that curate wrote") and "--pool" in skipped[0][1]
    else:
        assert found == ["manifest.json", "samples.parquet", "shards/0.tar"] and skipped == []
