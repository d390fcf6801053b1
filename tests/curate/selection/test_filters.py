import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from curate.index.build import build_index
from curate.index.index import Index, open_index
from curate.index.options import BuildOptions
from curate.selection.filters import Filters, blocked_rows
from curate.selection.select import NotRetrievable, select
from curate.selection.select_options import SelectOptions
from curate.selection.strategies import STRATEGIES
from transferset.errors import UsageError

Make = Callable[..., Any]

SIZES = [(48, 48), (96, 48), (64, 64), (200, 50), (120, 100)]
CAPTIONS = ["A red barn", "two dogs on a beach", None, "a DOG", "café at night"]
EXTRA = [
    {"score": 5.5, "licence": "CC0", "safe": True, "tags": ["x", "y"], "source": "web"},
    {"score": "7", "licence": "CC-BY", "safe": False, "exif": {"year": 2019}},
    {"score": None, "licence": "CC0", "exif": {"year": 2021}, "date": "2021-03-04"},
    {"licence": "unknown", "date": "2019-12-31"},
    {"score": -1, "a.b": 3, "hash": 12345678901234567891},
]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, picture: Make, encode: Make, write_tar: Make) -> Index:
    """Five images with captions and metadata, and the first again in a second tar with another caption."""
    root = tmp_path_factory.mktemp("filters")
    members: dict[str, bytes] = {}
    for number, ((width, height), caption, extra) in enumerate(zip(SIZES, CAPTIONS, EXTRA, strict=True)):
        members[f"{number}.jpg"] = encode(picture(width, height, seed=number))
        members[f"{number}.json"] = json.dumps({**extra, "caption": caption}).encode()
    write_tar(root / "pool" / "a.tar", members)
    again = {"0.jpg": members["0.jpg"], "0.txt": b"a dog again"}
    write_tar(root / "pool" / "b.tar", again)
    options = BuildOptions(
        encoder="timm:test_efficientnet@none", image_size=32, runtime="eager", batch_size=4, faiss=False
    )
    build_index([root / "pool"], root / "index", options)
    return open_index(root / "index")


def _left(index: Index, **given: Any) -> list[str]:
    """The keys of the items that pass."""
    rows = np.flatnonzero(blocked_rows(index, Filters(**given)) == 0)
    numbering = index._numbering
    return [item.key.rpartition("/")[2] for item in index.items(numbering.positions(rows))]


def test_nothing_given_hides_nothing_but_repeats(index: Index) -> None:
    assert not Filters().active
    assert _left(index) == ["0", "1", "2", "3", "4"]


def test_sizes(index: Index) -> None:
    assert _left(index, min_side=50) == ["2", "3", "4"]
    assert _left(index, max_aspect=2) == ["0", "1", "2", "4"]
    assert _left(index, max_aspect=1.2, min_side=64) == ["2", "4"]


def test_captions(index: Index) -> None:
    assert _left(index, caption_contains=("dog",)) == ["1", "3"], (
        "in any case, and not by the repeat's caption"
    )
    assert _left(index, caption_contains=("dog", "beach")) == ["1"]
    assert _left(index, caption_matches=r"^a\b.*(barn|dog)$") == ["0", "3"]
    assert _left(index, caption_contains=("CAFÉ",)) == ["4"]
    assert _left(index, caption_matches=".") == ["0", "1", "3", "4"], "no caption matches nothing"


@pytest.mark.parametrize(
    ("condition", "left"),
    [
        ("width >= 96", "134"),
        ("width=48", "0"),
        ("width in 48, 64", "02"),
        ("height != 48", "234"),
        ("caption ~ DOG", "13"),
        ("caption == 'a DOG'", "3"),
        ("key in 1,3", "13"),
        ("format == jpeg", "01234"),
        ("licence in CC0,CC-BY", "012"),
        ("licence != CC0", "13"),
        ("score > 5", "01"),
        ("score < 0", "4"),
        ("score == 7.0", "1"),
        ("score != 5.5", "14"),
        ("safe == true", "0"),
        ("tags ~ x", "0"),
        ("exif.year >= 2020", "2"),
        ("a.b == 3", "4"),
        ("hash == 12345678901234567891", "4"),
        ("date > 2020-01-01", "2"),
        ("extra.source == web", "0"),
        ("source ~ a.tar", "01234"),
    ],
)
def test_conditions_on_any_metadata(index: Index, condition: str, left: str) -> None:
    assert "".join(_left(index, where=(condition,))) == left


def test_conditions_must_all_hold(index: Index) -> None:
    assert _left(index, where=("licence == CC0", "score > 1")) == ["0"]
    assert _left(index, where=("licence == CC0",), caption_contains=("barn",)) == ["0"]


def test_an_unknown_name_names_those_there_are(index: Index) -> None:
    with pytest.raises(UsageError, match="'licens'") as caught:
        blocked_rows(index, Filters(where=("licens == CC0",)))
    hint = caught.value.hint or ""
    assert "width" in hint and "licence" in hint and "extra.source" in hint and "item_id" not in hint


@pytest.mark.parametrize(
    "given",
    [
        {"min_side": 0},
        {"max_aspect": 0.5},
        {"max_aspect": float("nan")},
        {"caption_contains": ("",)},
        {"caption_contains": ("\udcff",)},
        {"where": ("caption ~ \udcff",)},
        {"caption_matches": "(unclosed"},
        {"caption_matches": "((x{1000}){1000}){1000}"},
        {"caption_matches": "(?=look)ahead"},
        {"caption_matches": "x" * 1001},
        {"where": ("width",)},
        {"where": ("width > wide",)},
        {"where": ("== 3",)},
        {"where": ("width >",)},
        {"where": ("width in 3,x",)},
    ],
)
def test_what_is_no_filter_is_said_before_anything_is_read(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Filters(**given)


def test_a_hostile_pattern_takes_no_time(index: Index) -> None:
    assert _left(index, caption_matches=r"(a+)+(b*)*$" * 20 + "x") == []


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_every_strategy_obeys_and_counts(index: Index, strategy: Any) -> None:
    vectors = np.eye(2, index.dimension, dtype=np.float32)
    options = SelectOptions(total=5, strategy=strategy, filters=Filters(where=("licence == CC0",)))
    texts = {None: vectors[0]}
    found = select(index, vectors, ["00" * 16, "11" * 16], [None, None], [3, 2], options, texts=texts)
    keys = sorted(index.item(pick.position).key.rpartition("/")[2] for pick in found.picks)
    assert keys == ["0", "2"]
    assert found.filtered == 3 and found.missing == 3


def test_a_rank_is_among_what_the_filters_leave(index: Index) -> None:
    options = SelectOptions(total=1, filters=Filters(where=("key == 3",)))
    found = select(index, np.eye(1, index.dimension, dtype=np.float32), ["00" * 16], [None], [1], options)
    assert [(pick.rank) for pick in found.picks] == [1]


def test_filters_that_leave_nothing_say_so(index: Index) -> None:
    options = SelectOptions(total=1, filters=Filters(min_side=5000))
    with pytest.raises(NotRetrievable, match="none of 5 images"):
        select(index, np.eye(1, index.dimension, dtype=np.float32), ["00" * 16], [None], [1], options)
