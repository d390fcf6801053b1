import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from curate.index.build import TooManyErrors, build_index
from curate.index.index import open_index
from curate.index.info import info
from curate.index.layout import part_directory
from curate.index.options import BuildOptions
from curate.pools import partition
from tests.trees import checksums
from transferset.errors import BusyError, DataError, UsageError
from transferset.lock import DirectoryLock

OPTIONS = BuildOptions(
    encoder="timm:test_efficientnet@none", image_size=32, runtime="eager", batch_size=4, workers=2, threads=1
)


@pytest.fixture
def pool(tmp_path, picture, encode, write_tar) -> Path:
    """Ten loose images and two damaged ones; a tar of seven, one of them damaged, with captions."""
    folder = tmp_path / "pool"
    (folder / "deep").mkdir(parents=True)
    for number in range(10):
        (folder / f"deep/{number}.jpg").write_bytes(encode(picture(40, 30, seed=number)))
    (folder / "deep/cut.jpg").write_bytes(encode(picture(seed=50))[:-200])
    (folder / "empty.png").write_bytes(b"")
    members = {}
    for number in range(7):
        members[f"{number:03d}.jpg"] = encode(picture(seed=100 + number)) if number != 3 else b"<html>"
        members[f"{number:03d}.txt"] = f"caption {number}".encode()
    write_tar(folder / "00000.tar", members)
    return folder


def test_a_pool_of_everything(pool, tmp_path):
    report = build_index([pool], tmp_path / "index", OPTIONS)
    assert (report.images, report.parts, report.new_images, report.new_parts) == (16, 2, 16, 2)
    assert report.errors == {"empty": 1, "not an image": 1, "truncated": 1}
    index = open_index(tmp_path / "index")
    assert (index.rows, index.distinct, index.dimension) == (16, 16, 256)
    tar_items = index.items(np.arange(6))
    assert [item.caption for item in tar_items] == [f"caption {number}" for number in (0, 1, 2, 4, 5, 6)]
    assert {item.source for item in tar_items} == {"00000.tar"}
    loose = index.items((1 << 32) + np.arange(10))
    assert [item.path for item in loose] == [f"deep/{number}.jpg" for number in range(10)]
    assert [(item.width, item.height, item.format) for item in loose] == [(40, 30, "jpeg")] * 10
    assert [index.read_bytes(item) for item in loose] == [
        (pool / f"deep/{n}.jpg").read_bytes() for n in range(10)
    ]
    lengths = np.linalg.norm(index.embeddings(0).astype(np.float32), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-3)
    errors = pq.read_table(part_directory(tmp_path / "index", 1) / "errors.parquet").to_pylist()
    assert [(row["kind"], row["path"]) for row in errors] == [
        ("image", "deep/cut.jpg"),
        ("image", "empty.png"),
    ]
    assert errors[0]["reason"].startswith("truncated")


def test_embeddings_are_those_of_the_encoder(pool, tmp_path):
    from curate.encoding.vectors import unit_rows
    from curate.index.encoder import begin
    from transferset.images import decode

    build_index([pool], tmp_path / "index", OPTIONS)
    index = open_index(tmp_path / "index")
    items = index.items(np.arange(6))
    model = begin(OPTIONS).model
    rendering = model.preprocessing
    pixels = [
        rendering.render(decode(index.read_bytes(item), short_side=rendering.resize_short_side))
        for item in items
    ]
    features = [model(np.stack(pixels[start : start + 4])) for start in range(0, len(pixels), 4)]
    expected = unit_rows(np.concatenate(features), "the index's").astype(np.float16)
    np.testing.assert_array_equal(index.embeddings(0), expected)


def test_running_again_changes_no_byte_and_loads_no_encoder(pool, tmp_path, monkeypatch):
    build_index([pool], tmp_path / "index", OPTIONS)
    before = checksums(tmp_path / "index")
    from curate.index import encoder

    monkeypatch.setattr(encoder, "load_backbone", lambda *_, **__: pytest.fail("the encoder was loaded"))
    report = build_index([pool], tmp_path / "index")
    assert (report.new_parts, report.images, report.changed, report.gone) == (0, 16, [], [])
    assert checksums(tmp_path / "index") == before


def test_parts_do_not_depend_on_each_other_or_on_threads(pool, tmp_path, monkeypatch):
    build_index([pool], tmp_path / "whole", OPTIONS)
    build_index([pool / "00000.tar"], tmp_path / "steps", replace(OPTIONS, workers=1))
    build_index([pool], tmp_path / "steps", replace(OPTIONS, workers=5))
    whole, steps = checksums(tmp_path / "whole"), checksums(tmp_path / "steps")
    for name in (
        "parts/000000/embeddings.npy",
        "parts/000001/embeddings.npy",
        "parts.parquet",
        "manifest.json",
    ):
        assert whole[name] == steps[name], name


def test_a_new_file_in_the_middle_makes_a_new_part(pool, tmp_path, picture, encode):
    build_index([pool], tmp_path / "index", OPTIONS)
    before = checksums(tmp_path / "index")
    (pool / "deep/4b.jpg").write_bytes(encode(picture(seed=77)))
    report = build_index([pool], tmp_path / "index")
    assert (report.new_parts, report.new_images, report.images) == (1, 1, 17)
    after = checksums(tmp_path / "index")
    assert {
        name: value
        for name, value in after.items()
        if name.startswith("parts/00000") and name[:12] != "parts/000002"
    } == {name: value for name, value in before.items() if name.startswith("parts/")}
    index = open_index(tmp_path / "index")
    assert index.item(2 << 32).path == "deep/4b.jpg"
    query = index.embeddings(2).astype(np.float32)
    for engine in ("exact", "faiss"):
        assert index.search(query, 1, engine)[0].tolist() == [[2 << 32]]
    assert (
        len(list((tmp_path / "index/faiss").iterdir())) == len(list((tmp_path / "index/ids").iterdir())) == 1
    )


def test_changed_and_gone_files_are_reported_and_parts_stay(pool, tmp_path, picture, encode):
    build_index([pool], tmp_path / "index", OPTIONS)
    before = checksums(tmp_path / "index")
    old = open_index(tmp_path / "index").item(1 << 32 | 2)
    (pool / "deep/2.jpg").write_bytes(encode(picture(60, 60, seed=2)))
    (pool / "deep/3.jpg").unlink()
    os.utime(pool / "deep/5.jpg", ns=(1, 1))
    report = build_index([pool], tmp_path / "index")
    assert report.changed == [str(pool / "deep/2.jpg")]
    assert report.gone == [str(pool / "deep/3.jpg")]
    assert report.new_images == 1
    after = checksums(tmp_path / "index")
    assert all(after[name] == value for name, value in before.items() if name.startswith("parts/"))
    index = open_index(tmp_path / "index")
    with pytest.raises(DataError, match="no longer holds the image that was indexed"):
        index.read_bytes(old)
    assert build_index([pool], tmp_path / "index").new_images == 0


def test_a_tar_that_grew_is_added_anew_and_a_touched_one_is_not(pool, tmp_path, picture, encode, write_tar):
    build_index([pool], tmp_path / "index", OPTIONS)
    os.utime(pool / "00000.tar", ns=(1, 1))
    report = build_index([pool], tmp_path / "index")
    assert (report.changed, report.new_images) == ([], 0)
    members = {f"{number:03d}.jpg": encode(picture(seed=100 + number)) for number in (9, 0, 1)}
    write_tar(pool / "00000.tar", members)
    report = build_index([pool], tmp_path / "index")
    assert report.changed == [str(pool / "00000.tar")]
    assert report.new_images == 3
    index = open_index(tmp_path / "index")
    assert index.distinct == index.rows - 2
    moved_within_the_tar = index.item(0)
    assert index.read_bytes(moved_within_the_tar) == members["000.jpg"]


def test_touched_tars_of_one_name_in_several_pools_are_not_added_anew(tmp_path, picture, encode, write_tar):
    pools = [tmp_path / "a", tmp_path / "b"]
    for number, folder in enumerate(pools):
        folder.mkdir()
        pictures = range(10 * number, 10 * number + 3)
        write_tar(folder / "00000.tar", {f"{seed}.jpg": encode(picture(seed=seed)) for seed in pictures})
    build_index(pools, tmp_path / "index", OPTIONS)
    assert len(open_index(tmp_path / "index").parts) == 1
    for folder in pools:
        os.utime(folder / "00000.tar", ns=(1, 1))
    report = build_index(pools, tmp_path / "index")
    assert (report.changed, report.new_images) == ([], 0)


def test_a_cut_off_tar_keeps_its_whole_members(pool, tmp_path):
    data = (pool / "00000.tar").read_bytes()
    (pool / "00000.tar").write_bytes(data[: data.index(b"004.jpg") + 600])
    report = build_index([pool / "00000.tar"], tmp_path / "index", OPTIONS)
    assert report.images == 3
    assert any("00000.tar: cut off" in note for note in report.notes)
    errors = pq.read_table(part_directory(tmp_path / "index", 0) / "errors.parquet").to_pylist()
    assert [row["source"] for row in errors if row["kind"] == "source"] == ["00000.tar"]
    (pool / "00000.tar").write_bytes(data)
    again = build_index([pool / "00000.tar"], tmp_path / "index")
    assert open_index(tmp_path / "index").distinct == 6
    assert again.changed


def test_small_tars_share_a_part_and_large_ones_do_not(tmp_path, picture, encode, write_tar, monkeypatch):
    monkeypatch.setattr(partition, "TAR_IMAGES", 3)
    for name, count in (("a", 1), ("b", 4), ("c", 2), ("d", 1)):
        images = {f"{number}.jpg": encode(picture(seed=ord(name) * 9 + number)) for number in range(count)}
        write_tar(tmp_path / f"pool/{name}.tar", images)
    build_index([tmp_path / "pool/*.tar"], tmp_path / "index", OPTIONS)
    index = open_index(tmp_path / "index")
    items = [index.items((part.number << 32) + np.arange(part.rows)) for part in index.parts]
    sources = [[str(item.source)[0] for item in of_part] for of_part in items]
    assert sources == [["b", "b", "b", "b"], ["a", "c", "c"], ["d"]]


def test_another_encoder_or_option_is_refused(pool, tmp_path):
    build_index([pool], tmp_path / "index", OPTIONS)
    before = checksums(tmp_path / "index")
    for options, told in [
        (replace(OPTIONS, encoder="timm:test_vit@none"), "--encoder timm:test_vit@none"),
        (replace(OPTIONS, encoder="timm:test_efficientnet"), "--encoder timm:test_efficientnet"),
        (replace(OPTIONS, batch_size=5), "--batch-size 5"),
    ]:
        with pytest.raises(UsageError, match="was built with other settings") as caught:
            build_index([pool], tmp_path / "index", options)
        assert told in caught.value.message
    assert checksums(tmp_path / "index") == before


def test_weights_in_a_file_are_told_by_their_content(pool, tmp_path):
    import timm
    from safetensors.torch import save_file

    def weights(name: str, seed: int) -> str:
        import torch

        torch.manual_seed(seed)
        (tmp_path / name).parent.mkdir(exist_ok=True)
        save_file(timm.create_model("test_efficientnet", num_classes=0).state_dict(), tmp_path / name)
        return f"timm:test_efficientnet@{tmp_path / name}"

    options = replace(OPTIONS, encoder=weights("a/w.safetensors", 0))
    build_index([pool], tmp_path / "index", options)
    moved = replace(OPTIONS, encoder=weights("b/w.safetensors", 0))
    build_index([pool], tmp_path / "index", moved)
    assert open_index(tmp_path / "index").encoder_spec == moved.encoder
    with pytest.raises(UsageError, match="weights"):
        build_index([pool], tmp_path / "index", replace(OPTIONS, encoder=weights("c/w.safetensors", 1)))


def test_a_folder_that_holds_something_else_is_refused(pool, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.txt").write_text("x")
    with pytest.raises(UsageError, match=r"is not an index: it holds thesis\.txt"):
        build_index([pool], tmp_path / "other", OPTIONS)
    with pytest.raises(UsageError, match="is not a folder"):
        build_index([pool], tmp_path / "other/thesis.txt", OPTIONS)
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["thesis.txt"]


def test_nothing_to_index_leaves_nothing(tmp_path):
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool/readme.txt").write_text("x")
    with pytest.raises(DataError, match="no image, tar or table"):
        build_index([tmp_path / "pool"], tmp_path / "index", OPTIONS)
    assert not (tmp_path / "index").exists()


def test_nothing_readable_is_bad_data(tmp_path, picture, encode):
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool/a.jpg").write_bytes(b"x")
    for _ in range(2):
        with pytest.raises(DataError, match="nothing in the pool can be read: 1 not an image"):
            build_index([tmp_path / "pool"], tmp_path / "index", OPTIONS)
    with pytest.raises(DataError, match="not finished"):
        open_index(tmp_path / "index")
    (tmp_path / "pool/a.jpg").write_bytes(encode(picture()))
    assert build_index([tmp_path / "pool"], tmp_path / "index", OPTIONS).images == 1


def test_more_errors_than_allowed_is_bad_data_but_the_index_is_there(pool, tmp_path):
    with pytest.raises(TooManyErrors, match=r"15\.79%") as caught:
        build_index([pool], tmp_path / "index", replace(OPTIONS, max_error_rate=0.1))
    assert caught.value.report.images == open_index(tmp_path / "index").rows == 16
    build_index([pool], tmp_path / "index", replace(OPTIONS, max_error_rate=0.2))


def test_a_second_writer_is_told_who_is_writing(pool, tmp_path):
    with DirectoryLock(tmp_path / "index"), pytest.raises(BusyError, match="is being written by process"):
        build_index([pool], tmp_path / "index", OPTIONS)


def test_a_moved_pool_is_recognised_and_nothing_is_embedded_again(pool, tmp_path):
    build_index([pool], tmp_path / "index", OPTIONS)
    moved = tmp_path / "elsewhere/pool"
    moved.parent.mkdir()
    shutil.move(pool, moved)
    index = open_index(tmp_path / "index")
    with pytest.raises(DataError, match="cannot be read") as caught:
        index.read_bytes(index.item(0))
    assert f"--pool-root {pool}=NEW" in caught.value.hint
    remapped = open_index(tmp_path / "index", {str(pool): str(moved)})
    assert remapped.read_bytes(remapped.item(0))
    report = build_index([moved], tmp_path / "index")
    assert (report.new_images, report.gone) == (0, [])
    assert "moved" in report.notes[0]
    index = open_index(tmp_path / "index")
    assert index.read_bytes(index.item(0))
    assert info(tmp_path / "index")["pools"] == [{"path": str(moved), "found": True}]


def test_an_index_that_moves_with_its_pool_finds_it(tmp_path, pool):
    build_index([pool], tmp_path / "index", OPTIONS)
    (tmp_path / "new").mkdir()
    for name in ("pool", "index"):
        shutil.move(tmp_path / name, tmp_path / "new" / name)
    index = open_index(tmp_path / "new/index")
    assert all(index.read_bytes(item) for item in index.items(np.arange(6)))


def test_a_part_of_another_plan_is_not_taken(pool, tmp_path):
    build_index([pool], tmp_path / "a", OPTIONS)
    build_index([pool], tmp_path / "b", replace(OPTIONS, batch_size=5))
    shutil.rmtree(tmp_path / "a/parts")
    shutil.copytree(tmp_path / "b/parts", tmp_path / "a/parts")
    with pytest.raises(DataError, match="was not built with"):
        build_index([pool], tmp_path / "a", OPTIONS)


def test_impossible_options_are_refused(tmp_path):
    for options in (BuildOptions(batch_size=0), BuildOptions(workers=-1), BuildOptions(max_error_rate=2)):
        with pytest.raises(UsageError):
            build_index([tmp_path], tmp_path / "index", options)
    with pytest.raises(UsageError, match="no pool"):
        build_index([], tmp_path / "index")
