"""`distill` on the command line: help, usage errors, the order of commands, what goes to stdout."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.distill.small import TINY
from transferset.lock import DirectoryLock

Run = Callable[..., tuple[int, str, str]]
CHEAP = ["--threads", "1", "--workers", "1", "--device", "cpu"]
SHORT = ["--steps", "2", "--batch-size", "8"]
COMMANDS = ("adapt", "label", "plan", "train", "finetune", "evaluate", "export", "predict")


@pytest.fixture(scope="module")
def shards(
    tmp_path_factory: pytest.TempPathFactory,
    encode: Callable[..., bytes],
    write_tar: Callable[..., Path],
    noise: Callable[..., np.ndarray],
) -> Path:
    members = {f"{number:02d}.jpg": encode(noise(number % 3, 500 + number)) for number in range(12)}
    return write_tar(tmp_path_factory.mktemp("shards") / "noise.tar", members)


def adapting(data: Path, out: Path) -> list[object]:
    return ["adapt", "--data", data, "--teacher", TINY, "--out", out, "--image-size", 32,
            "--runtime", "eager", *CHEAP]  # fmt: skip


def training(shards: Path, teacher: Path, out: Path) -> list[object]:
    return ["train", "--shards", shards, "--teacher", teacher, "--student", TINY, "--out", out,
            "--image-size", 32, "--runtime", "eager", *SHORT, *CHEAP]  # fmt: skip


def labelling(shards: Path, teacher: Path, out: Path) -> list[object]:
    return ["label", "--shards", shards, "--teacher", teacher, "--out", out, "--views", 2,
            "--runtime", "eager", "--batch-size", 8, *CHEAP]  # fmt: skip


def finetuning(data: Path, out: Path) -> list[object]:
    return ["finetune", "--data", data, "--student", TINY, "--out", out, "--image-size", 32, *SHORT, *CHEAP]


def evaluating(model: Path, data: Path) -> list[object]:
    return ["evaluate", "--model", model, "--data", data, "--runtime", "eager", *CHEAP]


def test_help_and_usage_errors_are_quick_and_need_no_torch(run_python: Callable[..., object]) -> None:
    code = """
import sys, time
start = time.process_time()
from distill import cli
from transferset.entry_point import run_cli
commands = ("adapt", "label", "plan", "train", "predict", "students")
for arguments in (["--help"], *([name, "--help"] for name in commands),
                  ["adapt"], ["train", "--steps", "0"], ["finetune", "--lr", "fast"], ["evaluat"]):
    try:
        run_cli(cli.app, arguments)
    except SystemExit as end:
        assert end.code == (0 if "--help" in arguments else 2), arguments
heavy = {"torch", "timm", "open_clip", "faiss", "openvino", "sklearn", "pyarrow", "numpy"}
print(sorted(heavy & set(sys.modules)), time.process_time() - start)
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr  # type: ignore[attr-defined]
    modules, _, seconds = done.stdout.splitlines()[-1].rpartition(" ")  # type: ignore[attr-defined]
    assert modules == "[]"
    assert float(seconds) < 1


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_says_what_it_is_for(command: str, distill: Run) -> None:
    code, out, _ = distill(command, "--help")
    assert code == 0
    options = [line.split() for line in out.splitlines() if line.startswith("  --")]
    assert len(options) > 10
    assert all(len(words) > 2 or words[0] == "--help" for words in options), out


@pytest.mark.parametrize(
    ("command", "required"),
    [
        ("adapt", ["--data", "--teacher", "--out"]),
        ("label", ["--shards", "--teacher", "--out"]),
        ("plan", ["--shards", "--teacher", "--student"]),
        ("train", ["--shards", "--out"]),
        ("finetune", ["--data", "--out"]),
        ("evaluate", ["--model", "--data"]),
        ("export", ["--model", "--out"]),
        ("predict", ["--model", "--images"]),
    ],
)
def test_what_is_required_is_asked_for(
    command: str, required: list[str], distill: Run, tmp_path: Path
) -> None:
    given: list[object] = []
    for option in required:
        code, out, err = distill(command, *given)
        assert (code, out) == (2, "")
        assert option in err
        given += [option, tmp_path]


def test_a_store_is_of_one_teacher(distill: Run, tmp_path: Path) -> None:
    given = ["--shards", tmp_path, "--teacher", tmp_path, "--teacher", tmp_path, "--out", tmp_path / "store"]
    code, _, err = distill("label", *given)
    assert code == 2 and "a store holds the outputs of one teacher" in err and "--labels-from" in err


NUMBERS = [
    ("--threads", "0"), ("--threads", "-1"), ("--threads", "many"), ("--workers", "-1"),
    ("--batch-size", "0"),
    ("--seed", "-1"), ("--image-size", "0"), ("--folds", "1"), ("--steps", "0"), ("--steps", "1.5"),
    ("--epochs", "0"), ("--epochs", "-1"), ("--epochs", "nan"), ("--epochs", "inf"), ("--lr", "0"),
    ("--lr", "inf"), ("--lr", "nan"), ("--weight-decay", "-1"), ("--weight-decay", "nan"),
    ("--eval-every", "-1"), ("--checkpoint-every", "-1"), ("--patience", "-1"), ("--cache-mb", "-1"),
    ("--decode-size", "0"), ("--top-k", "0"),
    ("--views", "-1"), ("--temperature", "0"), ("--temperature", "nan"), ("--temperature", "inf"),
    ("--feature-weight", "-1"), ("--feature-weight", "nan"),
    ("--labelled-share", "1"), ("--labelled-share", "nan"), ("--label-smoothing", "1"),
    ("--label-smoothing", "nan"), ("--max-pixels", "0"), ("--max-error-rate", "1.5"),
    ("--max-error-rate", "-0.1"), ("--layer-decay", "0"), ("--layer-decay", "nan"), ("--retention", "-1"),
    ("--retention", "nan"), ("--blocks", "0"), ("--train-batch-size", "0"),
]  # fmt: skip
WORDS = [
    ("--runtime", "fast"), ("--device", "toaster"), ("--class-weight", "heavy"), ("--method", "magic"),
    ("--augment", "wild"), ("--tune", "all"), ("--init", "names"), ("--split", "exam"),
    ("--metric", "f1"), ("--student", "resnet"), ("--student", "open_clip:RN50/openai"),
]  # fmt: skip


@pytest.mark.parametrize(("option", "value"), [*NUMBERS, *WORDS])
def test_impossible_values_are_usage_errors(
    option: str, value: str, distill: Run, shards: Path, teacher: Path, labelled: Path, tmp_path: Path
) -> None:
    """For every command that has the option: exit 2, the option is named, and nothing is written."""
    out = tmp_path / "out"
    whole = {
        "adapt": adapting(labelled, out),
        "label": labelling(shards, teacher, out),
        "train": training(shards, teacher, out),
        "finetune": finetuning(labelled, out),
        "evaluate": [*evaluating(teacher, labelled), "--split", "val"],
    }
    tried = 0
    for command, arguments in whole.items():
        if option not in distill(command, "--help")[1]:
            continue
        tried += 1
        if option == "--epochs":
            arguments = [word for word in arguments if word not in SHORT[:2]]
        code, printed, err = distill(*arguments, option, value)
        assert (code, printed) == (2, ""), f"{command} {err}"
        assert option.lstrip("-") in err or value in err, f"{command} {err}"
        assert "Traceback" not in err
        assert not out.exists() or not list(out.iterdir())
    assert tried


@pytest.mark.parametrize("command", COMMANDS)
def test_a_mistyped_option_is_an_error(command: str, distill: Run) -> None:
    code, out, err = distill(command, "--thraeds", "2")
    assert (code, out) == (2, "")
    assert "--thraeds" in err and "--threads" in err, "and the right one is offered"


def test_labelled_images_that_are_not_there(
    distill: Run, shards: Path, teacher: Path, tmp_path: Path
) -> None:
    for arguments in (
        adapting(tmp_path / "none", tmp_path / "out"),
        finetuning(tmp_path / "none", tmp_path / "out"),
        evaluating(teacher, tmp_path / "none"),
        [*training(shards, teacher, tmp_path / "out"), "--data", tmp_path / "none"],
    ):
        code, _, err = distill(*arguments)
        assert code == 2
        assert "--data" in err and "none" in err
    assert not (tmp_path / "out").exists()


def test_data_without_anything_in_it_is_bad_data(distill: Run, teacher: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for arguments in (
        adapting(tmp_path / "empty", tmp_path / "out"),
        finetuning(tmp_path / "empty", tmp_path / "out"),
        evaluating(teacher, tmp_path / "empty"),
    ):
        code, _, err = distill(*arguments)
        assert code == 3
        assert "empty holds no image" in err


def test_an_unlabelled_folder_is_no_task(distill: Run, teacher: Path, tmp_path: Path, labelled: Path) -> None:
    shutil.copytree(labelled / "val" / "red", tmp_path / "flat")
    for arguments in (
        adapting(tmp_path / "flat", tmp_path / "out"),
        finetuning(tmp_path / "flat", tmp_path / "out"),
        evaluating(teacher, tmp_path / "flat"),
    ):
        code, _, err = distill(*arguments)
        assert code == 2
        assert "flat has no labels" in err and "one folder for each class" in err


def test_the_wrong_order(distill: Run, shards: Path, teacher: Path, labelled: Path, tmp_path: Path) -> None:
    """Each command needs what the one before it has finished, and says which one that is."""
    nowhere, out = tmp_path / "nowhere", tmp_path / "out"
    code, _, err = distill(*training(shards, nowhere, out))
    assert code == 3
    assert "not a run of distill" in err and "distill adapt" in err
    code, _, err = distill(*labelling(shards, nowhere, out))
    assert code == 3 and "not a run of distill" in err
    untaught = [word for word in training(shards, nowhere, out) if word not in ("--teacher", nowhere)]
    code, _, err = distill(*untaught)
    assert code == 2 and "--teacher" in err and "--labels-from" in err
    code, _, err = distill(*untaught, "--labels-from", teacher)
    assert code == 3 and "not a run of distill label" in err
    code, _, err = distill(*evaluating(nowhere, labelled))
    assert code == 3 and "not a run of distill" in err
    finetune_from = [word for word in finetuning(labelled, out) if word not in ("--student", TINY)]
    finetune_from = [word for word in finetune_from if word not in ("--image-size", 32)]
    code, _, err = distill(*finetune_from, "--from", nowhere)
    assert code == 3 and "no finished student" in err and "distill train" in err
    code, _, err = distill(*finetune_from, "--from", teacher)
    assert code == 3 and "no finished student" in err
    code, _, err = distill(*training(tmp_path / "none.tar", teacher, out))
    assert code == 2 and "--shards" in err and "none.tar does not exist" in err
    code, _, err = distill(*adapting(labelled, teacher / "config.json"))
    assert code == 2 and "--out" in err and "is a file" in err


def test_unfinished_models_are_not_used(
    distill: Run, shards: Path, teacher: Path, labelled: Path, tmp_path: Path
) -> None:
    unfinished = tmp_path / "teacher"
    shutil.copytree(teacher, unfinished)
    (unfinished / "report.json").unlink()
    for arguments in (
        training(shards, unfinished, tmp_path / "out"),
        evaluating(unfinished, labelled),
        [*evaluating(unfinished, labelled), "--split", "val"],
    ):
        code, _, err = distill(*arguments)
        assert code == 3
        assert "is not finished" in err and "again until it is done" in err
    run = tmp_path / "run"
    assert distill(*training(shards, teacher, run))[0] == 0
    (run / "report.json").unlink()
    (run / "model.safetensors").unlink()
    code, _, err = distill(*evaluating(run, labelled), "--split", "val")
    assert code == 3 and "no finished student" in err and "run its command again" in err
    code, _, err = distill(*evaluating(run, labelled))
    assert code == 3 and "not finished" in err


def test_json_is_one_object_on_stdout(
    distill: Run, shards: Path, teacher: Path, labelled: Path, tmp_path: Path
) -> None:
    found = {}
    for name, arguments in {
        "adapt": adapting(labelled, tmp_path / "teacher"),
        "train": training(shards, teacher, tmp_path / "run"),
        "finetune": finetuning(labelled, tmp_path / "tuned"),
        "evaluate": [*evaluating(teacher, labelled), "--split", "val"],
    }.items():
        code, out, err = distill(*arguments, "--json")
        assert code == 0, err
        found[name] = json.loads(out)
        assert distill(*arguments, "--json")[1] == out, "again, the same"
    assert found["adapt"]["classes"] == 3 and found["adapt"]["judged_on"]
    assert found["train"]["steps"] == found["finetune"]["steps"] == 2
    assert {"top1", "balanced_accuracy", "ece", "per_class"} <= found["evaluate"].keys()


def test_label_then_train_without_a_teacher(
    distill: Run, shards: Path, teacher: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    code, out, err = distill(*labelling(shards, teacher, store), "--table", tmp_path / "t.parquet")
    assert code == 0 and "12 in 1 shards, 0 unreadable" in out and "all classes, of 3" in out, err
    assert "label: 12/12 images" in err and "images/s" in err
    code, out, _ = distill(*labelling(shards, teacher, store), "--json")
    assert code == 0 and json.loads(out)["labelled_now"] == 0
    arguments = [
        word for word in training(shards, teacher, tmp_path / "run") if word not in ("--teacher", teacher)
    ]
    code, out, err = distill(*arguments, "--labels-from", store, "--json")
    assert code == 0 and json.loads(out)["steps"] == 2, err
    code, _, err = distill(*labelling(shards, teacher, store), "--augment", "light")
    assert code == 2 and "augment: standard there, light now" in err


def test_a_plan(distill: Run, shards: Path, teacher: Path, tmp_path: Path) -> None:
    given = ["plan", "--shards", shards, "--teacher", teacher, "--student", TINY, "--image-size", 32]
    given += ["--steps", 300, "--batch-size", 8, "--seconds", 0.05, "--runtime", "eager", "--threads", 1]
    code, out, err = distill(*given)
    assert code == 0 and "label, then train" in out and "storing" in out, err
    code, out, _ = distill(*given, "--json")
    found = json.loads(out)
    assert code == 0 and found["images"] == 12 and found["store_views"] == 8
    assert list(tmp_path.iterdir()) == []


def test_tables_for_people(distill: Run, shards: Path, teacher: Path, labelled: Path, tmp_path: Path) -> None:
    code, out, _ = distill(*adapting(labelled, tmp_path / "teacher"))
    assert code == 0 and "18 train, 12 val, 0 unreadable" in out and "chosen" in out
    code, out, _ = distill(*training(shards, teacher, tmp_path / "run"))
    assert code == 0 and "not scored: there is no val split" in out and "step 2 of 2" in out
    code, out, _ = distill(*finetuning(labelled, tmp_path / "tuned"))
    assert code == 0 and "%" in out and ", val" in out
    code, out, _ = distill(*evaluating(teacher, labelled), "--split", "val")
    assert code == 0 and "balanced accuracy" in out and "green" in out


def test_other_arguments_than_those_of_the_folder(
    distill: Run, shards: Path, teacher: Path, labelled: Path, tmp_path: Path
) -> None:
    assert distill(*adapting(labelled, tmp_path / "teacher"))[0] == 0
    assert distill(*training(shards, teacher, tmp_path / "run"))[0] == 0
    assert distill(*finetuning(labelled, tmp_path / "tuned"))[0] == 0
    for arguments, difference in (
        ([*adapting(labelled, tmp_path / "teacher"), "--no-flip"], "flip: True there, False now"),
        (
            [*training(shards, teacher, tmp_path / "run"), "--weight-decay", "0.5"],
            "weight_decay: 0.05 there, 0.5 now",
        ),
        ([*finetuning(labelled, tmp_path / "tuned"), "--seed", "1"], "seed: 0 there, 1 now"),
        (finetuning(labelled, tmp_path / "run"), "train there, finetune now"),
        (training(shards, teacher, tmp_path / "teacher"), "adapt there, train now"),
        (adapting(labelled / "train", tmp_path / "teacher"), "val_images: 12 there, 0 now"),
    ):
        code, _, err = distill(*arguments)
        assert code == 2, err
        assert "was written by other arguments" in err and difference in err
    code, _, err = distill(*adapting(labelled, labelled))
    assert code == 2 and "is not empty and not a run of distill" in err


def test_two_writers_of_one_folder(
    distill: Run, shards: Path, teacher: Path, labelled: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for arguments in (adapting(labelled, out), training(shards, teacher, out), finetuning(labelled, out)):
        with DirectoryLock(out):
            code, _, err = distill(*arguments)
        assert code == 75
        assert "is being written by process" in err
        assert not list(out.iterdir())


def test_steps_and_epochs_together(distill: Run, labelled: Path, tmp_path: Path) -> None:
    code, _, err = distill(*finetuning(labelled, tmp_path / "out"), "--epochs", "1")
    assert code == 2 and "--steps and --epochs were both given" in err


def test_a_glob_that_the_shell_has_expanded(
    distill: Run, shards: Path, teacher: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.tar"
    shutil.copy(shards, other)
    first, *rest = training(shards, teacher, tmp_path / "run")
    code, _, err = distill(first, *rest[:2], other, *rest[2:])
    assert code == 0, err
    assert json.loads((tmp_path / "run" / "config.json").read_text())["inputs"]["samples"] == 24
