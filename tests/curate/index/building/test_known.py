"""What parts hold against what lies in the pools: new, changed, gone, moved."""

import os
import shutil
from pathlib import Path

import pytest

from curate.index.building.known import Changes, Known, follow_moved
from curate.index.manifest import FinishedPart
from curate.pools import Problem, Roots, Source
from tests.curate.index.parts import part_of, source_of
from transferset.tars import scan


@pytest.fixture
def pool(tmp_path: Path, write_tar) -> Path:
    """Three loose files, a tar of two images, and a file that is no image."""
    for number in range(3):
        (tmp_path / "pool/deep").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"pool/deep/{number}.jpg").write_bytes(b"image %d" % number)
    (tmp_path / "pool/bad.jpg").write_bytes(b"x")
    write_tar(tmp_path / "pool/t.tar", {"0.jpg": b"tar image 0", "1.jpg": b"tar image 1"})
    return tmp_path / "pool"


def sources_of(pool: Path) -> list[Source]:
    return [source_of(path, pool) for path in sorted(pool.rglob("*")) if path.is_file()]


@pytest.fixture
def parts(pool: Path, tmp_path: Path) -> list[FinishedPart]:
    """The pool in two parts: loose files, and the tar."""
    by_name = {source.path: source for source in sources_of(pool)}
    loose = [
        (by_name[f"deep/{number}.jpg"], None, (pool / f"deep/{number}.jpg").read_bytes())
        for number in range(3)
    ]
    tar = (pool / "t.tar").read_bytes()
    members = scan(pool / "t.tar").members
    inside = [(by_name["t.tar"], one.offset, tar[one.offset : one.offset + one.size]) for one in members]
    problem = Problem("image", by_name["bad.jpg"], "bad", "not an image")
    return [part_of(tmp_path, 0, loose, [problem]), part_of(tmp_path, 1, inside)]


def roots_of(pool: Path) -> Roots:
    roots = Roots(pool.parent / "index")
    roots.place(str(pool))
    return roots


def compared(parts: list[FinishedPart], pool: Path) -> Changes:
    return Known(parts).compare(sources_of(pool), roots_of(pool), [pool])


def names(sources: list[Source]) -> list[str]:
    return [source.path for source in sources]


def test_a_pool_as_it_was_has_nothing_new(parts: list[FinishedPart], pool: Path) -> None:
    assert compared(parts, pool) == Changes()


def test_what_no_part_holds_is_new(parts: list[FinishedPart], pool: Path) -> None:
    (pool / "later.jpg").write_bytes(b"later")
    found = compared(parts, pool)
    assert (names(found.new), found.changed, found.gone) == (["later.jpg"], [], [])


@pytest.mark.parametrize("name", ["deep/1.jpg", "t.tar"])
def test_another_time_alone_is_no_change(parts: list[FinishedPart], pool: Path, name: str) -> None:
    os.utime(pool / name, ns=(1, 1))
    assert compared(parts, pool) == Changes()


@pytest.mark.parametrize("name", ["deep/1.jpg", "t.tar"])
def test_other_bytes_of_the_same_size_are_a_change(parts: list[FinishedPart], pool: Path, name: str) -> None:
    data = (pool / name).read_bytes()
    (pool / name).write_bytes(data.replace(b"image 1", b"IMAGE 1"))
    os.utime(pool / name, ns=(1, 1))
    found = compared(parts, pool)
    assert (names(found.new), found.changed) == ([name], [str(pool / name)])


def test_a_file_that_was_no_image_is_read_again_only_if_it_changed(
    parts: list[FinishedPart], pool: Path
) -> None:
    os.utime(pool / "bad.jpg", ns=(1, 1))
    assert names(compared(parts, pool).new) == ["bad.jpg"], "nobody knows its bytes"


def test_what_is_no_longer_there_is_gone(parts: list[FinishedPart], pool: Path) -> None:
    (pool / "deep/2.jpg").unlink()
    found = compared(parts, pool)
    assert (found.new, found.gone) == ([], [str(pool / "deep/2.jpg")])


def test_only_what_lies_in_the_pools_that_are_named_can_be_gone(
    parts: list[FinishedPart], pool: Path
) -> None:
    (pool / "deep/2.jpg").unlink()
    (pool / "t.tar").unlink()
    known, roots = Known(parts), roots_of(pool)
    assert known.compare([], roots, [pool / "deep"]).gone == [str(pool / "deep/2.jpg")]
    assert known.compare([], roots, [pool / "t.tar"]).gone == [str(pool / "t.tar")]
    assert known.compare([], roots, [pool.parent / "po"]).gone == []


def test_a_changed_source_is_known_in_all_its_versions(
    parts: list[FinishedPart], pool: Path, tmp_path: Path
) -> None:
    (pool / "deep/1.jpg").write_bytes(b"another")
    now = source_of(pool / "deep/1.jpg", pool)
    known = Known([*parts, part_of(tmp_path, 2, [(now, None, b"another")])])
    assert known.compare(sources_of(pool), roots_of(pool), [pool]) == Changes()
    versions = known.versions[0, "deep/1.jpg"]
    assert [(one.size, one.part) for one in versions] == [(7, 0), (7, 2)]
    assert known.gone(roots_of(pool)).sources == {0: {(0, "deep/1.jpg")}}, "the older one"


def test_rows_of_lost_and_replaced_sources_are_gone_by_part(parts: list[FinishedPart], pool: Path) -> None:
    (pool / "deep/0.jpg").unlink()
    (pool / "t.tar").write_bytes(b"")
    os.utime(pool / "deep/1.jpg", ns=(1, 1))
    found = Known(parts).gone(roots_of(pool))
    assert found.sources == {0: {(0, "deep/0.jpg")}, 1: {(0, "t.tar")}} and found.out_of_reach == []


def test_nothing_is_gone_of_a_root_that_is_out_of_reach(parts: list[FinishedPart], pool: Path) -> None:
    roots = roots_of(pool)
    pool.rename(pool.parent / "elsewhere")
    found = Known(parts).gone(roots)
    assert (found.out_of_reach, found.sources) == ([str(pool)], {})


def test_a_moved_pool_is_followed_by_its_files(parts: list[FinishedPart], pool: Path) -> None:
    roots, moved = roots_of(pool), pool.parent / "moved"
    pool.rename(moved)
    notes = follow_moved(roots, Known(parts), [moved])
    assert roots.path(0) == str(moved) and len(notes) == 1
    assert f"moved from {pool} to {moved}" in notes[0]


def test_a_copy_of_a_pool_that_is_still_there_is_not_followed(parts: list[FinishedPart], pool: Path) -> None:
    roots = roots_of(pool)
    shutil.copytree(pool, pool.parent / "copy")
    assert follow_moved(roots, Known(parts), [pool.parent / "copy"]) == [] and roots.path(0) == str(pool)


def test_another_pool_is_not_taken_for_the_moved_one(parts: list[FinishedPart], pool: Path) -> None:
    roots, other = roots_of(pool), pool.parent / "other"
    pool.rename(other)
    (other / "deep/1.jpg").write_bytes(b"of another size")
    assert follow_moved(roots, Known(parts), [other]) == [] and roots.path(0) == str(pool)
