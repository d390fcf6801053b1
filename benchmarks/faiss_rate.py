"""FAISS with re-scoring against exact torch: queries a second singly and in batches, recall, memory.

    python benchmarks/faiss_rate.py --index INDEX --work DIR [--queries FOLDER] [--rows 1000000]

The rows are the real embeddings of INDEX, each several times, plus differences between the embeddings of two
crops of one image (of `--crops` images of its pool, drawn with `--seed`); the intrinsic dimension of both is
printed. They are written to DIR as an index, whose FAISS file is chosen, trained and tuned as a build does
it. Queries are the images in FOLDER, or made like the rows. Exact torch is a product with the fp32 matrix in
memory and topk, with as many threads as FAISS has.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from made_index import write_index

from curate.encoding.pipeline import encode_items
from curate.encoding.vectors import unit_rows
from curate.index.encoder import IndexEncoder
from curate.index.index import Index, open_index
from curate.index.search.faiss_recall import mean_recall
from transferset.images import IMAGE_SUFFIXES, decode
from transferset.models.runtime import FrozenModel

K = 100
BATCH = 128
PART_ROWS = 100_000


def real_rows(index: Index) -> np.ndarray:
    """All stored rows (n, d) float32 of length 1."""
    rows = np.concatenate([np.asarray(part.embeddings, np.float32) for part in index.parts])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def crop_differences(index: Index, model: FrozenModel, images: int, rng: np.random.Generator) -> np.ndarray:
    """Differences (n, d) between the embeddings of two crops, half to all of the area, of one image."""
    parts = [part for part in index.parts if part.rows]
    pixels = []
    for _ in range(images):
        part = parts[rng.integers(len(parts))]
        item = index.items(np.array([part.number << 32 | int(rng.integers(part.rows))]))[0]
        rgb = decode(index.read_bytes(item), short_side=2 * model.preprocessing.resize_short_side)
        for _ in range(2):
            share = np.sqrt(rng.uniform(0.5, 1))
            height, width = (max(1, int(side * share)) for side in rgb.shape[:2])
            top, left = (int(rng.integers(side - kept + 1)) for side, kept in zip(rgb.shape, (height, width)))
            pixels.append(model.preprocessing.render(rgb[top : top + height, left : left + width]))
    batches = range(0, len(pixels), model.batch_size)
    vectors = [unit_rows(model(np.stack(pixels[at : at + model.batch_size])), "crops") for at in batches]
    found = np.concatenate(vectors)
    return found[0::2] - found[1::2]


def make_rows(real: np.ndarray, differences: np.ndarray, amount: int, rng: np.random.Generator) -> np.ndarray:
    """`amount` rows (amount, d): real ones plus a difference, of either sign."""
    made = np.empty((amount, real.shape[1]), np.float32)
    for start in range(0, amount, PART_ROWS):
        count = min(PART_ROWS, amount - start)
        signs = rng.choice(np.array([-1, 1], np.float32), (count, 1))
        rows = real[rng.integers(len(real), size=count)]
        rows = rows + signs * differences[rng.integers(len(differences), size=count)]
        made[start : start + count] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return made


def intrinsic_dimension(rows: np.ndarray, rng: np.random.Generator, sample: int = 500) -> float:
    """TwoNN (Facco et al. 2017) on a sample of queries against at most 20,000 rows: from the ratio of the
    distances to the second and first neighbour."""
    chosen = torch.from_numpy(rows[rng.permutation(len(rows))[:20_000]])
    queries = chosen[:sample]
    cosines = torch.topk(queries @ chosen.T, 3, dim=1).values.double()
    distances = (2 - 2 * cosines).clamp_min(1e-12).sqrt()
    usable = distances[:, 1] > 1e-4
    ratios = (distances[usable, 2] / distances[usable, 1]).log()
    return float(1 / ratios.mean())


def rate(search: Callable[[np.ndarray], object], queries: np.ndarray, batch: int, seconds: float) -> float:
    """Queries a second in batches of this size, for about so long, after a warm-up."""
    search(queries[:batch])
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        at = done % max(1, len(queries) - batch + 1)
        done += len(queries[at : at + batch])
        search(queries[at : at + batch])
    return done / (time.perf_counter() - start)


def read_queries(folder: Path, model: FrozenModel) -> np.ndarray:
    """Embeddings of the images below a folder."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    return np.stack([one.embedding for one in encode_items(model, paths, Path.read_bytes)])  # type: ignore[union-attr]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="a new folder")
    parser.add_argument("--queries", type=Path, help="a folder of images, such as scenes20/train")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--crops", type=int, default=1_000, help="images for the differences")
    parser.add_argument("--memory-gb", type=float)
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--seconds", type=float, default=20, help="of each measurement")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    import faiss

    given = parse()
    rng = np.random.default_rng(given.seed)
    torch.set_num_threads(given.threads)
    faiss.omp_set_num_threads(given.threads)
    source = open_index(given.index)
    model = IndexEncoder(source).model
    real = real_rows(source)
    differences = crop_differences(source, model, given.crops, rng)
    rows = make_rows(real, differences, given.rows, rng)
    print(
        f"intrinsic dimension (TwoNN): {intrinsic_dimension(real, rng):.1f} of {len(real):,} real rows, "
        f"{intrinsic_dimension(rows, rng):.1f} of {len(rows):,} made ones"
    )
    queries = make_rows(real, differences, 512, rng) if given.queries is None else None
    queries = queries if queries is not None else read_queries(given.queries, model)
    blocks = (rows[start : start + PART_ROWS] for start in range(0, len(rows), PART_ROWS))
    index = write_index(given.work, source.plan, blocks, asked=(given.memory_gb, given.recall))
    matrix = torch.from_numpy(rows)

    def exact(asked: np.ndarray) -> object:
        return torch.topk(torch.from_numpy(asked) @ matrix.T, K, dim=1)

    def approximate(asked: np.ndarray) -> object:
        return index.search(asked, K, "faiss")

    sample = queries[rng.permutation(len(queries))[:200]]
    recall = mean_recall(index.search(sample, K)[0], index.search(sample, K, "faiss")[0])
    pool = index.manifest["faiss"]
    print(f"recall@{K}: {recall:.3f} on {len(sample)} queries, {pool['recall']} on {pool['queries']} rows")
    for name, batch in (("singly", 1), (f"in batches of {BATCH}", BATCH)):
        rates = [rate(search, queries, batch, given.seconds) for search in (exact, approximate)]
        print(
            f"{name}: exact torch {rates[0]:.1f} queries/s, FAISS {rates[1]:.1f}, "
            f"ratio {rates[1] / rates[0]:.2f}"
        )
    print(f"memory: FAISS / fp32 flat, ratio {pool['bytes'] / rows.nbytes:.3f}")


if __name__ == "__main__":
    main()
