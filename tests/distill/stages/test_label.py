"""`distill label`: what it stores, that it goes on, that it refuses what does not match."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg

from distill.data.compact_logits import targets
from distill.data.label_shards import Unit
from distill.data.label_store import open_store, rows_of
from distill.data.labelling import Labelling
from distill.data.views import augmentation, draw_view, render_crop
from distill.loop.execution import Execution
from distill.models.teacher import open_teacher
from distill.stages import label_writer
from distill.stages.label import label
from tests.distill.small import ONE_THREAD
from tests.distill.stages import killed
from tests.distill.stages.stores import VIEWS, label_options
from tests.trees import tree
from transferset.copies import item_id
from transferset.errors import DataError, InterruptedRun, UsageError
from transferset.images import decode
from transferset.lock import DirectoryLock

LABELLING_ASK = "distill.data.labelling:Labelling._ask"
WRITE = "distill.stages.label_writer:write_shard"


def _arguments(shards: Path, teacher: Path, out: Path) -> list[str]:
    given = ["label", "--shards", shards, "--teacher", teacher, "--out", out, "--views", VIEWS]
    given += ["--batch-size", 8, "--runtime", "eager", "--threads", 1, "--workers", 1, "--device", "cpu"]
    return [str(argument) for argument in given]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, shards: Path, teacher: Path) -> Path:
    out = tmp_path_factory.mktemp("label") / "store"
    report = label(label_options(shards, teacher, out))
    assert (report.images, report.shards, report.unreadable, report.labelled_now) == (45, 3, 1, 45)
    return out


def test_the_store_holds_the_teachers_answers_to_the_views_of_training(
    store: Path, shards: Path, teacher: Path, encode: Callable[..., bytes], noise: Callable[..., np.ndarray]
) -> None:
    opened, model = open_store(store), open_teacher(teacher, runtime="eager", batch_size=8, threads=1)
    assert opened.teacher_sha256 == model.fingerprint and opened.views == VIEWS
    data = encode(noise(4 % 3, 204))
    rgb, size = decode(data, short_side=model.preprocessing.size), model.preprocessing.size
    views = [draw_view(augmentation("standard"), 0, item_id(data), number) for number in range(VIEWS)]
    seen = np.stack([render_crop(rgb, view, size, model.preprocessing.interpolation) for view in views])
    expected = model.logits(seen)
    rows = rows_of(opened.shards[2], np.full(VIEWS, 4), np.arange(VIEWS))
    found = targets(rows, opened.layout) + rows["log_sum_exp"][:, None]
    assert np.allclose(found, expected, atol=5e-3) and np.ptp(found, axis=0).max() > 0


def test_unreadable_images_are_recorded(store: Path) -> None:
    opened = open_store(store)
    assert [shard.facts.name for shard in opened.shards] == ["000000.tar", "000001.tar", "000002.tar"]
    assert opened.shards[1].facts.unreadable.keys() == {"7"}
    assert "truncated" in opened.shards[1].facts.unreadable["7"]
    assert np.flatnonzero(~opened.shards[1].readable).tolist() == [7]
    assert not opened.shards[1].tensors["log_probabilities"][7].any()


def test_the_files_name_no_time_host_or_folder(store: Path, shards: Path, teacher: Path) -> None:
    text = b"".join(tree(store).values())
    for folder in (shards, teacher, store):
        assert str(folder.parent).encode() not in text
    assert not (store / ".lock").exists()
    assert sorted(tree(store)) == sorted(
        ["config.json", "labels.json", "preprocessing.json", "store.json"]
        + [f"outputs/{n:06d}.{kind}" for n in range(3) for kind in ("json", "safetensors")]
    )


@pytest.mark.parametrize("workers", [0, 3])
def test_the_same_command_elsewhere_gives_the_same_bytes(
    store: Path, shards: Path, teacher: Path, tmp_path: Path, workers: int
) -> None:
    moved = shutil.copytree(shards, tmp_path / "elsewhere" / "set")
    label(label_options(moved, teacher, tmp_path / "store", execution=Execution("cpu", 1, workers)))
    assert tree(tmp_path / "store") == tree(store)


@pytest.mark.parametrize(("function", "call", "left"), [(LABELLING_ASK, 9, 2), (WRITE, 2, 1)])
def test_a_killed_command_goes_on_with_the_same_bytes(
    store: Path, shards: Path, teacher: Path, tmp_path: Path, function: str, call: int, left: int
) -> None:
    """In the middle of the second shard, and when it has been labelled but is not yet written."""
    out = tmp_path / "store"
    killed.kill(_arguments(shards, teacher, out), function, call)
    assert not (out / "store.json").exists()
    with pytest.raises(DataError, match="not finished"):
        open_store(out)
    resumed = killed.resume(_arguments(shards, teacher, out), LABELLING_ASK)
    batches = 15 * VIEWS // 8 + 1
    assert resumed.calls == left * batches, "what had been written is kept"
    assert tree(out) == tree(store)


def test_a_killed_command_goes_on_in_the_precision_that_it_had(
    store: Path, shards: Path, teacher: Path, tmp_path: Path
) -> None:
    """Left to itself eager torch would take fp32 here, as another machine takes something else."""
    whole, out = tmp_path / "whole", tmp_path / "store"
    label(label_options(shards, teacher, whole, precision="bf16"))
    assert json.loads((whole / "config.json").read_text())["resolved"]["precision"] == "bf16"
    exact = open_store(store).shards[2].tensors["log_probabilities"]
    assert not np.array_equal(open_store(whole).shards[2].tensors["log_probabilities"], exact)
    killed.kill([*_arguments(shards, teacher, out), "--precision", "bf16"], LABELLING_ASK, 9)
    assert label(label_options(shards, teacher, out, runtime="auto")).labelled_now == 30
    assert tree(out) == tree(whole)


@pytest.mark.parametrize(
    ("values", "difference"),
    [
        ({"precision": "bf16"}, "--precision bf16, the store has f32"),
        ({"runtime": "openvino"}, "--runtime openvino, the store has eager"),
    ],
)
def test_another_runtime_or_precision_is_refused(
    store: Path, shards: Path, teacher: Path, values: dict[str, str], difference: str
) -> None:
    before = tree(store)
    with pytest.raises(UsageError, match=difference):
        label(label_options(shards, teacher, store, **values))
    assert label(label_options(shards, teacher, store, precision="fp32")).labelled_now == 0
    assert tree(store) == before


def test_a_store_keeps_the_batch_size_it_was_begun_with(
    store: Path, shards: Path, teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(store)
    label(label_options(shards, teacher, store, batch_size=16))
    assert "--batch-size 8, which the store was started with, not 16" in capsys.readouterr().err
    assert tree(store) == before


def test_a_store_that_was_begun_elsewhere_names_what_it_needs(
    store: Path, shards: Path, teacher: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(store, tmp_path / "store")
    config = json.loads((out / "config.json").read_text())
    config["resolved"] |= {"device": "cuda:7"}
    (out / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="started on cuda:7, which is not here"):
        label(label_options(shards, teacher, out, runtime="auto"))
    config["resolved"] |= {"device": "cpu", "runtime": "tensorrt"}
    (out / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match=r"started on tensorrt \(f32\) on cpu, and here: "):
        label(label_options(shards, teacher, out, runtime="auto"))


def test_a_store_is_not_gone_on_with_where_images_look_otherwise(
    store: Path, shards: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A JPEG decoder of less precision; what other versions of the libraries are called does not matter."""
    out = tmp_path / "store"
    killed.kill(_arguments(shards, teacher, out), LABELLING_ASK, 9)
    (out / ".lock").unlink()
    before, decode_jpeg = tree(out), simplejpeg.decode_jpeg
    monkeypatch.setattr(simplejpeg, "decode_jpeg", partial(decode_jpeg, fastdct=True))
    with pytest.raises(UsageError, match=r"images look different: other pixels for jpeg \("):
        label(label_options(shards, teacher, out))
    assert tree(out) == before
    monkeypatch.setattr(simplejpeg, "decode_jpeg", decode_jpeg)
    monkeypatch.setattr(simplejpeg, "__version__", "0.0", raising=False)
    assert label(label_options(shards, teacher, out)).labelled_now == 30
    assert tree(out) == tree(store)


def test_stores_of_an_earlier_version_are_refused(
    store: Path, shards: Path, teacher: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(store, tmp_path / "store")
    facts, config = (json.loads((out / name).read_text()) for name in ("store.json", "config.json"))
    (out / "store.json").write_text(json.dumps({**facts, "format_version": 1}))
    with pytest.raises(DataError, match="format_version 1, this program reads 2"):
        open_store(out)
    config["decoder"] = config["decoder"]["versions"]
    (out / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="an earlier version"):
        label(label_options(shards, teacher, out))


def test_a_shard_that_vanishes_is_missed_and_not_passed_over(
    store: Path, shards: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved, out = shutil.copytree(shards, tmp_path / "set"), tmp_path / "store"
    lost, elsewhere = moved / "000002.tar", tmp_path / "elsewhere.tar"
    write = label_writer.write_shard

    def write_and_lose(*arguments: Any) -> Any:
        if lost.exists():
            lost.rename(elsewhere)
        return write(*arguments)

    monkeypatch.setattr(label_writer, "write_shard", write_and_lose)
    with pytest.raises(DataError, match=r"000002\.tar cannot be read") as told:
        label(label_options(moved, teacher, out))
    assert "put it back" in str(told.value.hint) and not (out / "store.json").exists()
    monkeypatch.undo()
    elsewhere.rename(lost)
    label(label_options(moved, teacher, out))
    assert tree(out) == tree(store)


def test_an_interrupted_command_says_so_and_goes_on(
    store: Path, shards: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, calls = Labelling._ask, []

    def interrupted(self: Labelling, batch: np.ndarray, unit: Unit) -> np.ndarray:
        calls.append(1)
        if len(calls) == 9:
            os.kill(os.getpid(), signal.SIGTERM)
        return ask(self, batch, unit)

    monkeypatch.setattr(Labelling, "_ask", interrupted)
    with pytest.raises(InterruptedRun, match=r"stopped in 000001\.tar"):
        label(label_options(shards, teacher, tmp_path / "store"))
    monkeypatch.undo()
    assert label(label_options(shards, teacher, tmp_path / "store")).labelled_now == 30
    assert tree(tmp_path / "store") == tree(store)


def test_a_full_disk_leaves_what_was_there(store: Path, shards: Path, teacher: Path, tmp_path: Path) -> None:
    """The limit of a file's size gives EFBIG where a full disk gives ENOSPC."""
    out = tmp_path / "store"
    limited = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))\n"
    limited += "from distill.cli import main\nmain()"
    full = killed.run(limited, _arguments(shards, teacher, out))
    assert full.returncode == 6, full.stderr
    label(label_options(shards, teacher, out))
    assert tree(out) == tree(store)


def test_pieces_of_a_shard_are_kept(
    store: Path, shards: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_writer, "PIECE", 8)
    whole = tmp_path / "whole"
    label(label_options(shards, teacher, whole))
    small = "import distill.stages.label_writer as l; l.PIECE = 8"
    out = tmp_path / "store"
    killed.kill(_arguments(shards, teacher, out), LABELLING_ASK, 5, first=small)
    assert [path.name for path in (out / "pieces").iterdir()] == ["000000-00000000.safetensors"]
    report = label(label_options(shards, teacher, out))
    assert report.labelled_now == 37 and tree(out) == tree(whole)
    for mine, one in zip(open_store(out).shards, open_store(store).shards, strict=True):
        found, expected = mine.tensors["log_probabilities"], one.tensors["log_probabilities"]
        assert np.allclose(found, expected, atol=2e-3)


def test_a_damaged_piece_is_labelled_again(
    store: Path, shards: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_writer, "PIECE", 8)
    whole, out = tmp_path / "whole", tmp_path / "store"
    label(label_options(shards, teacher, whole))
    small = "import distill.stages.label_writer as l; l.PIECE = 8"
    killed.kill(_arguments(shards, teacher, out), LABELLING_ASK, 5, first=small)
    (piece,) = (out / "pieces").iterdir()
    os.truncate(piece, piece.stat().st_size // 2)
    assert label(label_options(shards, teacher, out)).labelled_now == 45
    assert tree(out) == tree(whole)


def test_damaged_shards_are_labelled_again_and_others_kept(
    store: Path, shards: Path, teacher: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(store, tmp_path / "store")
    path = out / "outputs" / "000001.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    (out / "outputs" / "000002.json").write_text("{}")
    with pytest.raises(DataError, match=r"000001\.safetensors is missing or damaged"):
        open_store(out)
    assert label(label_options(shards, teacher, out)).labelled_now == 30
    assert tree(out) == tree(store)
    assert label(label_options(shards, teacher, out)).labelled_now == 0


@pytest.mark.parametrize(
    ("values", "difference"),
    [
        ({"views": 4}, "views: 3 there, 4 now"),
        ({"seed": 1}, "seed: 0 there, 1 now"),
        ({"augment": "light"}, "augment: standard there, light now"),
        ({"decode_size": 20}, "decode_size: 48 there, 20 now"),
        ({"top_k": 1}, "top_k: none there, 1 now"),
    ],
)
def test_other_arguments_are_refused(
    store: Path, shards: Path, teacher: Path, values: dict[str, int], difference: str
) -> None:
    before = tree(store)
    with pytest.raises(UsageError, match=difference):
        label(label_options(shards, teacher, store, **values))
    assert tree(store) == before


def test_other_images_or_another_teacher_are_refused(
    store: Path, shards: Path, teacher: Path, labelled: Path, tmp_path: Path
) -> None:
    """Also where only the bytes of one image have changed and tars have no table that could tell."""
    changed = shutil.copytree(shards, tmp_path / "set")
    data = bytearray((changed / "000002.tar").read_bytes())
    data[1500] ^= 1
    (changed / "000002.tar").write_bytes(data)
    with pytest.raises(UsageError, match="samples: other content than there"):
        label(label_options(changed, teacher, store))
    from distill.stages.adapt import AdaptOptions, adapt

    tiny = "timm:test_efficientnet@none"
    adapt(
        AdaptOptions(labelled, tiny, tmp_path / "other", image_size=32, runtime="eager", execution=ONE_THREAD)
    )
    with pytest.raises(UsageError, match="teacher: other content than there"):
        label(label_options(shards, tmp_path / "other", store))


def test_a_second_writer_and_a_foreign_folder(
    store: Path, shards: Path, teacher: Path, tmp_path: Path
) -> None:
    from transferset.errors import BusyError

    with DirectoryLock(tmp_path / "busy"), pytest.raises(BusyError):
        label(label_options(shards, teacher, tmp_path / "busy"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("…")
    with pytest.raises(UsageError, match="not empty"):
        label(label_options(shards, teacher, tmp_path / "mine"))


def test_nothing_readable_is_bad_data(teacher: Path, tmp_path: Path, write_tar: Callable[..., Path]) -> None:
    rubbish = write_tar(tmp_path / "rubbish.tar", {f"{n}.jpg": b"x" * 100 for n in range(3)})
    with pytest.raises(DataError, match="none of the 3 images"):
        label(label_options(rubbish, teacher, tmp_path / "store"))


def test_the_largest_classes_and_the_rest(shards: Path, store: Path, teacher: Path, tmp_path: Path) -> None:
    label(label_options(shards, teacher, tmp_path / "store", top_k=1))
    few, all_of_them = open_store(tmp_path / "store"), open_store(store)
    tensors, full = few.shards[0].tensors, all_of_them.shards[0].tensors["log_probabilities"]
    assert tensors["classes"].shape == (15, VIEWS, 1) and tensors["classes"].dtype == np.uint16
    assert np.array_equal(tensors["log_probabilities"][..., 0], full.max(axis=-1))
    rest = np.log(-np.expm1(full.max(axis=-1).astype(np.float64)))
    assert np.allclose(tensors["rest"], rest, atol=1e-2)


@pytest.mark.parametrize(
    "values",
    [{"views": 0}, {"labelled_share": 1.0}, {"top_k": 0}, {"decode_size": 0}, {"augment": "wild"},
     {"table": Path("t.csv")}, {"precision": "f64"}, {"runtime": "jit"}, {"reject_from": ("pool",)},
     {"reject_images": 0}],
)  # fmt: skip
def test_impossible_options(shards: Path, teacher: Path, tmp_path: Path, values: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        label(label_options(shards, teacher, tmp_path / "store", **values))
    assert not any(path.is_file() for path in tmp_path.rglob("*"))
