"""The fused sweep decides as the plain one: in Triton's interpreter, and on the GPU where there is one."""

import importlib.util
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import compression
from compression import obs
from compression.obs import PlainColumns, pick_decider
from compression.pruners import NmPruner, Pruner, UnstructuredPruner
from tests.compression.fused_cases import CASES, check

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def interpreted() -> dict[str, str]:
    """What failed in the interpreter, by case."""
    command = [sys.executable, "-W", "error", "-m", "tests.compression.fused_cases"]
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)}
    found = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert found.returncode == 0, found.stderr
    failures: dict[str, str] = json.loads(found.stdout)
    return failures


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_interpreted_kernel_decides_as_torch_operations_do(interpreted: dict[str, str], name: str) -> None:
    assert not interpreted[name], interpreted[name]


@needs_triton
@needs_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
def test_kernel_decides_as_torch_operations_do(name: str) -> None:
    check(CASES[name], "cuda")


@needs_triton
@needs_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("name", ["stacked matrices", "2:4", "searched grids", "static groups", "joint"])
def test_nothing_in_a_block_waits_for_the_host(name: str) -> None:
    from compression.fused_columns import FusedColumns

    case = CASES[name]
    check(case, "cuda")  # compiles, which may wait
    W_RC, U_CC = case.problem("cuda")
    W_CR, pruner, rounder = W_RC.T.contiguous(), case.pruner(U_CC), case.rounder(W_RC)
    columns = FusedColumns(W_CR, pruner, rounder, case.columns)
    rules = [rule for rule in (pruner, rounder) if rule is not None]
    torch.cuda.set_sync_debug_mode("error")
    try:
        for rule in rules:
            rule.enter_block(W_CR, 0, case.columns)
        columns.decide(U_CC / U_CC.diagonal()[:, None], 0, case.columns)
        for rule in rules:
            rule.leave_block()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@needs_triton
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(("prunes", "rounds"), [("mask", ""), ("n:m", "zero_point"), ("", "minimum")])
def test_kernel_compiles_without_a_gpu_and_divides_as_torch_does(
    capability: int, prunes: str, rounds: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    ptx = compiled(capability, prunes, rounds)
    assert "fma.rn" not in ptx, "a contraction rounds once where torch rounds twice"
    assert "div.full" not in ptx and "div.approx" not in ptx


def compiled(capability: int, prunes: str, rounds: str) -> str:
    import triton
    from triton.backends.compiler import GPUTarget

    from compression.fused_leaf import LEAF, OPTIONS, TILE, decide_leaf

    types = {"_S": "*fp32", "_SR": "*fp32", "_SS": "*fp32", "_GR": "*fp32"}
    constants = {"PRUNES": prunes, "ROUNDS": rounds, "S": LEAF, "T": TILE}
    signature = {
        name: "constexpr" if name in constants else types.get(name[name.rfind("_") :], "i32") for name in decide_leaf.arg_names
    }
    source = triton.compiler.ASTSource(decide_leaf, signature | {"group_S": "*i32"}, constants)
    ptx: str = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=OPTIONS).asm["ptx"]
    return ptx


@needs_gpu
@pytest.mark.gpu
def test_a_gpu_takes_the_kernel_for_rules_that_it_knows() -> None:
    U_CC = torch.eye(64, device="cuda")
    assert pick_decider(U_CC, NmPruner(U_CC, 2, 4), None) is not PlainColumns
    assert pick_decider(U_CC, NmPruner(U_CC, 32, 64), None) is PlainColumns
    assert pick_decider(U_CC.double(), NmPruner(U_CC, 2, 4), None) is PlainColumns


def test_a_processor_takes_torch_operations() -> None:
    U_CC = torch.eye(4)
    assert pick_decider(U_CC, UnstructuredPruner(U_CC, 0.5), None) is PlainColumns


class Unknown(NmPruner):
    """A pruner that the kernel has never heard of."""


@needs_triton
def test_kernel_leaves_rules_that_it_does_not_know_to_torch_operations() -> None:
    from compression.fused_columns import can_decide

    U_CC = torch.eye(64)
    rules: list[Pruner] = [NmPruner(U_CC, 32, 64), Unknown(U_CC, 2, 4)]
    assert not any(can_decide(rule, None) for rule in rules)


@pytest.mark.parametrize("is_missing", [True, False], ids=["triton is missing", "triton cannot launch"])
def test_where_the_kernel_fails_that_is_said_once(
    is_missing: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if is_missing:
        monkeypatch.setitem(sys.modules, "triton", None)
        for name in ("fused_columns", "fused_leaf"):
            monkeypatch.delitem(sys.modules, f"compression.{name}", raising=False)
            monkeypatch.delattr(compression, name, raising=False)
    obs.has_kernel.cache_clear()
    with caplog.at_level(logging.WARNING, "compression.obs"):
        assert not any(obs.has_kernel(torch.device("cpu")) for _ in range(2))  # a processor: no launch succeeds
    (record,) = caplog.records
    assert not is_missing or "import of triton" in record.getMessage()
