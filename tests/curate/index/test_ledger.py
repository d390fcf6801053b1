import datetime

import numpy as np
import pytest

from curate.index.layout import LEDGER, LEDGER_LOCK
from curate.index.ledger import Ledger, LedgerEntry, LiveLedger, add_to_ledger, read_ledger
from transferset.errors import BusyError, DataError
from transferset.lock import DirectoryLock

WHEN = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


def entry(number: int) -> LedgerEntry:
    return LedgerEntry(bytes([number]) * 16, "me", WHEN, "asked", "item id")


def test_it_grows_and_holds_an_item_once(tmp_path):
    assert read_ledger(tmp_path) == Ledger()
    assert add_to_ledger(tmp_path, [entry(2), entry(1)]) == 2
    assert add_to_ledger(tmp_path, [entry(2), entry(3), entry(3)]) == 1
    ledger = read_ledger(tmp_path)
    assert ledger.entries == (entry(2), entry(1), entry(3))
    assert ledger.sorted_ids[:, 0].tolist() == [1, 2, 3]
    ids = np.array([[0] * 16, [2] * 16, [3] * 15 + [0]], np.uint8)
    assert ledger.among(ids).tolist() == [False, True, False]


def test_ids_that_end_in_zeros_are_told_apart(tmp_path):
    add_to_ledger(tmp_path, [entry(0)])
    ids = np.array([[0] * 16, [0] * 15 + [1], [1] + [0] * 15], np.uint8)
    assert read_ledger(tmp_path).among(ids).tolist() == [True, False, False]


def test_a_change_is_noticed(tmp_path):
    live = LiveLedger(tmp_path)
    before = live.now
    assert live.now is before and not before.ids
    add_to_ledger(tmp_path, [entry(1)])
    assert live.now.ids == {bytes([1]) * 16}


def test_a_damaged_ledger_gives_nothing_out(tmp_path):
    add_to_ledger(tmp_path, [entry(number) for number in range(100)])
    data = bytearray((tmp_path / LEDGER).read_bytes())
    for place in (10, 100, 500, len(data) - 20):
        damaged = data.copy()
        damaged[place] ^= 0xFF
        (tmp_path / LEDGER).write_bytes(damaged)
        with pytest.raises(DataError, match=r"forgotten\.parquet is damaged"):
            read_ledger(tmp_path)


def test_two_writers_do_not_lose_entries(tmp_path):
    with DirectoryLock(tmp_path, LEDGER_LOCK), pytest.raises(BusyError):
        add_to_ledger(tmp_path, [entry(1)])
    with DirectoryLock(tmp_path):
        assert add_to_ledger(tmp_path, [entry(1)]) == 1, "a build may take hours, forgetting must not wait"
