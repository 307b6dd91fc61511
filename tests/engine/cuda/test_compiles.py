"""Every kernel compiles for a Hopper GPU, in every form that a family or a dtype gives it; no GPU is needed for that.

In a process of its own: the kernels of this one are interpreted.
"""

from __future__ import annotations

import pytest

from tests.engine.cuda.aside import Ended, run

triton = pytest.importorskip("triton", reason="Triton has wheels for Linux on x86-64 and Arm alone")

PROGRAM = """
import sys
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from strata.app.engine.backends.cuda import kernels as k
from strata.app.engine.backends.cuda.ops import attention_blocks, pool_lines
from strata.loadtest.gpu.product_gelu import product_gelu

dtype = sys.argv[1]
KINDS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
INTEGERS = ("ids", "sources", "row_starts", "starts", "ends", "facts", "order")
FLOATS = ("position", "queries", "head_bias", "by_distance", "cos", "sin")
NUMBERS = {"rows": "i32", "tokens": "i32", "layers": "i32", "eps": "fp32", "scale": "fp32"}

def kind(name):
    return NUMBERS.get(name) or ("*i32" if name in INTEGERS else "*fp32" if name in FLOATS else "*" + dtype)

def compile(kernel, warps, **constants):
    names = kernel.arg_names
    signature = {n: "constexpr" if n in constants else kind(n) for n in names}
    places = {(names.index(n),): value for n, value in constants.items()}
    aligned = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(names) if signature[n].startswith("*")}
    made = triton.compile(
        ASTSource(kernel, signature, places, aligned), GPUTarget("cuda", 90, 32), {"num_warps": warps}
    )
    assert made.asm["cubin"]
    assert made.metadata.shared < 100 << 10, "fits the shared memory of every GPU since the A100"
    text = made.asm["ptx"]
    print(kernel.__name__, constants, made.metadata.shared, text.count("wgmma.mma"), text.count("mma.sync"))

size = dict(SIZE=384, WIDE=512)
if dtype != "fp16":  # in which only what multiplies matrices differs from bf16
    for positions in (True, False):
        compile(k.embed, 2, **size, POSITIONS=positions)
    compile(k.add_norm, 2, **size, LINES=4, HAS_BIAS=True, KEEP=False)
    compile(k.add_norm, 2, **size, LINES=4, HAS_BIAS=False, KEEP=True)
    for queries, first in ((True, False), (False, False), (False, True)):
        lines = pool_lines(384, KINDS[dtype], mean=not queries)
        compile(k.pool, 2, **size, COUNT=3 if queries else 1, QUERIES=queries, FIRST=first, LINES=lines)
    for bias in (True, False):
        compile(k.finish, 2, **size, HAS_BIAS=bias)
for head, extra in (
    (32, dict(HALF=0, HALF_WIDE=16, REACH=0, WINDOW=0)),
    (64, dict(HALF=0, HALF_WIDE=16, REACH=511, WINDOW=0)),
    (64, dict(HALF=32, HALF_WIDE=32, REACH=0, WINDOW=64)),
    (128, dict(HALF=0, HALF_WIDE=16, REACH=0, WINDOW=0)),
):
    (queries, keys), warps = attention_blocks(head, KINDS[dtype])
    extra |= dict(QUERIES=queries, KEYS=keys, PRECISION="ieee" if dtype == "fp32" else "tf32")
    compile(k.attention, warps, HEADS=12, HEAD=head, WIDE=head, **extra)
if dtype != "fp32":
    compile(k.attend, 4, **size, COUNT=3, QUERIES=16, LINES=16)
    compile(product_gelu, 8, OUT=1536, IN=384, ROWS=128, COLUMNS=128, DEEP=64)
"""


DTYPES = ("bf16", "fp16", "fp32")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """By dtype, in a process of its own."""
    return run(PROGRAM, {dtype: (dtype,) for dtype in DTYPES}, tmp_path_factory.mktemp("triton"))


@pytest.mark.parametrize("dtype", DTYPES)
def test_kernels_compile_for_a_gpu(dtype: str, compiled: dict[str, Ended]) -> None:
    assert compiled[dtype].status == 0, compiled[dtype].told
