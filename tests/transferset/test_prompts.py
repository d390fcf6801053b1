"""Class names in sentences, from lists, files and templates."""

from pathlib import Path

import numpy as np
import pytest

from transferset.errors import DataError, UsageError
from transferset.prompts import (
    check_class_names,
    check_templates,
    parse_class_names,
    phrase,
    prompts,
    read_templates,
    text_vector,
)


def test_class_names_come_from_a_list_or_a_file(tmp_path: Path) -> None:
    assert parse_class_names("dog, ice_cream,bcc = basal cell carcinoma") == {
        "dog": "dog",
        "ice_cream": "ice cream",
        "bcc": "basal cell carcinoma",
    }
    (tmp_path / "names.txt").write_text("dog\n\nNV=a mole, benign\n", "utf-8")
    assert parse_class_names(str(tmp_path / "names.txt")) == {"dog": "dog", "NV": "a mole, benign"}


@pytest.mark.parametrize("text", ["", " , ", "dog,dog", "=name", "x" * 500])
def test_what_are_no_class_names(text: str) -> None:
    with pytest.raises(UsageError, match="--class-names"):
        parse_class_names(text)


def test_a_file_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "names").write_bytes(b"\xff\xfe\x00dog")
    with pytest.raises(DataError, match="UTF-8"):
        parse_class_names(str(tmp_path / "names"))
    with pytest.raises(DataError, match="UTF-8"):
        read_templates(tmp_path / "names")


def test_templates(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("a {} at night\n\na drawing of {}\n", "utf-8")
    assert read_templates(tmp_path / "t") == ("a {} at night", "a drawing of {}")
    with pytest.raises(UsageError, match="not a file"):
        read_templates(tmp_path / "none")
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(UsageError, match="no template"):
        read_templates(tmp_path / "empty")
    for wrong in ("a photo", "{} and {}"):
        with pytest.raises(UsageError, match="places for the class name"):
            check_templates((wrong,))


def test_a_class_is_the_mean_of_its_sentences() -> None:
    table = {"a x": [2.0, 0.0], "the x": [0.0, 0.5]}
    vector = text_vector(
        lambda sentences: np.array([table[one] for one in sentences], np.float32), ["a x", "the x"]
    )
    np.testing.assert_allclose(vector, [0.5**0.5, 0.5**0.5], atol=1e-6)


def test_a_class_is_called_as_its_label_unless_told_otherwise() -> None:
    assert phrase("corn_field", {}) == "corn field"
    assert phrase("bcc", {"bcc": "basal cell carcinoma"}) == "basal cell carcinoma"
    assert prompts("corn field", ("a {}", "{}")) == ("a corn field", "corn field")
    check_class_names({"bcc": "x"}, ["bcc"])
    with pytest.raises(UsageError, match="there is no such class"):
        check_class_names({"bcc": "x"}, ["corn_field"])
    with pytest.raises(UsageError, match="no template is given"):
        check_templates(())
