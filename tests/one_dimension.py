"""One-dimensional ONNX networks: three as people train them, and random ones.

Weights keep the variance from layer to layer, so that an error anywhere shows at the end.

python -m tests.one_dimension --count 500 --seed 1       compares so many random ones with ONNX Runtime
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from compactir import reference
from compactir.codegen.onnx import export_onnx
from compactir.diagnostics import CompactError
from compactir.driver import Source, plan, read
from compactir.frontends.onnx.model import check_model
from compactir.frontends.onnx.reader import imported, read_model
from compactir.ir.graph import Graph
from compactir.ir.types import Array
from compactir.lang.write import write_arch
from compactir.targets import load_target
from tests.onnx_models import in_runtime

TOLERANCE = 1e-4
"""Of the largest element: the house's."""


class Net:
    """An ONNX model under construction. A value is its name; `shapes` has what is known of it."""

    def __init__(self, seed: int, *shape: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.shapes = {"x": shape}

    def constant(self, array: Any, name: str = "") -> str:
        """A constant; float64 becomes float32."""
        made = np.asarray(array)
        made = made.astype(np.float32) if made.dtype == np.float64 else made
        name = name or f"k{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(made, name))
        return name

    def add(self, op: str, *operands: str, shape: Sequence[int], outputs: int = 0, **attributes: Any) -> str:
        """A node with one result of this shape; with `outputs` several of it, named with _0, _1 and so on."""
        name = f"n{len(self.nodes)}"
        names = [f"{name}_{i}" for i in range(outputs)] or [name]
        self.nodes.append(helper.make_node(op, operands, names, name=name, **attributes))
        self.shapes.update(dict.fromkeys(names, tuple(shape)))
        return name

    def conv(
        self, x: str, out: int, k: int, stride: int = 1, group: int = 1, bias: bool = True, **attributes: Any
    ) -> str:
        """A convolution with seeded weights; by default padded to keep the length at stride 1."""
        n, c, length = self.shapes[x]
        name = f"conv{len(self.nodes)}"
        scale = np.sqrt(2 / (c // group * k))
        weight = self.constant(scale * self.rng.standard_normal((out, c // group, k)), f"{name}.weight")
        biases = [self.constant(0.1 * self.rng.standard_normal(out), f"{name}.bias")] if bias else []
        dilation = attributes.get("dilations", [1])[0]
        if "auto_pad" not in attributes:
            around = dilation * (k - 1)
            attributes.setdefault("pads", [around // 2, around - around // 2])
        end = extent(length, k, stride, dilation, attributes)
        more = {"strides": [stride], "group": group, "kernel_shape": [k], **attributes}
        return self.add("Conv", x, weight, *biases, shape=(n, out, end), **more)

    def bn(self, x: str) -> str:
        """Batch normalisation with seeded statistics."""
        c = self.shapes[x][1]
        scale, variance = (self.rng.uniform(0.5, 1.5, c) for _ in range(2))
        shift, mean = (0.1 * self.rng.standard_normal(c) for _ in range(2))
        constants = [self.constant(a) for a in (scale, shift, mean, variance)]
        return self.add("BatchNormalization", x, *constants, shape=self.shapes[x])

    def same(self, op: str, x: str, *more: str, **attributes: Any) -> str:
        """A node whose result has the shape of its first operand."""
        return self.add(op, x, *more, shape=self.shapes[x], **attributes)

    def relu6(self, x: str) -> str:
        """Clip to 0 and 6."""
        return self.same("Clip", x, self.constant(np.float32(0)), self.constant(np.float32(6)))

    def pool(self, op: str, x: str, k: int, stride: int, **attributes: Any) -> str:
        """A pool; its own padding is nothing."""
        n, c, length = self.shapes[x]
        end = extent(length, k, stride, 1, attributes)
        return self.add(op, x, shape=(n, c, end), kernel_shape=[k], strides=[stride], **attributes)

    def shuffle(self, x: str, groups: int) -> str:
        """Reshape, transpose, reshape."""
        n, c, length = self.shapes[x]
        x = self.reshape(x, n, groups, c // groups, length)
        x = self.add("Transpose", x, shape=(n, c // groups, groups, length), perm=[0, 2, 1, 3])
        return self.reshape(x, n, c, length)

    def reshape(self, x: str, *shape: int) -> str:
        """A reshape by a constant."""
        return self.add("Reshape", x, self.constant(np.array(shape, np.int64)), shape=shape)

    def linear(self, x: str, out: int) -> str:
        """Gemm with seeded weights."""
        n, features = self.shapes[x]
        weight = self.constant(self.rng.standard_normal((out, features)) * np.sqrt(2 / features))
        bias = self.constant(0.1 * self.rng.standard_normal(out))
        return self.add("Gemm", x, weight, bias, shape=(n, out), transB=1)

    def gate(self, x: str, by_gemm: bool) -> str:
        """Squeeze and excitation, by convolutions of one element or by linear layers."""
        n, c, _ = self.shapes[x]
        narrow = max(c // 4, 1)
        if by_gemm:
            axes = self.constant(np.array([2], np.int64))
            y = self.add("ReduceMean", x, axes, shape=(n, c), keepdims=0)
            y = self.same("Sigmoid", self.linear(self.same("Relu", self.linear(y, narrow)), c))
            y = self.add("Unsqueeze", y, axes, shape=(n, c, 1))
        else:
            y = self.add("GlobalAveragePool", x, shape=(n, c, 1))
            y = self.conv(self.same("Relu", self.conv(y, narrow, 1)), c, 1)
            y = self.same("HardSigmoid", y, alpha=1 / 6)
        return self.same("Mul", x, y)

    def model(self, *outputs: str, opset: int = 18) -> onnx.ModelProto:
        """The model that returns these values."""
        info = [helper.make_tensor_value_info(o, TensorProto.FLOAT, self.shapes[o]) for o in outputs]
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shapes["x"])
        graph = helper.make_graph(self.nodes, "net", [x], info, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def extent(length: int, k: int, stride: int, dilation: int, attributes: dict[str, Any]) -> int:
    """How long a window's result is."""
    auto = attributes.get("auto_pad", "NOTSET")
    if auto.startswith("SAME"):
        return -(-length // stride)
    before, after = (0, 0) if auto == "VALID" else attributes.get("pads", [0, 0])
    room = length + before + after - dilation * (k - 1) - 1
    return (-(-room // stride) if attributes.get("ceil_mode") else room // stride) + 1


# -- networks as people train them ---------------------------------------------------------------------------


def keywords(length: int = 101) -> onnx.ModelProto:
    """Key words in 40 bands of sound: a residual network of depthwise separable convolutions."""
    net = Net(1, 1, 40, length)
    x = net.same("Relu", net.bn(net.conv("x", 24, 9, stride=2, bias=False)))
    for width, stride in ((24, 1), (24, 1), (40, 2), (40, 1)):
        y = net.relu6(net.bn(net.conv(x, net.shapes[x][1], 9, stride, net.shapes[x][1], bias=False)))
        y = net.bn(net.conv(y, width, 1, bias=False))
        x = net.same("Relu", net.same("Add", y, x) if net.shapes[x] == net.shapes[y] else y)
    x = net.add("GlobalAveragePool", x, shape=(1, 40, 1))
    return net.model(net.linear(net.add("Flatten", x, shape=(1, 40)), 12))


def shuffled(length: int = 53) -> onnx.ModelProto:
    """Units of ShuffleNet, grouped with a shuffle, then split with one, and a gate; it returns a sequence."""
    net = Net(2, 1, 12, length)
    x = net.same("Relu", net.conv("x", 24, 3))
    y = net.shuffle(net.same("Relu", net.bn(net.conv(x, 24, 1, group=3))), 3)
    y = net.bn(net.conv(net.bn(net.conv(y, 24, 3, group=24)), 24, 1, group=3))
    x = net.same("Relu", net.same("Add", x, y))
    n, c, length = net.shapes[x]
    halves = net.add("Split", x, shape=(n, c // 2, length), outputs=2, axis=1, num_outputs=2)
    y = net.same("Relu", net.bn(net.conv(f"{halves}_1", 12, 1)))
    y = net.bn(net.conv(y, 12, 3, group=12))
    y = net.add("Concat", f"{halves}_0", net.same("Relu", net.conv(y, 12, 1)), shape=(n, c, length), axis=-2)
    return net.model(net.gate(net.shuffle(y, 2), by_gemm=False))


def lenet(length: int = 187) -> onnx.ModelProto:
    """A heart's beats: convolutions, pools, linear layers."""
    net = Net(3, 1, 1, length)
    x = net.pool("MaxPool", net.same("Tanh", net.conv("x", 6, 5, pads=[2, 2])), 2, 2)
    x = net.pool("AveragePool", net.same("Relu", net.conv(x, 16, 5, pads=[0, 0])), 3, 2, ceil_mode=1)
    x = net.add("Flatten", x, shape=(1, prod(net.shapes[x])))
    return net.model(net.linear(net.same("Relu", net.linear(net.same("Relu", net.linear(x, 60)), 32)), 5))


NETWORKS: dict[str, Callable[..., onnx.ModelProto]] = {
    "keywords": keywords,
    "shuffled": shuffled,
    "lenet": lenet,
}


# -- random ones ---------------------------------------------------------------------------------------------

Step = Callable[[Net, str], str]


def _conv(net: Net, x: str) -> str:
    rng, (_, c, length) = net.rng, net.shapes[x]
    k, dilation = int(rng.integers(1, 6)), int(rng.integers(1, 3))
    group = int(rng.choice([g for g in range(1, c + 1) if c % g == 0]))
    out = group * int(rng.integers(1, max(24 // group, 1) + 1))
    more: dict[str, Any] = {"dilations": [dilation]}
    if rng.random() < 0.3:
        more = {"auto_pad": str(rng.choice(["SAME_UPPER", "SAME_LOWER"]))}
    else:
        pads = [int(p) for p in rng.integers(0, 4, 2)]
        reach = dilation * (k - 1) + 1
        more["pads"] = [pads[0], max(pads[1], reach - length - pads[0])]
    return net.conv(x, out, k, int(rng.integers(1, 4)), group, bool(rng.random() < 0.5), **more)


def _depthwise(net: Net, x: str) -> str:
    c = net.shapes[x][1]
    times = int(net.rng.choice([1, 1, 1, 2]))
    return net.conv(x, c * times, int(net.rng.choice([1, 3, 4, 7])), int(net.rng.integers(1, 3)), c)


def _pool(net: Net, x: str) -> str:
    rng, length = net.rng, net.shapes[x][2]
    op = str(rng.choice(["MaxPool", "AveragePool"]))
    k = int(rng.integers(1, min(5, length) + 1))
    more: dict[str, Any] = {"pads": [int(p) for p in rng.integers(0, k, 2)]}
    stride = int(rng.integers(1, 4))
    if rng.random() < 0.2:
        more, stride = {"auto_pad": "SAME_UPPER"}, min(stride, k)
    elif (extent(length, k, stride, 1, more | {"ceil_mode": 1}) - 1) * stride < length + more["pads"][0]:
        more["ceil_mode"] = int(rng.integers(0, 2))  # no window lies in the padding: versions differ there
    if op == "AveragePool" and not more.get("ceil_mode"):
        more["count_include_pad"] = int(rng.integers(0, 2))
    return net.pool(op, x, k, stride, **more)


def _function(net: Net, x: str) -> str:
    names = ["Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSwish", "Elu", "relu6", "swish", "PRelu"]
    name = str(net.rng.choice(names))
    if name == "relu6":
        return net.relu6(x)
    if name == "swish":
        return net.same("Mul", x, net.same("Sigmoid", x))
    if name == "PRelu":
        return net.same(name, x, net.constant(net.rng.uniform(0, 0.5, (net.shapes[x][1], 1))))
    return net.same(name, x)


def _residual(net: Net, x: str) -> str:
    y = net.bn(net.conv(x, net.shapes[x][1], 3))
    return net.same(str(net.rng.choice(["Add", "Sub", "Mul"])), *net.rng.permutation([x, y]).tolist())


def _constant(net: Net, x: str) -> str:
    c = net.shapes[x][1]
    shape = [(c, 1), (1, c, 1), (1,), (), (1, 1, 1)][int(net.rng.integers(5))]
    array = net.constant(net.rng.uniform(0.5, 1.5, shape))
    return net.same(str(net.rng.choice(["Add", "Sub", "Mul", "Div"])), x, array)


def _shuffle(net: Net, x: str) -> str:
    c = net.shapes[x][1]
    return net.shuffle(x, int(net.rng.choice([g for g in range(1, c + 1) if c % g == 0])))


def _branches(net: Net, x: str) -> str:
    n, _, length = net.shapes[x]
    a = net.conv(x, int(net.rng.integers(1, 9)), 3)
    b = net.same("Relu", net.conv(x, int(net.rng.integers(1, 9)), 1))
    parts = [a, b, x] if net.rng.random() < 0.5 else [b, a]
    total = sum(net.shapes[p][1] for p in parts)
    return net.add("Concat", *parts, shape=(n, total, length), axis=int(net.rng.choice([1, -2])))


def _part(net: Net, x: str) -> str:
    """Some of the channels."""
    n, c, length = net.shapes[x]
    first = int(net.rng.integers(0, c))
    last = int(net.rng.integers(first + 1, c + 1))
    ends = [net.constant(np.array([v], np.int64)) for v in (first, last, 1)]
    return net.add("Slice", x, *ends, shape=(n, last - first, length))


def _padded(net: Net, x: str) -> str:
    """Padding of its own in front of a convolution."""
    n, c, length = net.shapes[x]
    before, after = (int(p) for p in net.rng.integers(0, 4, 2))
    pads = net.constant(np.array([0, 0, before, 0, 0, after], np.int64))
    y = net.add("Pad", x, pads, shape=(n, c, length + before + after))
    return net.conv(y, int(net.rng.integers(1, 13)), min(3, length), pads=[0, 0])


def _twice(net: Net, x: str) -> str:
    """Every element twice."""
    n, c, length = net.shapes[x]
    scales = net.constant(np.array([1, 1, 2], np.float32))
    more: dict[str, Any] = {
        "mode": "nearest",
        "nearest_mode": "floor",
        "coordinate_transformation_mode": "asymmetric",
    }
    return net.add("Resize", x, "", scales, shape=(n, c, 2 * length), **more)


def _across(net: Net, x: str) -> str:
    return net.same("Softmax", x, axis=int(net.rng.choice([1, -2])))


def _squeezed(net: Net, x: str) -> str:
    """As (N, C, 1, L) for a while."""
    n, c, length = net.shapes[x]
    axes = net.constant(np.array([2], np.int64))
    y = net.same("LRN", net.add("Unsqueeze", x, axes, shape=(n, c, 1, length)), size=3, alpha=0.01)
    return net.add("Squeeze", y, axes, shape=(n, c, length))


STEPS: list[Step] = [
    *(_conv, _conv, _depthwise, _pool, _function, _function, _residual, _constant, _shuffle, _branches),
    *(_part, _padded, _twice, _across, _squeezed),
    *(Net.bn, lambda net, x: net.gate(x, bool(net.rng.random() < 0.5))),
]
"""What C has kernels for."""


def _turned(net: Net, x: str) -> str:
    n, c, length = net.shapes[x]
    return net.add("Transpose", x, shape=(n, length, c), perm=[0, 2, 1])


def _longer(net: Net, x: str) -> str:
    n, c, length = net.shapes[x]
    return net.add("Concat", x, net.same("Relu", x), shape=(n, c, 2 * length), axis=2)


def _shorter(net: Net, x: str) -> str:
    n, c, length = net.shapes[x]
    ends = [net.constant(np.array([v], np.int64)) for v in (0, length, -1, 2)]
    return net.add("Slice", x, *ends, shape=(n, c, -(-length // 2)))


def _transposed(net: Net, x: str) -> str:
    n, c, length = net.shapes[x]
    out, k, stride = int(net.rng.integers(1, 9)), int(net.rng.integers(1, 5)), int(net.rng.integers(1, 4))
    weight = net.constant(net.rng.standard_normal((c, out, k)) * np.sqrt(1 / c))
    end = stride * (length - 1) + k
    return net.add("ConvTranspose", x, weight, shape=(n, out, end), strides=[stride], kernel_shape=[k])


def _matrix(net: Net, x: str) -> str:
    n, c, length = net.shapes[x]
    out = int(net.rng.integers(1, 9))
    weight = net.constant(net.rng.standard_normal((length, out)) * np.sqrt(1 / length))
    return net.add("MatMul", x, weight, shape=(n, c, out))


def _along(net: Net, x: str) -> str:
    choice = int(net.rng.integers(4))
    if choice == 0:
        return net.same("Softmax", x, axis=-1)
    if choice == 1:
        c = net.shapes[x][1]
        pair = [net.constant(net.rng.uniform(0.5, 1.5, c)) for _ in range(2)]
        return net.same("InstanceNormalization", x, *pair)
    if choice == 2:
        return net.same("Mul", x, net.constant(net.rng.uniform(0.5, 1.5, net.shapes[x][2])))
    shape, axis = list(net.shapes[x]), int(net.rng.choice([1, 2, -1]))
    shape[axis] = 1
    largest = net.add("ReduceMax", x, net.constant(np.array([axis], np.int64)), shape=shape)
    return net.same("Sub", x, largest)


OTHERS: list[Step] = [_turned, _longer, _shorter, _transposed, _matrix, _along]
"""What only the reference, PyTorch and ONNX have, alone or in some cases."""


def drawn(seed: int, others: bool = False) -> onnx.ModelProto:
    """A small random network; with `others` also of what C has no kernels for."""
    net = Net(seed, int(seed % 5 == 0) + 1, 1, 1)
    rng = net.rng
    length = int(rng.choice([1, 2, 3, 5, 7, 8, 13, 16, 31]))
    net.shapes["x"] = (net.shapes["x"][0], int(rng.choice([1, 2, 3, 4, 6, 8, 16, 17])), length)
    x, values = "x", [0]
    if seed % 7 == 3:  # a vector of samples
        n, c, _ = net.shapes["x"]
        net.shapes["x"] = (n, c * length)
        x = net.reshape("x", n, c, length)
    for _ in range(int(rng.integers(1, 8))):
        steps = STEPS + (2 * OTHERS if others else [])
        x = steps[int(rng.integers(len(steps)))](net, x)
        values.append(prod(net.shapes[x]))
        if values[-1] > 4000:
            break
    if x == "x":
        x = net.same("Relu", x)
    ends = [x, _ended(net, x)]
    return net.model(*dict.fromkeys([ends[1]] if rng.random() < 0.7 else ends))


def _ended(net: Net, x: str) -> str:
    """A head, or none."""
    n, c, length = net.shapes[x]
    choice = int(net.rng.integers(6))
    if choice == 0:
        return x
    if choice == 1:
        y = net.add("GlobalMaxPool", x, shape=(n, c, 1))
        return net.linear(net.add("Squeeze", y, net.constant(np.array([2], np.int64)), shape=(n, c)), 5)
    if choice == 2:
        return net.linear(net.add("Flatten", x, shape=(n, c * length)), 7)
    if choice == 3:
        axes = net.constant(np.array([-1], np.int64))
        return net.add("ReduceMean", x, axes, shape=(n, c, 1))
    if choice == 4:
        return net.reshape(x, n, c * length)
    return net.add("GlobalAveragePool", x, shape=(n, c, 1))


# -- comparing -----------------------------------------------------------------------------------------------


def read_back(model: onnx.ModelProto) -> Graph:
    """A model in memory as a graph."""
    return imported(read_model(check_model(model), "model.onnx"))


def apart(ours: Sequence[Array], theirs: Sequence[Array]) -> float:
    """The largest difference relative to the largest element; infinite where shapes differ."""
    if [a.shape for a in ours] != [b.shape for b in theirs]:
        return np.inf
    pairs = zip(ours, theirs, strict=True)
    return max(float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30)) for a, b in pairs)


def check(model: onnx.ModelProto) -> tuple[Graph, str]:
    """A model read, and what is wrong with the reference, the export or the file: nothing is ""."""
    graph = read_back(model)
    inputs = reference.random_inputs(graph)
    theirs = in_runtime(model, inputs)
    ours = list(reference.run(graph, inputs).values())
    if (worst := apart(ours, theirs)) > TOLERANCE:
        return graph, f"reference: {worst:.1e} from ONNX Runtime"
    if (worst := apart(in_runtime(export_onnx(graph), inputs), ours)) > TOLERANCE:
        return graph, f"export: {worst:.1e} from the reference"
    try:
        written = write_arch(graph)
    except CompactError as error:
        return graph, "" if error.code == "CIR680" else str(error)
    written.graph.weights = written.weights
    given = dict(zip([v.name for v in written.graph.inputs], inputs.values(), strict=True))
    if (worst := apart(list(reference.run(written.graph, given).values()), ours)) > TOLERANCE:
        return graph, f"file: {worst:.1e} from the reference"
    return graph, ""


def main() -> int:
    """Compare random networks; 1 where any disagrees."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--others", action="store_true", help="also what C has no kernels for")
    args = parser.parse_args()
    counts: Counter[str] = Counter()
    for seed in range(args.seed, args.seed + args.count):
        try:
            graph, wrong = check(drawn(seed, args.others))
            plan(read(Source(graph), warn=False), load_target("c"))
            counts["planned for C"] += 1
        except CompactError as error:
            counts[error.code] += 1
            if not args.others:
                wrong = str(error)
        counts["wrong" if wrong else "right"] += 1
        if wrong:
            print(f"seed {seed}: {wrong}")
    print(", ".join(f"{many} {what}" for what, many in sorted(counts.items())))
    return int(bool(counts["wrong"]))


if __name__ == "__main__":
    sys.exit(main())
