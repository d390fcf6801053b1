from pathlib import Path
from typing import Any

import numpy as np

from curate.index.index import open_index
from curate.selection.queries import Query, load_queries
from curate.selection.selection import Pick, Selection
from curate.transfer_set.samples import build_samples

QUERIES = [Query("aa" * 16, "a", "a/1.jpg"), Query("bb" * 16, "b", "b/2.jpg")]


def _selection(index: Any, count: int) -> Selection:
    positions = (np.arange(count, dtype=np.int64) + (index.parts[0].number << 32)).tolist()
    picks = [Pick(position, n % 2, n + 1, 0.123456, (1 - n % 2,)) for n, position in enumerate(positions)]
    return Selection(tuple(picks), (count, count))


def test_the_order_is_a_shuffle_that_one_more_image_does_not_change(small_pool: Any) -> None:
    index = open_index(small_pool.index)

    def ids(count: int, seed: int = 0) -> list[str]:
        selection = _selection(index, count)
        found = build_samples(index, QUERIES, selection, include_queries=False, seed=seed)
        return [sample.item_id for sample in found]

    fewer, more = ids(20), ids(24)
    assert [one for one in more if one in fewer] == fewer
    assert ids(20, seed=1) != fewer and sorted(ids(20, seed=1)) == sorted(fewer)


def test_provenance_names_the_owner_first_and_no_place(small_pool: Any) -> None:
    index = open_index(small_pool.index)
    samples = build_samples(index, QUERIES, _selection(index, 6), include_queries=False, seed=0)
    assert len(samples) == 6
    for sample in samples:
        about = sample.provenance
        owner = 0 if about["hinted_label"] == "a" else 1
        assert about["query_ids"] == [QUERIES[owner].query_id, QUERIES[1 - owner].query_id]
        assert about["similarity"] == 0.1235
        assert not Path(about["source"]).is_absolute()
        assert str(small_pool.pool) not in sample.json().decode()


def test_queries_are_samples_too_where_that_is_asked_for(small_pool: Any, query_dir: Path) -> None:
    index = open_index(small_pool.index)
    queries = load_queries(query_dir).queries
    samples = build_samples(index, queries, _selection(index, 2), include_queries=True, seed=0)
    own = [sample for sample in samples if sample.provenance["rank"] == 0]
    assert len(samples) == 6 and len(own) == 4
    for sample in own:
        assert sample.extension == "png" and sample.provenance["width"] == 48
        assert sample.provenance["source"] == "queries"
