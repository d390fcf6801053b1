from collections.abc import Callable
from typing import Any

import numpy as np

from curate.selection.request import Request
from curate.selection.uniform import uniform

Make = Callable[..., Any]


def _draw(index: Any, amount: int, seed: int = 0, banned: tuple[int, ...] = ()) -> Any:
    request = Request(
        index, np.empty((0, 2)), (), np.array([amount]), None, False, seed, np.array(banned, dtype=np.int64)
    )
    return uniform(request)


def test_the_draw_depends_on_the_items_and_not_on_their_order(array_index: Make) -> None:
    index = array_index(np.ones((500, 2)), cuts=(100, 250))
    order = np.random.default_rng(0).permutation(500)
    shuffled = array_index(np.ones((500, 2)), index.ids[order], cuts=(400,))
    ids = {bytes(index.ids[row]) for row in _draw(index, 60).rows}
    assert len(ids) == 60
    assert ids == {bytes(shuffled.ids[row]) for row in _draw(shuffled, 60).rows}
    assert ids != {bytes(index.ids[row]) for row in _draw(index, 60, seed=1).rows}


def test_a_larger_draw_contains_the_smaller(array_index: Make) -> None:
    index = array_index(np.ones((500, 2)))
    assert set(_draw(index, 40).rows.tolist()) < set(_draw(index, 80).rows.tolist())


def test_the_same_bytes_count_once_and_banned_ones_in_no_row(array_index: Make) -> None:
    ids = np.zeros((30, 16), dtype=np.uint8)
    ids[:, 0] = np.arange(30) % 10
    index = array_index(np.ones((30, 2)), ids, cuts=(15,))
    everything = _draw(index, 30)
    assert sorted(everything.rows.tolist()) == list(range(10))
    assert sorted(_draw(index, 30, banned=(4,)).rows.tolist()) == [0, 1, 2, 3, 5, 6, 7, 8, 9]


def test_nobody_owns_a_random_pick(array_index: Make) -> None:
    drawn = _draw(array_index(np.ones((20, 2))), 5)
    assert (drawn.queries == -1).all()
    assert (drawn.ranks == 0).all()
    assert np.isnan(drawn.scores).all()


def test_every_item_is_equally_likely(array_index: Make) -> None:
    index = array_index(np.ones((200, 2)))
    counts = np.zeros(200)
    for seed in range(200):
        counts[_draw(index, 100, seed=seed).rows] += 1
    assert abs(counts - 100).max() < 35
    assert np.std(counts) < 10


def test_many_parts_give_what_one_gives(array_index: Make) -> None:
    """Items are sorted now and then, not for every part."""
    ids = np.random.default_rng(1).integers(0, 4, (3000, 16), dtype=np.uint8)
    ids[2000:2600] = ids[:600]
    whole, cut = (
        array_index(np.ones((3000, 2)), ids),
        array_index(np.ones((3000, 2)), ids, tuple(range(7, 3000, 7))),
    )
    for amount in (0, 1, 50, 2390, 3000):
        assert (
            _draw(whole, amount, banned=(3, 2500)).rows.tolist()
            == _draw(cut, amount, banned=(3, 2500)).rows.tolist()
        )
