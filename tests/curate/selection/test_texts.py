from pathlib import Path

import numpy as np
import pytest

from curate.selection.options import StrategyOptions
from curate.selection.texts import class_phrases, require_text_tower, text_queries
from transferset.errors import DataError, UsageError
from transferset.prompts import TEMPLATES, parse_class_names, prompts, read_templates, text_vector


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


def test_labels_are_called_as_they_are_unless_told_otherwise() -> None:
    names = {"bcc": "basal cell carcinoma"}
    assert class_phrases(["corn_field", "bcc"], names) == {"corn_field": "corn field", **names}
    with pytest.raises(UsageError, match="there is no such class"):
        class_phrases(["corn_field"], names)
    with pytest.raises(UsageError, match="need class names"):
        class_phrases([None], {})


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
            StrategyOptions(templates=(wrong,))


def test_a_class_is_the_mean_of_its_sentences() -> None:
    table = {"a x": [2.0, 0.0], "the x": [0.0, 0.5]}
    vector = text_vector(
        lambda sentences: np.array([table[one] for one in sentences], np.float32), ["a x", "the x"]
    )
    np.testing.assert_allclose(vector, [0.5**0.5, 0.5**0.5], atol=1e-6)


def test_one_query_a_class_with_an_id_of_its_sentences() -> None:
    found = text_queries(["dog", "ant"], StrategyOptions())
    assert [(one.label, one.name) for one in found.queries] == [("ant", "ant"), ("dog", "dog")]
    assert (
        found.queries[1].prompts == prompts("dog", TEMPLATES)
        and "a photo of a dog" in found.queries[1].prompts
    )
    assert all(len(bytes.fromhex(one.query_id)) == 16 for one in found.queries)
    other = text_queries(["dog", "ant"], StrategyOptions(templates=("{}",)))
    assert other.queries[0].query_id != found.queries[0].query_id


def test_an_encoder_without_a_text_tower_is_told_at_once() -> None:
    for spec in ("embedded", "timm:resnet18@none"):
        with pytest.raises(UsageError, match="no text tower"):
            require_text_tower(spec)
    require_text_tower("open_clip:ViT-B-32/none")


def test_names_that_are_no_text_become_escapes() -> None:
    assert parse_class_names("caf\udce9") == {"caf\\udce9": "caf\\udce9"}
    (query,) = text_queries(["caf\udce9"], StrategyOptions()).queries
    assert query.label == "caf\\udce9"
