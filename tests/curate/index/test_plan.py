import json
from dataclasses import replace

import pytest

from curate.index.plan import Asked, read_plan, refuse, write_plan
from curate.pools import Roots
from transferset.errors import DataError, UsageError


def test_it_comes_back_as_it_was(tmp_path, plan):
    roots = Roots(tmp_path)
    roots.place(str(tmp_path / "pool"))
    write_plan(tmp_path, plan, roots)
    again, roots_again = read_plan(tmp_path)
    assert again == plan
    assert (
        roots_again.to_dicts() == roots.to_dicts() == [{"path": str(tmp_path / "pool"), "relative": "pool"}]
    )


def test_the_fingerprint_covers_what_embeddings_depend_on(plan):
    runtime, encoder = plan.runtime, plan.encoder
    others = [
        replace(plan, runtime=replace(runtime, batch_size=5)),
        replace(plan, runtime=replace(runtime, threads=2)),
        replace(plan, runtime=replace(runtime, precision="bf16")),
        replace(plan, encoder=replace(encoder, fingerprint="0")),
        replace(plan, max_pixels=7),
    ]
    assert len({plan.fingerprint, *(other.fingerprint for other in others)}) == 6
    same = [
        replace(plan, versions={"torch": "9"}),
        replace(plan, encoder=replace(encoder, spec="x")),
        replace(plan, runtime=replace(runtime, version="9")),
    ]
    assert {other.fingerprint for other in same} == {plan.fingerprint}


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (Asked(encoder="timm:resnet18@none"), "--encoder timm:resnet18@none, the index has embedded"),
        (Asked(image_size=64), "--image-size 64, the index has 32"),
        (Asked(runtime="openvino"), "--runtime openvino, the index has eager"),
        (Asked(precision="bf16"), "--precision bf16, the index has fp32"),
        (Asked(batch_size=5), "--batch-size 5, the index has 4"),
        (Asked(max_pixels=5), "--max-pixels 5, the index has 1000"),
        (Asked(seed=1), "--seed 1, the index has 0"),
        (Asked(threads=3), "--threads 3, the index has 1"),
    ],
)
def test_a_difference_is_refused_and_shown(tmp_path, plan, asked, told):
    with pytest.raises(UsageError) as caught:
        refuse(tmp_path, asked.differences(plan))
    assert told in caught.value.message


def test_what_the_plan_says_and_what_is_left_out_is_no_difference(tmp_path, plan):
    for asked in (
        Asked(),
        Asked("embedded", 32, "eager", 4, 1000, 0),
        Asked(runtime="auto", precision="auto"),
        Asked(precision="fp32"),
    ):
        refuse(tmp_path, asked.differences(plan))


def test_weights_by_another_path_can_only_be_told_by_loading(plan):
    here = replace(plan, encoder=replace(plan.encoder, spec="timm:resnet18@/a/w.safetensors"))
    moved = Asked(encoder="timm:resnet18@/b/w.safetensors")
    assert moved.differences(here) == []
    assert moved.names_other_weights(here)
    assert Asked(encoder="timm:resnet18@none").differences(here)
    hub = replace(plan, encoder=replace(plan.encoder, spec="open_clip:ViT-B-32/openai"))
    assert Asked(encoder="open_clip:ViT-B-32/laion2b_s34b_b79k").differences(hub)


def test_a_damaged_plan_is_a_data_error(tmp_path, plan):
    write_plan(tmp_path, plan, Roots(tmp_path))
    content = json.loads((tmp_path / "plan.json").read_text())
    del content["runtime"]["threads"]
    (tmp_path / "plan.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="damaged"):
        read_plan(tmp_path)
