"""A GPU whose memory is too small: how PyTorch, cuBLAS, cuDNN, Triton, numba and CUDA itself say so."""

from __future__ import annotations

import re

WORDS = r"CUDA.{0,20}out of memory|CUDA_ERROR_OUT_OF_MEMORY|OutOfMemoryError|_STATUS_ALLOC_FAILED"
"""A regular expression for a log. Only PyTorch's own allocator has a class for it; graphs, compilers and libraries take
memory that it does not know."""


def ran_out(error: BaseException) -> bool:
    """Whether an error means that the GPU was full.

    >>> ran_out(RuntimeError("CUDA error: out of memory")), ran_out(RuntimeError("CUDA error: invalid argument"))
    (True, False)
    >>> ran_out(Exception("[CUresult.CUDA_ERROR_OUT_OF_MEMORY] Call to cuMemAlloc results in it"))
    True
    """
    return re.search(WORDS, f"{type(error).__name__}: {error}") is not None
