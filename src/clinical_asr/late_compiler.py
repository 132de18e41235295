"""PyTorch's compiler, left where it is until something is really compiled: importing it costs seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial, wraps
from typing import Any

Compile = Callable[..., Any]


@contextmanager
def compiler_on_first_call() -> Iterator[None]:
    """Within, a function given to ``torch.compile`` is compiled when it is first called; a module at once, as ever.

    NeMo 3.0.0 compiles the attention of one encoder while it is imported, and PyTorch imports Inductor for it, called
    or not (``TORCH_COMPILE_DISABLE`` imports it as well). Options that PyTorch refuses are refused at the first call.
    Raises ImportError without PyTorch.
    """
    import torch

    real, within = torch.compile, True

    @wraps(real)
    def compile_later(model: Any = None, **options: Any) -> Any:
        if not within or isinstance(model, torch.nn.Module):
            return real(model, **options)
        return partial(compile_later, **options) if model is None else _compiled_when_called(real, model, options)

    torch.compile = compile_later
    try:
        yield
    finally:
        within = False  # Lightning, imported within, wraps what it finds: through its wrapper the real one is reached
        if torch.compile is compile_later:
            torch.compile = real


def _compiled_when_called(compiler: Compile, function: Callable[..., Any], options: dict[str, Any]) -> Any:
    compiled = cache(partial(compiler, function, **options))

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return compiled()(*args, **kwargs)

    return call
