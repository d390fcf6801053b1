"""`distill train` against LightlyTrain's distillation: same images, teacher, student, batch and processor.

    python benchmarks/lightly_train.py --peer-python VENV/bin/python --pool POOL --work DIR [--images 2048]

VENV is an environment of its own with lightly-train and timm (tried with lightly-train 0.18). Teacher and
student are timm architectures with random weights, since only speed is compared; nothing is downloaded. Both
look at EPOCHS new views of every image. Ours runs with an online teacher, and from a store of `distill label`
with as many views. Steady rates are those of the training loop without its beginning; whole times are those
of the commands, and the store's includes labelling only where it says so.

Aims: 1.5 times as many images per second online, 3 times from a store.
"""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

from clip_retrieval import subset
from process_memory import Peak, run_measured

from transferset.cores import available_cores

# Timed at the student's first convolution: a hook on the model would not be called, and must be picklable.
LAUNCHER = """
import json, os, time
given = json.loads(os.environ["BENCHMARK"])
ticks = []
def tick(module, inputs):
    ticks.append(time.perf_counter())
if __name__ == "__main__":
    import lightly_train, timm, torch
    torch.set_num_threads(given["threads"])
    student = timm.create_model(given["student"], pretrained=False, num_classes=0)
    teacher = timm.create_model(given["teacher"], pretrained=False, num_classes=0, img_size=given["size"])
    next(m for m in student.modules() if isinstance(m, torch.nn.Conv2d)).register_forward_pre_hook(tick)
    lightly_train.pretrain(
        out=given["out"], data=given["data"], model=student, method="distillation",
        method_args={"teacher": teacher}, epochs=given["epochs"], batch_size=given["batch"],
        num_workers=given["threads"], accelerator="cpu", devices=1, precision="32-true",
        transform_args={"image_size": (given["size"], given["size"])}, overwrite=True,
    )
    first = len(ticks) // 4
    steps = len(ticks) - 1 - first
    print(json.dumps({"rate": steps * given["batch"] / (ticks[-1] - ticks[first])}))
"""


def folder_of(tars: list[Path], folder: Path) -> Path:
    """The images of the tars as files, as LightlyTrain reads them."""
    import tarfile

    for path in tars:
        with tarfile.open(path) as tar:
            tar.extractall(folder, [one for one in tar if one.name.endswith(".jpg")], filter="data")
    return folder


def run_theirs(images: Path, given: argparse.Namespace) -> tuple[Peak, float]:
    """The whole call; images per second in its steady part."""
    work = given.work / "theirs"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    (work / "launcher.py").write_text(LAUNCHER)
    facts = {name: getattr(given, name) for name in ("student", "teacher", "size", "epochs", "batch")}
    facts |= {"out": str(work / "run"), "data": str(images), "threads": available_cores()}
    environment = {
        "BENCHMARK": json.dumps(facts),
        "LIGHTLY_TRAIN_EVENTS_DISABLED": "1",
        "LIGHTLY_TRAIN_CACHE_DIR": str(work / "cache"),
        "HF_HUB_OFFLINE": "1",
        "NO_ALBUMENTATIONS_UPDATE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": "",
    }
    peak = run_measured([str(given.peer_python), str(work / "launcher.py")], environment)
    return peak, json.loads(peak.output.splitlines()[-1])["rate"]


def adapted(images: Path, given: argparse.Namespace) -> Path:
    """A teacher with a head for two made-up classes."""
    data = given.work / "labelled"
    for number, image in enumerate(sorted(images.iterdir())[:32]):
        (data / f"class{number % 2}").mkdir(parents=True, exist_ok=True)
        shutil.copy(image, data / f"class{number % 2}")
    teacher = given.work / "teacher"
    shutil.rmtree(teacher, ignore_errors=True)
    command = ["adapt", "--data", data, "--teacher", f"timm:{given.teacher}@none", "--out", teacher]
    distill(*command, "--image-size", given.size)
    return teacher


def distill(*arguments: object) -> Peak:
    """A command of ours in a process of its own."""
    return run_measured([sys.executable, "-m", "distill.cli", *map(str, arguments), "--json"])


def run_ours(
    shards: list[Path], way: list[object], given: argparse.Namespace, name: str
) -> tuple[Peak, float]:
    """`distill train`; images per second in its steady part."""
    out = given.work / name
    shutil.rmtree(out, ignore_errors=True)
    student = ["--student", f"timm:{given.student}@none", "--image-size", given.size]
    schedule = ["--epochs", given.epochs, "--batch-size", given.batch]
    places = [word for shard in shards for word in ("--shards", shard)]
    peak = distill("train", *places, *way, *student, *schedule, "--out", out)
    entries = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    rates = [entry["images_per_second"] for entry in entries if "images_per_second" in entry]
    steady = rates[len(rates) // 4 :]
    return peak, len(steady) / sum(1 / rate for rate in steady)


def line(name: str, peak: Peak, rate: float) -> str:
    """A line of the result."""
    whole = f"{peak.seconds:7.1f} s in all, {peak.proportional:6.0f} MiB"
    return f"{name:<14}{rate:8.1f} images/s steady, {whole}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--peer-python", type=Path, required=True)
    parser.add_argument("--pool", type=Path, required=True, help="a folder of tars in img2dataset's format")
    parser.add_argument("--work", type=Path, required=True, help="scratch folder")
    parser.add_argument("--student", default="mobilenetv3_small_050")
    parser.add_argument("--teacher", default="vit_small_patch16_224")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--images", type=int, default=2_048)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64)
    given = parser.parse_args()
    given.work = given.work.absolute()
    os.environ["HF_HUB_OFFLINE"] = "1"
    tars = subset(given.pool, given.images, given.work / f"pool-{given.images}", available_cores())
    images = folder_of(tars, given.work / f"images-{given.images}")
    theirs = run_theirs(images, given)
    print(line("LightlyTrain", *theirs))
    teacher = adapted(images, given)
    online = run_ours(tars, ["--teacher", teacher, "--views", 0], given, "online")
    print(line("online", *online))
    store = given.work / "store"
    shutil.rmtree(store, ignore_errors=True)
    places = [word for tar in tars for word in ("--shards", tar)]
    labelling = distill("label", *places, "--teacher", teacher, "--views", given.epochs, "--out", store)
    stored = run_ours(tars, ["--labels-from", store], given, "stored")
    print(line("from a store", *stored), f"(and {labelling.seconds:.1f} s to label, once)")
    chosen = json.loads((given.work / "online" / "config.json").read_text())["resolved"]
    both = stored[0].seconds + labelling.seconds
    print(
        f"teacher on {chosen['runtime']} {chosen['precision']}: images per second"
        f" {online[1] / theirs[1]:.2f} times"
        f" online, {stored[1] / theirs[1]:.2f} times from a store; whole commands"
        f" {theirs[0].seconds / online[0].seconds:.2f} and {theirs[0].seconds / stored[0].seconds:.2f}, with"
        f" labelling {theirs[0].seconds / both:.2f}"
    )


if __name__ == "__main__":
    main()
