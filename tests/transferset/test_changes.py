"""What differs between two sets of arguments, in words."""

from transferset.changes import changes

ONE, OTHER = "0" * 64, "1" * 64


def test_equal_objects_have_no_changes() -> None:
    assert changes({"a": 1, "b": {"c": [1, 2]}}, {"b": {"c": [1, 2]}, "a": 1}) == []


def test_every_difference_is_told_by_its_dotted_name_in_order() -> None:
    found = {"seed": 0, "selection": {"total": 12, "strategy": "random"}}
    given = {"seed": 1, "selection": {"total": 16, "strategy": "random"}}
    assert changes(found, given) == ["seed: 0 there, 1 now", "selection.total: 12 there, 16 now"]


def test_what_one_of_them_lacks_is_none() -> None:
    assert changes({"lr": 0.1}, {"ema": 0.9}) == ["ema: none there, 0.9 now", "lr: 0.1 there, none now"]


def test_a_tuple_equals_the_list_that_json_makes_of_it() -> None:
    assert changes({"sizes": [1, 2]}, {"sizes": (1, 2)}) == []


def test_checksums_are_not_shown_but_explained() -> None:
    for found, given in (
        ({"samples_sha256": ONE}, {"samples_sha256": OTHER}),
        ({"samples": {"sha256": ONE}}, {"samples": {"sha256": OTHER}}),
        ({"samples_sha256": [ONE]}, {"samples_sha256": [ONE, OTHER]}),
    ):
        assert changes(found, given) == ["samples: other content than there"]
    assert changes({}, {"samples_sha256": OTHER}) == [f"samples_sha256: none there, {OTHER[:12]}… now"]


def test_a_long_value_is_shortened() -> None:
    (told,) = changes({"names": ["x" * 500]}, {"names": []})
    assert len(told) < 300 and told.endswith("…" + " there, [] now")
