"""PyTorch's compiler is not imported for what is never called, and compiles what is called."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from clinical_asr.late_compiler import compiler_on_first_call  # noqa: E402

pytestmark = pytest.mark.nemo


def double(number: int) -> int:
    """Twice."""
    return 2 * number


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Any, dict[str, Any]]]]:
    """What has reached the real compiler; it gives back a function that adds a thousand."""
    seen: list[tuple[Any, dict[str, Any]]] = []

    def real(model: Any = None, **options: Any) -> Any:
        seen.append((model, options))
        return lambda *args, **kwargs: 1000 + model(*args, **kwargs)

    monkeypatch.setattr(torch, "compile", real)
    yield seen


def test_a_function_is_compiled_once_when_it_is_first_called(compiled: list[Any]) -> None:
    with compiler_on_first_call():
        late = torch.compile(double, dynamic=True)
    assert compiled == [] and (late.__name__, late.__doc__) == ("double", "Twice.")
    assert [late(1), late(number=2)] == [1002, 1004] and compiled == [(double, {"dynamic": True})]


def test_it_decorates_with_and_without_options(compiled: list[Any]) -> None:
    with compiler_on_first_call():
        plain, mode = torch.compile(double), torch.compile(mode="reduce-overhead")
        inside = mode(double)
    outside = mode(double)  # given options within, a function afterwards: nothing is imported any more
    assert compiled == [(double, {"mode": "reduce-overhead"})]
    assert plain(1) == inside(1) == outside(1) == 1002
    assert compiled[1:] == [(double, {}), (double, {"mode": "reduce-overhead"})]


def test_it_is_called_within_as_well(compiled: list[Any]) -> None:
    with compiler_on_first_call():
        assert torch.compile(double)(1) == 1002


def test_a_module_goes_to_the_compiler_at_once(compiled: list[Any]) -> None:
    module = torch.nn.Identity()
    with compiler_on_first_call():
        torch.compile(module, fullgraph=True)
    assert compiled == [(module, {"fullgraph": True})]


def test_afterwards_the_real_one_is_back_even_after_a_fault(compiled: list[Any]) -> None:
    real = torch.compile
    with pytest.raises(ImportError), compiler_on_first_call():
        raise ImportError
    assert torch.compile is real


def test_whoever_wraps_it_meanwhile_reaches_the_real_one_afterwards(compiled: list[Any]) -> None:
    with compiler_on_first_call():
        found = torch.compile
        torch.compile = wrapper = lambda *args, **options: found(*args, **options)
    torch.compile(double)
    assert torch.compile is wrapper and compiled == [(double, {})]


IMPORT = """
import sys
from clinical_asr.nemo_file import import_nemo
import_nemo()
assert "nemo.collections.asr" in sys.modules
late = {"torch._inductor.compile_fx", "torch._inductor.lowering"} & set(sys.modules)
assert not late, f"the compiler was imported: {late}"
import torch
assert type(torch.compile(torch.nn.Identity(), backend="eager")).__name__ == "OptimizedModule"
"""

CALL = """
from nemo.collections.asr.modules import transformer_encoder as nemo
query = torch.randn(1, 2, 16, 8)
heard = nemo.flex_attention_compiled(query, query, query)
assert "torch._inductor.compile_fx" in sys.modules
assert torch.allclose(heard, nemo.flex_attention(query, query, query), atol=1e-5)
"""


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=300)
    return "" if done.returncode == 0 else done.stderr


def test_nemo_is_imported_without_the_compiler() -> None:
    pytest.importorskip("nemo")
    assert run_python(IMPORT) == ""


@pytest.mark.skipif(shutil.which("g++") is None, reason="PyTorch compiles for a CPU with a C++ compiler")
def test_what_nemo_compiles_is_compiled_when_it_is_called() -> None:
    pytest.importorskip("nemo")
    assert run_python(IMPORT + CALL) == ""


@pytest.mark.nemo
def test_nemo_searches_without_loops_inside_of_graphs() -> None:
    pytest.importorskip("nemo")
    code = (
        "from clinical_asr.nemo_file import import_nemo\n"
        "import_nemo()\n"
        "from nemo.collections.asr.parts.submodules.transducer_decoding import label_looping_base as base\n"
        "base.check_cuda_python_cuda_graphs_conditional_nodes_supported()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "loops in CUDA graphs are not used" in done.stderr
