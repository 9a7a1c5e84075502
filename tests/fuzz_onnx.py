"""Mutated .onnx files, most of them valid protobuf with wrong content: read or refused, in time and memory.

python -m tests.fuzz_onnx --count 10000 --seed 1
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, helper

import compactir.frontends.onnx.operators  # noqa: F401  # fills the table
from compactir.diagnostics import CompactError
from compactir.frontends.onnx import read
from compactir.frontends.onnx.reader import OPERATORS, OPSETS
from tests.onnx_models import array, model

MOST_BYTES = 4 << 30
SLOWEST = 10.0
INTS = [0, 1, -1, 2, 3, -2, 7, 8, 64, 1000, 2**31 - 1, -(2**31), 2**40, 2**62, -(2**63)]
FLOATS = [0.0, -1.0, float("nan"), float("inf"), 1e30]
WORDS = ["SAME_UPPER", "", "linear", "\xff", "reflect", "cubic", "DCR"]
NAMES = [
    "axis",
    "axes",
    "pads",
    "strides",
    "dilations",
    "group",
    "kernel_shape",
    "perm",
    "shape",
    "split",
    "to",
    "mode",
    "blocksize",
    "size",
    "keepdims",
    "auto_pad",
    "ceil_mode",
    "output_shape",
    "epsilon",
    "direction",
]
SEEDS = [
    model(f"g (float[1,6,8,8] x) => (float[] y) {{ {text} }}", opset, **constants).SerializeToString()
    for text, opset, constants in (
        ("a = Conv <pads=[1,1,1,1]> (x, w) y = Relu (a)", 11, {"w": array(4, 6, 3, 3)}),
        ("y = ConvTranspose <strides=[2,2]> (x, w)", 11, {"w": array(6, 2, 3, 3)}),
        ("y = MaxPool <kernel_shape=[2,2], dilations=[2,2]> (x)", 12, {}),
        ("y = AveragePool <kernel_shape=[3,3], pads=[1,1,1,1], ceil_mode=1> (x)", 11, {}),
        (
            "s = Shape (x) r = Slice (s, o, l) y = Reshape (x, r)",
            13,
            {"o": np.array([0]), "l": np.array([4])},
        ),
        ('y = Resize <mode="linear"> (x, , s)', 13, {"s": np.array([1, 1, 2, 2], np.float32)}),
        ("a, b = Split <axis=1> (x) y = Concat <axis=1> (b, a)", 11, {}),
        ('y = Pad <mode="reflect"> (x, p)', 13, {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1])}),
        ("y = Tile (x, r)", 13, {"r": np.array([1, 1, 2, 2])}),
        ("y = ScatterND (x, i, u)", 16, {"i": np.array([[0, 1]]), "u": array(1, 8, 8)}),
        ("y = Gather <axis=1> (x, i)", 13, {"i": np.array([5, 0, 3])}),
        ("f = Flatten (x) y = Gemm (f, w, b)", 11, {"w": array(384, 4), "b": array(4)}),
        (
            "r = Reshape (x, a) t = Transpose <perm=[0,2,1,3,4]> (r) y = Reshape (t, b)",
            13,
            {"a": np.array([1, 2, 3, 8, 8]), "b": np.array([0, -1, 8, 8])},
        ),
        ("y = BatchNormalization (x, g, g, g, g)", 9, {"g": np.abs(array(6)) + 1}),
        ("y = Expand (x, s)", 13, {"s": np.array([2, 6, 8, 8])}),
        ("m = ReduceMean <axes=[2,3]> (x) s = Sigmoid (m) y = Mul (x, s)", 13, {}),
    )
]


def mutated(r: random.Random) -> bytes:
    """One of the seeds with a few changes; one in eight has wrong bytes instead."""
    seed = r.choice(SEEDS)
    if r.randrange(8) == 0:
        spoiled = bytearray(seed)
        for _ in range(r.randrange(1, 4)):
            spoiled[r.randrange(len(spoiled))] = r.randrange(256)
        return bytes(spoiled[: r.choice([len(spoiled), r.randrange(len(spoiled))])])
    proto = onnx.ModelProto.FromString(seed)
    for _ in range(r.choice([1, 1, 2, 3])):
        r.choice([_node, _node, _attribute, _attribute, _constant, _constant, _frame])(proto, r)
    content: bytes = proto.SerializeToString()
    return content


def _node(proto: Any, r: random.Random) -> None:
    graph = proto.graph
    node = r.choice(graph.node)
    names = [n for it in graph.node for n in (*it.input, *it.output)] + [i.name for i in graph.initializer]
    what = r.randrange(4)
    if what == 0:
        node.op_type = r.choice(sorted(OPERATORS))
    elif what == 1 and node.input:
        node.input[r.randrange(len(node.input))] = r.choice(names)
    elif what == 2:
        node.input.append(r.choice([*names, ""]))
    else:
        node.output.append(f"extra{r.randrange(3)}")


def _attribute(proto: Any, r: random.Random) -> None:
    node = r.choice(proto.graph.node)
    if not node.attribute or r.randrange(2):
        many = [r.choice(INTS) for _ in range(r.randrange(1, 5))]
        value = r.choice([r.choice(INTS), many, r.choice(WORDS[:3]), r.choice(FLOATS)])
        node.attribute.append(helper.make_attribute(r.choice(NAMES), value))
        return
    it = r.choice(node.attribute)
    if it.ints:
        it.ints[r.randrange(len(it.ints))] = r.choice(INTS)
    elif it.type == AttributeProto.INT:
        it.i = r.choice(INTS)
    elif it.type == AttributeProto.FLOAT:
        it.f = r.choice(FLOATS)
    elif it.type == AttributeProto.STRING:
        it.s = r.choice(WORDS).encode("latin-1")


def _constant(proto: Any, r: random.Random) -> None:
    if not proto.graph.initializer:
        return
    tensor = r.choice(proto.graph.initializer)
    what = r.randrange(4)
    if what == 0 and tensor.dims:
        tensor.dims[r.randrange(len(tensor.dims))] = r.choice([0, 1, 2, 3, 9, 27, 2**20, 2**40, -1])
    elif what == 1:
        tensor.data_type = r.randrange(25)
    elif what == 2 and tensor.raw_data:
        tensor.raw_data = tensor.raw_data[: r.randrange(len(tensor.raw_data))]
    elif tensor.data_type == onnx.TensorProto.INT64 and tensor.raw_data and len(tensor.raw_data) % 8 == 0:
        numbers = np.frombuffer(tensor.raw_data, np.int64).copy()
        numbers[r.randrange(len(numbers))] = r.choice(INTS)
        tensor.raw_data = numbers.tobytes()


def _frame(proto: Any, r: random.Random) -> None:
    if r.randrange(2):
        proto.opset_import[0].version = r.choice(OPSETS)
    else:
        extents = proto.graph.input[0].type.tensor_type.shape.dim
        extents[r.randrange(4)].dim_value = r.choice([0, 1, 2, 3, 5, 2**10, 2**31, 2**62])


def judge(folder: Path, content: bytes) -> str:
    """The word read, or the code of the refusal. Raises AssertionError where reading takes too long."""
    path = folder / "mutated.onnx"
    path.write_bytes(content)
    start = time.process_time()
    try:
        read(path)
        word = "read"
    except CompactError as error:
        word = error.code
    assert time.process_time() - start < SLOWEST
    return word


def run(count: int, seed: int, folder: Path) -> Counter[str]:
    """How so many mutated files ended; whatever else is raised comes through."""
    r = random.Random(seed)
    with np.errstate(all="ignore"):
        return Counter(judge(folder, mutated(r)) for _ in range(count))


def main() -> int:
    """Run, with a limit on memory."""
    parser = argparse.ArgumentParser(description="mutated .onnx files")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    with tempfile.TemporaryDirectory() as folder:
        counts = run(args.count, args.seed, Path(folder))
        left = [p.name for p in Path(folder).iterdir()]
    assert left == ["mutated.onnx"], f"files were written: {left}"
    past = counts.total() - counts["CIR630"]
    assert past >= 0.3 * counts.total(), "too few are past the reader of the container"
    print(f"{counts.total()} files: {dict(sorted(counts.items()))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
