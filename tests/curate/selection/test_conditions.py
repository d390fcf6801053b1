"""`--where`: how a condition is read, and which values meet it."""

import pyarrow as pa
import pytest

from curate.selection.conditions import (
    MOST_CHARACTERS,
    Condition,
    as_number,
    columns,
    look_up,
    parse_condition,
    unknown_name,
)
from transferset.errors import UsageError


@pytest.mark.parametrize(
    ("text", "name", "operator", "value"),
    [
        ("width >= 640", "width", ">=", "640"),
        ("width>=640", "width", ">=", "640"),
        ("  licence  =  CC0  ", "licence", "==", "CC0"),
        ("licence == 'CC BY'", "licence", "==", "CC BY"),
        ('licence == "CC0"', "licence", "==", "CC0"),
        ("licence == 'CC0\"", "licence", "==", "'CC0\""),
        ("quote == '", "quote", "==", "'"),
        ("licence IN CC0, CC-BY", "licence", "in", "CC0, CC-BY"),
        ("a key with spaces != x", "a key with spaces", "!=", "x"),
        ("caption ~ a == b", "caption", "~", "a == b"),
        ("extra.exif.year < 2020", "extra.exif.year", "<", "2020"),
    ],
)
def test_a_condition_is_a_name_an_operator_and_a_value(
    text: str, name: str, operator: str, value: str
) -> None:
    assert parse_condition(text) == Condition(name, operator, value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "width",
        "width 5",
        "== 5",
        "width >",
        "width ==",
        "width >=",
        "x == " + "y" * MOST_CHARACTERS,
        "inside of",
    ],
)
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a condition") as caught:
        parse_condition(text)
    assert "NAME OP VALUE" in str(caught.value.hint)


@pytest.mark.parametrize("text", ["width == wide", "height in 3,x", "size < nan", "width > 1e999"])
def test_a_column_of_numbers_is_compared_with_numbers_only(text: str) -> None:
    with pytest.raises(UsageError, match=r"is a number, and .* is not"):
        parse_condition(text)


def test_any_column_may_contain_any_text() -> None:
    assert parse_condition("width ~ x").operator == "~"


def test_columns_are_what_people_know_of_an_item() -> None:
    assert columns()["width"] and columns()["size"] and not columns()["caption"]
    assert not {"item_id", "root", "offset", "perceptual_hash", "extra"} & columns().keys()


def test_a_column_goes_before_a_key_of_the_same_name() -> None:
    assert Condition("width", "==", "1").key is None
    assert Condition("extra.width", "==", "1").key == "width"
    assert Condition("licence", "==", "1").key == "licence"
    assert Condition("item_id", "==", "1").key == "item_id", "no column that conditions can name"


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("width == 10", [False, True, False, None]),
        ("width == 10.0", [False, True, False, None]),
        ("width != 10", [True, False, True, None]),
        ("width > 9", [False, True, True, None]),
        ("width < 9.5", [True, False, False, None]),
        ("width <= 10", [True, True, False, None]),
        ("width in (9, 200)", [True, False, True, False]),
        ("width ~ 0", [False, True, True, None]),
    ],
)
def test_numbers_of_a_column_compare_as_numbers(text: str, met: list[bool | None]) -> None:
    column = pa.array([9, 10, 200, None], pa.int32())
    assert parse_condition(text).of_column(column).to_pylist() == met


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("caption == 9", [True, False, False, None]),
        ("caption < b", [True, True, True, None]),
        ("caption > 2", [True, False, True, None]),
        ("caption ~ BARN", [False, False, True, None]),
        ("caption in 9,a barn", [True, False, True, False]),
    ],
)
def test_text_of_a_column_compares_as_text(text: str, met: list[bool | None]) -> None:
    column = pa.array(["9", "10", "a barn", None], pa.string())
    assert parse_condition(text).of_column(column).to_pylist() == met


@pytest.mark.parametrize(
    ("text", "value", "met"),
    [
        ("x == 5", 5, True),
        ("x == 5", 5.0, True),
        ("x == 5.0", "5", True),
        ("x > 9", "10", True),
        ("x > 9", "b", False),
        ("x < 9", "a", False),
        ("x != 9", "a", True),
        ("x == 12345678901234567891", 12345678901234567891, True),
        ("x == 12345678901234567891", 12345678901234567892, False),
        ("x > 2020-01-01", "2020-01-02", True),
        ("x > 2020-01-01", "2019-12-31", False),
        ("x == true", True, True),
        ("x == True", True, False),
        ("x in 1,2", 2.0, True),
        ("x in 1,2", 3, False),
        ("x in (a, b)", "b", True),
        ("x ~ RED", "a Redder one", True),
        ("x ~ 2", 123, True),
        ("x ~ red", ["blue", "Red"], True),
        ("x == red", ["red"], False),
        ("x ~ b", {"a": "B"}, True),
        ("x != a", {"b": 1}, False),
        ("x != a", None, False),
        ("x ~ None", None, False),
    ],
)
def test_values_out_of_json(text: str, value: object, met: bool) -> None:
    assert parse_condition(text).of_value(value) is met


def test_dots_go_down_into_objects_where_no_key_has_them() -> None:
    metadata = {"a": {"b": {"c": 1}, "d.e": 2}, "a.x": 3, "list": [{"b": 1}], "none": None}
    assert look_up(metadata, "a.b.c") == 1
    assert look_up(metadata, "a.d.e") == 2
    assert look_up(metadata, "a.x") == 3
    assert look_up(metadata, "a") == metadata["a"]
    for missing in ("b", "a.b.c.d", "list.b", "none.b", "a.", ""):
        assert look_up(metadata, missing) is None


def test_numbers_are_finite_and_whole_ones_exact() -> None:
    assert as_number("9007199254740993") == 9007199254740993
    assert as_number("-3") == -3 and as_number("1e3") == 1000 and as_number(".5") == 0.5
    for text in ("", "x", "nan", "inf", "-Infinity", "1e999", "1,5", "0x10"):
        assert as_number(text) is None


def test_an_unknown_name_is_told_with_those_there_are() -> None:
    error = unknown_name(["licens", "y"], ["licence"])
    assert error.message == "--where: no image has 'licens' or 'y'"
    assert "width" in str(error.hint) and str(error.hint).endswith(", licence")
