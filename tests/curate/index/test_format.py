"""What index_data/README.md promises to other programs."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.index.index import open_index
from curate.index.layout import errors_schema, items_schema, parts_schema
from transferset.writes import sha256_file

README = Path(__file__).resolve().parents[3] / "index_data" / "README.md"


def test_the_example_reads_an_index_with_numpy_and_pyarrow_only(make_index, unit_rows, run_python, tmp_path):
    path = make_index([unit_rows(30, 8), unit_rows(0, 8), unit_rows(20, 8, 1)])
    code = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert code is not None
    assert len(code[1].splitlines()) <= 12
    assert code[1].startswith("import numpy as np, pyarrow as pa, pyarrow.parquet as pq\n")
    assert code[1].count("import") == 1
    (tmp_path / "example.py").write_text(code[1].replace('"INDEX"', repr(str(path))))
    done = run_python([str(tmp_path / "example.py")], env={"PYTHONPATH": ""})
    assert done.returncode == 0, done.stderr
    index = open_index(path)
    query = index.embeddings(0)[:1].astype(np.float64)
    positions, scores = index.search((query / np.linalg.norm(query)).astype(np.float32), 5)
    expected = [
        f"{item.item_id.hex()} {score:.5f} {item.path}"
        for item, score in zip(index.items(positions[0]), scores[0].tolist(), strict=True)
    ]
    assert done.stdout.splitlines() == expected


def test_every_column_and_field_is_described(make_index, unit_rows):
    path = make_index([unit_rows(3, 8)])
    text = README.read_text()
    manifest, plan, done = (
        json.loads((path / name).read_text())
        for name in ("manifest.json", "plan.json", "parts/000000/done.json")
    )
    names = {
        *items_schema().names, *errors_schema().names, *parts_schema().names, *manifest, *manifest["encoder"],
        *manifest["runtime"], *manifest["parts"], *manifest["faiss"], *plan, *done,
    }  # fmt: skip
    missing = [name for name in sorted(names) if f"`{name}`" not in text]
    assert missing == []


def test_files_are_as_described(make_index, unit_rows):
    path = make_index([unit_rows(5000, 4)])
    folder = path / "parts/000000"
    done = json.loads((folder / "done.json").read_text())
    assert {name: sha256_file(folder / name) for name in done["checksums"]} == done["checksums"]
    (row,) = pq.read_table(path / "parts.parquet").to_pylist()
    checksum = sha256_file(folder / "done.json")
    assert row == {"number": 0, "name": "000000", "rows": 5000, "errors": 0, "checksum": checksum}
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["parts"]["sha256"] == sha256_file(path / "parts.parquet")
    with (folder / "embeddings.npy").open("rb") as file:
        assert np.lib.format.read_magic(file) == (1, 0)
        assert np.lib.format.read_array_header_1_0(file) == ((5000, 4), False, np.dtype("<f2"))
    with pa.memory_map(str(folder / "items.arrow")) as mapped:
        reader = pa.ipc.open_file(mapped)
        assert reader.schema == items_schema()
        assert [reader.get_batch(i).num_rows for i in range(reader.num_record_batches)] == [4096, 904]
    state = manifest["parts"]["sha256"][:16]
    ids = np.load(path / "ids" / state / "item_ids.npy")
    assert [row.tobytes() for row in ids] == sorted(row.tobytes() for row in ids)
    about = json.loads((path / "faiss" / state / "about.json").read_text())
    assert (about["factory"], about["parts"], about["rows"]) == ("IDMap2,SQfp16", {"0": checksum}, 5000)
    file = path / "faiss" / state / "index.faiss"
    assert (about["bytes"], about["sha256"]) == (file.stat().st_size, sha256_file(file))
    assert manifest["faiss"] == {name: about[name] for name in about if name not in ("parts", "rows")}
