"""`curate build-index` against clip-retrieval's `inference` and `index`: same images, model and machine.

    python benchmarks/clip_retrieval.py --peer-python VENV/bin/python --pool POOL --work DIR \\
        (--model CLIP_FOLDER | --random ViT-B-32) [--images 256]

VENV is an environment of its own with clip-retrieval (2.45 needs numpy<2, setuptools<81 and
faiss-cpu==1.8.0.post1; a pinned list of its other requirements helps). CLIP_FOLDER is a folder as open_clip
writes it (configuration and safetensors); `--random` makes one with seeded weights. Both programs get tars
with the first IMAGES images of the pool and the same model files, and run as their users run them: whole
commands, nothing downloaded. Start-up is what the whole command takes beyond its loop over the images. Memory
is summed over all processes: resident, and proportional (pages that processes share counted once).

Aims: the whole command at least 3 times as fast for a small CLIP on 3,000 images or more; ViT-B/32 at least
1.5 times in the loop; half the memory.
"""

import argparse
import io
import json
import os
import shutil
import sys
import tarfile
from pathlib import Path

from process_memory import Peak, run_measured

from transferset.cores import available_cores

# clip-retrieval's own command line. It starts processes that import this file again, and need the model too.
LAUNCHER = """
import os
import open_clip
open_clip.add_model_config(os.environ["BENCHMARK_MODEL_CONFIG"])
if __name__ == "__main__":
    from clip_retrieval.cli import main
    main()
"""
NAME = "benchmark-clip"


def subset(pool: Path, images: int, folder: Path, tars: int) -> list[Path]:
    """The first images of the pool with their metadata, in `tars` tars of equal size."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:05d}.tar" for number in range(tars)]
    if all(path.exists() for path in paths):
        return paths
    samples: dict[str, list[tuple[str, bytes]]] = {}
    for source in sorted(pool.glob("*.tar")):
        with tarfile.open(source) as tar:
            for member in tar:
                stem, _, suffix = member.name.partition(".")
                if suffix in ("jpg", "json") and (stem in samples or len(samples) < images):
                    data = tar.extractfile(member)
                    assert data is not None
                    samples.setdefault(stem, []).append((member.name, data.read()))
        if len(samples) >= images:
            break
    groups = list(samples.values())
    for number, path in enumerate(paths):
        with tarfile.open(path, "w") as tar:
            for name, content in (one for group in groups[number::tars] for one in group):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return paths


def random_model(name: str, folder: Path) -> Path:
    """A folder as open_clip writes it, of an architecture with seeded random weights."""
    import open_clip
    import torch
    from safetensors.torch import save_model

    if not (folder / "open_clip_model.safetensors").exists():
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(0)
        model = open_clip.create_model(name, pretrained=None)
        about = {"model_cfg": open_clip.get_model_config(name), "preprocess_cfg": model.visual.preprocess_cfg}
        (folder / "open_clip_config.json").write_text(json.dumps(about))
        save_model(model, str(folder / "open_clip_model.safetensors"))
    return folder


def run_ours(model: Path, tars: list[Path], given: argparse.Namespace) -> tuple[Peak, float, int]:
    """The command; seconds of its loop; images."""
    index = given.work / "ours"
    shutil.rmtree(index, ignore_errors=True)
    pools = [word for tar in tars for word in ("--pool", str(tar))]
    command = [sys.executable, "-m", "curate.cli", "build-index", *pools, "--index", str(index), "--json"]
    peak = run_measured([*command, "--encoder", f"open_clip:local-dir:{model}"])
    report = json.loads(peak.output)
    return peak, report["seconds"]["encode"], report["images"]


def run_theirs(model: Path, tars: list[Path], given: argparse.Namespace) -> tuple[Peak, float, int]:
    """Both commands as one; seconds of the loop of `inference`; images."""
    work = given.work / "theirs"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    (work / "launcher.py").write_text(LAUNCHER)
    config = json.loads((model / "open_clip_config.json").read_text())["model_cfg"]
    (work / f"{NAME}.json").write_text(json.dumps(config))
    weights = next(iter(sorted(model.glob("*.safetensors")))).absolute()
    environment = {
        "BENCHMARK_MODEL_CONFIG": str((work / f"{NAME}.json").absolute()),
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONWARNINGS": "ignore",
        "PYTHONPATH": "",
        "OMP_NUM_THREADS": str(available_cores()),
    }
    launch = [str(given.peer_python), str(work / "launcher.py")]
    last = f"{len(tars) - 1:05d}"
    options = {
        "--input_dataset": f"{tars[0].parent}/{{00000..{last}}}.tar",
        "--output_folder": str(work / "embeddings"),
        "--input_format": "webdataset",
        "--enable_text": "False",
        "--enable_metadata": "True",
        "--clip_model": f"open_clip:{NAME}/{weights}",
        "--batch_size": str(given.batch_size),
        "--num_prepro_workers": str(len(tars)),
    }
    first = run_measured(
        [*launch, "inference", *(word for pair in options.items() for word in pair)], environment
    )
    index = ["--embeddings_folder", str(work / "embeddings"), "--index_folder", str(work / "index")]
    limits = ["--max_index_memory_usage", "4G", "--current_memory_available", "8G"]
    cores = ["--nb_cores", str(available_cores())]
    second = run_measured([*launch, "index", *index, *limits, *cores], environment)
    stats = [json.loads(path.read_text()) for path in sorted((work / "embeddings" / "stats").glob("*.json"))]
    loop = max(one["end_time"] for one in stats) - min(one["start_time"] for one in stats)
    both = Peak(
        resident=max(first.resident, second.resident),
        proportional=max(first.proportional, second.proportional),
        processes=max(first.processes, second.processes),
        seconds=first.seconds + second.seconds,
    )
    return both, loop, sum(one["sample_count"] for one in stats)


def line(name: str, peak: Peak, loop: float, images: int) -> str:
    return (
        f"{name:<16}{peak.seconds:8.1f} s in all, {peak.seconds - loop:6.1f} s of it not in the loop; loop "
        f"{images / loop:7.1f} images/s; memory {peak.resident:6.0f} MiB resident, "
        f"{peak.proportional:6.0f} MiB proportional, {peak.processes} processes"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--peer-python", type=Path, required=True)
    parser.add_argument("--pool", type=Path, required=True, help="a folder of tars in img2dataset's format")
    parser.add_argument("--work", type=Path, required=True, help="scratch folder")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", type=Path)
    which.add_argument("--random", metavar="NAME", help="an architecture of open_clip, such as ViT-B-32")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=64, help="of clip-retrieval; ours has its own")
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    given.work = given.work.absolute()
    os.environ["HF_HUB_OFFLINE"] = "1"
    model = given.model or random_model(given.random, given.work / f"random-{given.random}")
    tars = subset(given.pool, given.images, given.work / f"pool-{given.images}", available_cores())
    for _ in range(given.rounds):
        theirs = run_theirs(model.absolute(), tars, given)
        ours = run_ours(model.absolute(), tars, given)
        print(line("clip-retrieval", *theirs))
        print(line("build-index", *ours))
        whole = theirs[0].seconds / ours[0].seconds
        loop = (ours[2] / ours[1]) / (theirs[2] / theirs[1])
        print(
            f"{given.model or given.random}, {ours[2]} images: whole command {whole:.2f} times as fast, loop "
            f"{loop:.2f}; memory {ours[0].resident / theirs[0].resident:.2f} resident, "
            f"{ours[0].proportional / theirs[0].proportional:.2f} proportional"
        )


if __name__ == "__main__":
    main()
