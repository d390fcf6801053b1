import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from distill.loop.execution import Execution, torch_threads
from transferset.errors import UsageError


def _blas_threads() -> set[int]:
    assert np.ones((4, 4)) @ np.ones(4) is not None
    return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}


def test_threads_are_those_of_the_run_and_not_of_the_environment() -> None:
    before, blas = torch.get_num_threads(), _blas_threads()
    for threads in (1, 2):
        with torch_threads(threads):
            assert torch.get_num_threads() == threads and _blas_threads() == {threads}
    assert torch.get_num_threads() == before and _blas_threads() == blas


def test_a_run_keeps_what_it_was_begun_with_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    begun = {"device": "cpu", "threads": 2, "student_mode": {"precision": "fp32", "compiled": False}}
    same = Execution("cpu", 2, student_precision="fp32", compile_student="off")
    assert same.resolve(begun) == begun == Execution().resolve(begun)
    assert capsys.readouterr().err == ""
    assert Execution("cpu", 1, student_precision="bf16").resolve(begun) == begun
    told = capsys.readouterr().err
    assert "--threads 2, not 1; --student-precision fp32, not bf16" in told and "--device" not in told


@pytest.mark.skipif(torch.cuda.device_count() > 7, reason="this machine has the device")
def test_a_run_of_a_device_that_is_not_here_says_so() -> None:
    begun = {"device": "cuda:7", "threads": 2}
    with pytest.raises(UsageError, match="started on cuda:7, which is not here"):
        Execution("cpu").resolve(begun)
