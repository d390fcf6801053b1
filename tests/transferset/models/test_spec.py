"""The grammar of model specs."""

import pytest

from transferset.errors import UsageError
from transferset.models.spec import ModelSpec, parse_spec


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        (
            "open_clip:ViT-B-32/laion2b_s34b_b79k",
            ModelSpec("open_clip", "ViT-B-32", "laion2b_s34b_b79k"),
        ),
        ("open_clip:ViT-B-32/none", ModelSpec("open_clip", "ViT-B-32", "none")),
        ("open_clip:ViT-B-32//weights/a.pt", ModelSpec("open_clip", "ViT-B-32", "/weights/a.pt")),
        ("open_clip:local-dir:/a/b:c", ModelSpec("open_clip", "local-dir", "/a/b:c")),
        (
            "timm:vit_base_patch16_clip_224.openai",
            ModelSpec("timm", "vit_base_patch16_clip_224.openai", "hub"),
        ),
        ("timm:resnet18@none", ModelSpec("timm", "resnet18", "none")),
        ("timm:resnet18@runs/a@b.safetensors", ModelSpec("timm", "resnet18", "runs/a@b.safetensors")),
        ("embedded", ModelSpec("embedded", "tf_efficientnet_lite0", "wheel")),
    ],
)
def test_a_spec_is_parsed_and_written_back(text: str, spec: ModelSpec) -> None:
    assert parse_spec(text) == spec
    assert str(spec) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "resnet18",
        "hub:resnet18",
        "timm",
        "timm:",
        "timm:resnet18@",
        "timm:resnet18@hub",
        "timm:resnet18@weights.pth",
        "timm:hf-hub:someone/model",
        "open_clip:",
        "open_clip:ViT-B-32",
        "open_clip:ViT-B-32/",
        "open_clip:/laion2b",
        "open_clip:local-dir:",
        "open_clip:hf-hub:someone/model",
        "embedded:x",
        "embedded@none",
    ],
)
def test_what_is_not_in_the_grammar_is_a_usage_error_that_states_it(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_spec(text)
    assert "timm:NAME@none" in (error.value.hint or "")


def test_random_weights_are_told_apart() -> None:
    assert parse_spec("timm:resnet18@none").is_random
    assert parse_spec("open_clip:RN50/none").is_random
    assert not parse_spec("timm:resnet18").is_random


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("timm:resnet18@/home/me/w.safetensors", "timm:resnet18@w.safetensors"),
        ("open_clip:local-dir:/home/me/clip", "open_clip:local-dir:clip"),
        ("open_clip:ViT-B-32/laion2b_s34b_b79k", "open_clip:ViT-B-32/laion2b_s34b_b79k"),
        ("timm:resnet18", "timm:resnet18"),
        ("timm:resnet18@none", "timm:resnet18@none"),
        ("embedded", "embedded"),
    ],
)
def test_what_is_public_names_no_folder(given: str, told: str) -> None:
    assert str(parse_spec(given).public) == told
