import pytest

from curate.selection.options import StrategyOptions
from curate.selection.texts import class_phrases, require_text_tower, text_queries
from transferset.errors import UsageError
from transferset.prompts import TEMPLATES, parse_class_names, prompts


def test_labels_are_called_as_they_are_unless_told_otherwise() -> None:
    names = {"bcc": "basal cell carcinoma"}
    assert class_phrases(["corn_field", "bcc"], names) == {"corn_field": "corn field", **names}
    with pytest.raises(UsageError, match="there is no such class"):
        class_phrases(["corn_field"], names)
    with pytest.raises(UsageError, match="need class names"):
        class_phrases([None], {})


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
