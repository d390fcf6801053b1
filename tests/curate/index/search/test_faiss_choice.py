import pytest

from curate.index.search.faiss_choice import FaissWish, choose_faiss, finer
from transferset.errors import UsageError


@pytest.mark.parametrize(
    ("rows", "dimension", "wish", "factory"),
    [
        (24_000, 512, FaissWish(8), "IDMap2,SQfp16"),
        (150_000, 512, FaissWish(0.1), "IVF2048,PQ256x4fs"),
        (1_000_000, 512, FaissWish(8), "IVF4096,PQ256x4fs"),
        (1_000_000, 512, FaissWish(8, recall=1), "IDMap2,SQfp16"),
        (1_000_000, 512, FaissWish(0.3), "IVF4096,PQ256x4fs"),
        (1_000_000, 512, FaissWish(0.1), "IVF4096,PQ128x4fs"),
        (1_000_000, 512, FaissWish(0.01), "IVF4096,PQ128x4fs"),
        (100_000_000, 768, FaissWish(32), "IVF32768,PQ384x4fs"),
        (1_000_000, 7, FaissWish(0.001), "IVF4096,PQ1x4fs"),
    ],
)
def test_the_quickest_that_fits(rows, dimension, wish, factory):
    choice = choose_faiss(rows, dimension, wish)
    assert choice.factory == factory
    assert choice.reason


def test_the_reason_names_what_was_passed_over():
    reason = choose_faiss(1_000_000, 512, FaissWish(0.1)).reason
    assert "IVF4096,PQ256x4fs, IVF4096,SQ8 would take more" in reason and "of 0.1 GB" in reason
    assert "nothing fits" in choose_faiss(1_000_000, 512, FaissWish(0.01)).reason


def test_what_found_too_few_gives_way_to_something_finer_if_that_fits():
    coarse = ["IVF4096,PQ256x4fs"]
    choice = choose_faiss(1_000_000, 512, FaissWish(8), coarse)
    assert choice.factory == "IVF4096,SQ8" and "PQ256x4fs found too few" in choice.reason
    assert finer(1_000_000, 512, FaissWish(8), coarse)
    assert not finer(1_000_000, 512, FaissWish(0.3), coarse)
    assert not finer(1_000_000, 512, FaissWish(8), [*coarse, "IVF4096,SQ8"])


def test_an_sq8_index_is_less_than_a_third_of_flat_float32():
    assert choose_faiss(1_000_000, 512, FaissWish(8), ["IVF4096,PQ256x4fs"]).bytes < 1_000_000 * 512 * 4 / 3


def test_nonsense_is_refused():
    for wish in ({"memory_gb": 0}, {"recall": 0}, {"recall": 1.1}):
        with pytest.raises(UsageError):
            FaissWish(**wish)
