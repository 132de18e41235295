"""A GPU whose memory is too small: how PyTorch, cuBLAS and CUDA itself say so."""

from __future__ import annotations

import re

WORDS = "CUDA out of memory|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED|CUDA error: out of memory"
"""A regular expression for a log. Only PyTorch's own allocator has a class for it; graphs and libraries take memory
that it does not know."""


def ran_out(error: BaseException) -> bool:
    """Whether an error means that the GPU was full.

    >>> ran_out(RuntimeError("CUDA error: out of memory")), ran_out(RuntimeError("CUDA error: invalid argument"))
    (True, False)
    """
    return re.search(WORDS, f"{type(error).__name__}: {error}") is not None
