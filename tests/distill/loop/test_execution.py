import numpy as np
import torch
from threadpoolctl import threadpool_info

from distill.loop.execution import torch_threads


def _blas_threads() -> set[int]:
    assert np.ones((4, 4)) @ np.ones(4) is not None
    return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}


def test_threads_are_those_of_the_run_and_not_of_the_environment() -> None:
    before, blas = torch.get_num_threads(), _blas_threads()
    for threads in (1, 2):
        with torch_threads(threads):
            assert torch.get_num_threads() == threads and _blas_threads() == {threads}
    assert torch.get_num_threads() == before and _blas_threads() == blas
