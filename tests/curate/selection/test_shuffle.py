import numpy as np

from curate.selection.shuffle import shuffle_keys


def _ids(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 16), dtype=np.uint8)


def test_a_key_depends_on_the_seed_and_the_id_alone() -> None:
    ids = _ids(500)
    keys = shuffle_keys(ids, 1)
    order = np.random.default_rng(1).permutation(500)
    assert (shuffle_keys(ids[order], 1) == keys[order]).all()
    assert not (shuffle_keys(ids, 2) == keys).any()
    assert len(np.unique(keys)) == 500


def test_known_values_hold_across_versions() -> None:
    ids = np.arange(32, dtype=np.uint8).reshape(2, 16)
    assert [hex(key) for key in shuffle_keys(ids, 0).tolist()] == KNOWN


def test_neither_seed_nor_id_shows_in_the_order() -> None:
    ids = np.zeros((20_000, 16), dtype=np.uint8)
    ids[:, :4] = np.arange(20_000, dtype="<u4").view(np.uint8).reshape(-1, 4)
    for seed in (0, 1):
        fractions = shuffle_keys(ids, seed) / 2.0**64
        counts, _ = np.histogram(fractions, bins=20, range=(0, 1))
        assert abs(counts - 1000).max() < 150
        assert abs(np.corrcoef(fractions, np.arange(20_000))[0, 1]) < 0.03
    assert abs(np.corrcoef(shuffle_keys(ids, 0) / 2.0**64, shuffle_keys(ids, 1) / 2.0**64)[0, 1]) < 0.03


KNOWN = ["0x8f3c11dbeac18096", "0xb4196aad7bcbffd1"]
