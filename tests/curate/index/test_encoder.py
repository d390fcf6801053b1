from dataclasses import replace

import pytest

from curate.index.encoder import begin, resume
from curate.index.options import BuildOptions
from transferset.errors import UsageError

TINY = BuildOptions(encoder="timm:test_efficientnet@none", image_size=32, runtime="eager", threads=1)


def test_resuming_gives_what_was_begun():
    begun = begin(TINY)
    assert (begun.plan.runtime.runtime, begun.plan.runtime.threads) == ("eager", 1)
    assert begun.plan.runtime.batch_size == begun.model.batch_size == 64
    resumed = resume(begun.plan, BuildOptions())
    assert resumed.plan == begun.plan
    assert resumed.model.info == begun.model.info
    assert (resumed.notes, resumed.text) == ((), None)


def test_a_runtime_that_is_not_here_stops_builds_but_not_queries():
    plan = begin(TINY).plan
    elsewhere = replace(plan, runtime=replace(plan.runtime, device="cuda:7"))
    with pytest.raises(UsageError, match="was started on eager on cuda:7, and here"):
        resume(elsewhere, BuildOptions())
    queries = resume(elsewhere, BuildOptions(), obey_runtime=False)
    assert "(was cuda:7)" in queries.notes[0]
    assert "cpu (was cuda:7)" in resume(elsewhere, BuildOptions(device="cpu")).notes[0]


def test_the_plans_precision_is_obeyed_and_another_version_is_noted():
    plan = begin(TINY).plan
    other = replace(plan, runtime=replace(plan.runtime, precision="bf16", version="1.0"))
    resumed = resume(other, BuildOptions())
    assert resumed.model.info.precision == "bf16"
    (note,) = resumed.notes
    assert "(was 1.0)" in note and "bf16" not in note


def test_a_precision_that_is_not_here_stops_builds_but_not_queries():
    plan = begin(TINY).plan
    other = replace(plan, runtime=replace(plan.runtime, precision="i4"))
    with pytest.raises(UsageError, match="was started on eager"):
        resume(other, BuildOptions())
    assert "(was i4)" in resume(other, BuildOptions(), obey_runtime=False).notes[0]


def test_a_precision_is_asked_for_and_recorded():
    assert begin(replace(TINY, precision="bf16")).plan.runtime.precision == "bf16"


def test_queries_for_an_index_of_compiled_torch_wait_for_no_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    plan = begin(TINY).plan
    compiled = replace(plan, runtime=replace(plan.runtime, runtime="compile"))
    with pytest.raises(UsageError, match="needs a C\\+\\+ compiler"):
        resume(compiled, BuildOptions())
    queries = resume(compiled, BuildOptions(), obey_runtime=False)
    assert queries.model.info.runtime == "eager"
    assert "eager (was compile)" in queries.notes[0]


def test_other_weights_are_refused():
    plan = begin(TINY).plan
    other = replace(plan, encoder=replace(plan.encoder, seed=1))
    with pytest.raises(UsageError, match="weights"):
        resume(other, BuildOptions())
