"""PyTorch in: a module through `torch.export`, ATen operation by operation, raised to layers.

    graph = compactir.from_torch(module, torch.zeros(1, 3, 224, 224))
    network = compactir.compile(graph)

`torch.export` runs the module once on the example and records what it did: shapes, loops and conditions are
fixed by then. Here every recorded operation becomes one of ours; what depends on constants only is computed
by PyTorch itself. Layers are called by their modules, so parameters keep their dotted names.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from compactir.diagnostics import CompactError
from compactir.frontends.build import Builder, Tensor, is_known, raised, shape_of
from compactir.ir.connectivity import Connectivity
from compactir.ir.graph import Graph, Scope, Value
from compactir.ir.types import Array
from compactir.ops import SPELLINGS
from compactir.ops.activation import Activation
from compactir.ops.arrange import Dropout
from compactir.ops.conv import Conv
from compactir.ops.linear import Linear
from compactir.ops.norm import BatchNorm, Lrn
from compactir.ops.pool import AvgPool, GlobalAvgPool, GlobalMaxPool, MaxPool, Upsample

if TYPE_CHECKING:
    import torch

__all__ = ["from_torch"]

Handler = Callable[["_Step"], Any]
HANDLERS: dict[str, Handler] = {}
"""ATen's name, without overload and without the `_` of operations in place → how it is built."""
_IDENTITY = {
    "clone",
    "contiguous",
    "detach",
    "alias",
    "lift_fresh_copy",
    "to",
    "_to_copy",
    "identity",
    "_assert_tensor_metadata",
}
_LISTED = 40


def from_torch(module: torch.nn.Module, example: Any, *, name: str | None = None) -> Graph:
    """The network of a PyTorch module, with its weights.

    Args:
        module: as it is used for inference; it is exported in `eval` mode, and left as it was.
        example: an input, or a tuple of inputs, of the shapes to compile for, batch included.
        name: of the network; by default the module's class.

    Raises:
        CompactError: CIR645 without PyTorch; CIR636 where `torch.export` cannot record the module; CIR637
            with every operation that cannot be read.
    """
    try:
        import torch
    except ImportError as error:
        raise CompactError("CIR645", "PyTorch is not installed", help="`pip install torch`") from error
    if not isinstance(module, torch.nn.Module):
        raise CompactError(
            "CIR636", f"a {type(module).__name__} is no PyTorch module", help="give a `torch.nn.Module`"
        )
    examples = example if isinstance(example, tuple) else (example,)
    program = _exported(module, examples)
    if _writes_through_views(program):
        program = program.run_decompositions({})  # nothing changes in place any more
    called = name or type(module).__name__
    reader = _Reader(program, called)
    if reader.refused:  # some operations are known only when taken apart
        tables: list[list[Any]] = [[{}], []]
        for options in tables:  # what changes tensors in place; then all that PyTorch can take apart
            apart = program.run_decompositions(*options)
            other = _Reader(apart, called)
            if not other.refused:
                return _finished(other, module)
        raise _unsupported(reader.refused)
    return _finished(reader, module)


_ALIASES = {
    *("slice", "select", "narrow", "view", "reshape", "flatten", "unflatten", "chunk", "split", "unbind"),
    *("split_with_sizes", "transpose", "permute", "t", "squeeze", "unsqueeze", "expand", "alias", "detach"),
    *("getitem", "contiguous", "to", "_reshape_alias", "unsafe_chunk", "unsafe_split"),
}


def _called(node: Any) -> str:
    """ATen's name without overload."""
    text = str(node.target)
    return text.split(".")[1] if text.startswith("aten.") else getattr(node.target, "__name__", text)


def _writes_through_views(program: Any) -> bool:
    """Whether something is changed in place that is a part of a tensor, or that has parts."""
    for node in program.graph.nodes:
        word = _called(node)
        if node.op == "call_function" and word.endswith("_") and not word.endswith("__"):
            changed = node.args[0]
            if _called(changed) in _ALIASES or any(_called(user) in _ALIASES for user in changed.users):
                return True
    return False


def _finished(reader: _Reader, module: torch.nn.Module) -> Graph:
    """The graph, raised, with a scope for every module that has a part in it."""
    graph = reader.builder.graph
    kinds = {path: type(part).__name__ for path, part in module.named_modules()}
    paths = {node.name.rpartition(".")[0] for node in graph.nodes} - {""}
    every = {".".join(words[: k + 1]) for words in (p.split(".") for p in paths) for k in range(len(words))}
    graph.scopes = {path: Scope(kinds.get(path, "part")) for path in sorted(every)}
    done = raised(graph)
    used = {node.name.rpartition(".")[0] for node in done.nodes}
    done.scopes = {
        path: scope
        for path, scope in done.scopes.items()
        if any(name == path or name.startswith(f"{path}.") for name in used)
    }
    return done


def _exported(module: torch.nn.Module, examples: tuple[Any, ...]) -> Any:
    import torch

    with _evaluating(module), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            return torch.export.export(module, examples)
        except Exception as error:  # whatever the user's forward raises, and torch's own
            first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise CompactError(
                "CIR636",
                f"`torch.export` cannot record {type(module).__name__}: {first.strip()}",
                notes=[f"the example has {', '.join(_described(e) for e in examples)}"],
                help="`torch.export.export(module, example)` shows where; conditions on values stop it",
            ) from error


def _described(example: Any) -> str:
    return f"shape {list(example.shape)}" if hasattr(example, "shape") else f"a {type(example).__name__}"


@contextmanager
def _evaluating(module: torch.nn.Module) -> Iterator[None]:
    """`eval` mode for a while."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


def _unsupported(refused: Sequence[tuple[str, str, str]]) -> CompactError:
    lines = [f"`{name}`: {what}" + (f" in `{where}`" if where else "") for name, what, where in refused]
    more = [f"… and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
    return CompactError(
        "CIR637",
        f"{len(lines)} operations of the module cannot be read",
        notes=[*lines[:_LISTED], *more],
        help="write them with convolutions, pools and arithmetic, or leave that part to the caller",
    )


# -- the recorded operations in order ------------------------------------------------------------------------


class _Refused(Exception):  # noqa: N818  # not an error of its own: it is listed with others
    """An operation that cannot be read, with the reason."""


class _Step:
    """One recorded operation: its arguments by name, values in place of nodes."""

    def __init__(self, reader: _Reader, node: Any) -> None:
        self.b = reader.builder
        self.reader = reader
        self.node = node
        schema = node.target._schema
        names: list[str] = [a.name for a in schema.arguments]
        self.first = names[0]
        """The name of the first argument."""
        given = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
        usual = {a.name: a.default_value for a in schema.arguments if a.name not in given}
        self.raw: dict[str, Any] = usual | given
        self.args = {name: reader.resolve(value) for name, value in self.raw.items()}

    def __getitem__(self, name: str) -> Any:
        return self.args[name]

    def get(self, name: str, otherwise: Any = None) -> Any:
        value = self.args.get(name, otherwise)
        return otherwise if value is None else value

    def value(self, name: str) -> Value:
        """An operand that flows."""
        x: Any = self.args[name]
        if is_known(x):
            return self.b._operand(x, self.b._name())
        return x  # type: ignore[no-any-return]  # what is not an array is a value

    def known(self, name: str) -> Array:
        """A constant operand."""
        x = self.args[name]
        if not is_known(x):
            raise _Refused(f"its {name} is computed, not constant")
        return x

    def layer_name(self, role: str = "weight") -> str:
        """The module that owns a parameter."""
        target = self.reader.targets.get(str(self.raw.get(role)), "")
        return target.rpartition(".")[0] or self.b.stem


class _Reader:
    """Builds the graph of an exported program. `refused` lists (node, reason, module)."""

    def __init__(self, program: Any, name: str) -> None:
        self.builder = Builder(name)
        self.builder.graph.doc = f"{name}, from PyTorch."
        self.refused: list[tuple[str, str, str]] = []
        signature = program.graph_signature
        self.targets = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        self.env: dict[Any, Any] = {}
        self.poisoned: set[Any] = set()
        for node in program.graph.nodes:
            if node.op == "placeholder":
                self._placeholder(node, program)
            elif node.op == "call_function":
                self._call(node)
            elif node.op == "output":
                self._outputs(node)

    def resolve(self, value: Any) -> Any:
        """Nodes as what they are here."""
        if type(value).__name__ == "Node":
            return self.env[value]
        if isinstance(value, (list, tuple)):
            return [self.resolve(v) for v in value]
        return value

    def _placeholder(self, node: Any, program: Any) -> None:
        target = self.targets.get(node.name)
        if target is None:
            self.env[node] = self.builder.input(node.name, list(node.meta["val"].shape))
            return
        stored = program.state_dict.get(target)
        tensor = stored if stored is not None else program.constants[target]
        array = tensor.detach().cpu()
        self.env[node] = array.float().numpy() if array.is_floating_point() else array.numpy()

    def _outputs(self, node: Any) -> None:
        for i, result in enumerate(node.args[0]):
            if result in self.poisoned:
                continue
            self.builder.output(
                "output" if len(node.args[0]) == 1 else f"output{i + 1}", self.resolve(result)
            )

    def _call(self, node: Any) -> None:
        if str(node.target) == "aten.div.Tensor" and (found := _local_response(node)) is not None:
            x, op, parts = found
            self.builder.at(node.name)
            self.env[node] = self.builder.place(op, self.env[x])
            self.refused = [entry for entry in self.refused if entry[0] not in parts]
            return
        if any(n in self.poisoned for n in node.all_input_nodes):
            self.poisoned.add(node)
            return
        if getattr(node.target, "__name__", "") == "getitem":
            found = self.env[node.args[0]][node.args[1]]
            if found is None:
                self.refused.append((node.name, f"{node.args[0].target}: nothing here makes its indices", ""))
                self.poisoned.add(node)
            self.env[node] = found
            return
        module = list((node.meta.get("nn_module_stack") or {"": ("",)}).values())[-1][0]
        word = str(node.target).split(".")[1] if str(node.target).startswith("aten.") else str(node.target)
        in_place = word.endswith("_") and not word.endswith("__")
        word = word.rstrip("_") if in_place else word
        self.builder.at(f"{module}.{word}" if module else word)
        try:
            self.env[node] = self._made(node, word)
            if in_place:
                self.env[node.args[0]] = self.env[node]
        except (_Refused, CompactError, ValueError, TypeError, LookupError) as problem:
            text = problem.message if isinstance(problem, CompactError) else str(problem)
            self.refused.append((node.name, f"{node.target}: {text}", module))
            self.poisoned.add(node)

    def _made(self, node: Any, word: str) -> Any:
        if all(is_known(self.env[n]) for n in node.all_input_nodes):
            return _computed(self, node)
        if word in _IDENTITY:
            made = node.meta.get("val")
            if made is not None and not made.dtype.is_floating_point:
                raise _Refused("whole numbers lose what comes after the point")
            return self.env[node.all_input_nodes[0]]
        if word not in HANDLERS:
            raise _Refused("it has no counterpart")
        return HANDLERS[word](_Step(self, node))


def _computed(reader: _Reader, node: Any) -> Any:
    """What depends on constants only, by PyTorch."""
    import torch

    def tensor(value: Any) -> Any:
        if type(value).__name__ == "Node":
            return torch.from_numpy(np.array(reader.env[value]))
        return type(value)(tensor(v) for v in value) if isinstance(value, (list, tuple)) else value

    given = {k: torch.device("cpu") if k == "device" else v for k, v in node.kwargs.items()}
    result = node.target(*map(tensor, node.args), **{k: tensor(v) for k, v in given.items()})
    several = result if isinstance(result, (list, tuple)) else [result]
    arrays = [r.float().numpy() if r.is_floating_point() else r.numpy() for r in several]
    return arrays if isinstance(result, (list, tuple)) else arrays[0]


def handles(*words: str) -> Callable[[Handler], Handler]:
    """Make a function the handler of ATen operations."""

    def register(handler: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(words, handler))
        return handler

    return register


# -- layers --------------------------------------------------------------------------------------------------


def _pair(value: Any) -> tuple[int, int]:
    numbers = [value] if isinstance(value, int) else list(value)
    return (int(numbers[0]), int(numbers[-1]))


@handles("conv2d", "convolution", "conv1d")
def _conv(s: _Step) -> Any:
    if s.get("transposed", False):
        raise _Refused("transposed convolutions are not read")
    weight = s.known("weight")
    x, sequence = s["input"], weight.ndim == 3
    if sequence:
        n, c, length = shape_of(x)
        x, weight = s.b.reshape(x, [n, c, 1, length]), weight[:, :, None]
    c = shape_of(x)[1]
    kernel = (weight.shape[2], weight.shape[3])

    def axes(name: str, otherwise: int) -> tuple[int, int]:
        first, last = _pair(s.get(name, otherwise))
        return (otherwise, last) if sequence else (first, last)

    stride, dilation = axes("stride", 1), axes("dilation", 1)
    padding = s.get("padding", 0)
    if isinstance(padding, str):
        total = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, kernel, strict=True)]
        pad = (total[0] // 2, total[1] // 2, total[0] - total[0] // 2, total[1] - total[1] // 2)
    else:
        pad = axes("padding", 0) * 2
    bias = s["bias"]
    connect = Connectivity.grouped(c, len(weight), int(s.get("groups", 1)), kernel, pad)
    op = Conv(connect, stride, dilation, bias is not None)
    y = s.b.layer(op, x, weight, *([] if bias is None else [bias]), name=s.layer_name())
    out = y.type.shape
    return s.b.reshape(y, [out[0], out[1], out[3]]) if sequence else y


@handles("batch_norm", "_native_batch_norm_legit_no_training", "native_batch_norm")
def _batch_norm(s: _Step) -> Any:
    if s.get("training", False):
        raise _Refused("it normalises by the batch (training)")
    x, mean = s.value("input"), s.known("running_mean")
    weight = np.ones_like(mean) if s["weight"] is None else s.known("weight")
    bias = np.zeros_like(mean) if s["bias"] is None else s.known("bias")
    eps = float(s["eps"])
    name = s.layer_name("running_mean")
    if x.type.rank not in (2, 4):
        n, c, *rest = x.type.shape
        flat = s.b.reshape(x, [n, c, 1, int(np.prod(rest))])
        y = s.b.layer(BatchNorm(eps), flat, weight, bias, mean, s.known("running_var"), name=name)  # type: ignore[arg-type]  # reshape of a value
        y = s.b.reshape(y, x.type.shape)  # type: ignore[assignment]  # as above
    else:
        y = s.b.layer(BatchNorm(eps), x, weight, bias, mean, s.known("running_var"), name=name)
    return y if str(s.node.target).startswith("aten.batch_norm") else [y, mean, mean]


@handles("linear")
def _linear(s: _Step) -> Any:
    weight, bias = s.known("weight"), s["bias"]
    return _matrix(s, s["input"], weight, bias, s.layer_name())


@handles("addmm")
def _addmm(s: _Step) -> Any:
    if s.get("alpha", 1) != 1 or s.get("beta", 1) != 1:
        raise _Refused("its factors are not 1")
    name = s.layer_name("self")
    return _matrix(s, s["mat1"], s.known("mat2").T, s["self"], name)


@handles("mm", "matmul")
def _product(s: _Step) -> Any:
    a, b = (s["self"], s["mat2"]) if "mat2" in s.args else (s["self"], s["other"])
    if is_known(b) and b.ndim == 2:
        return _matrix(s, a, b.T, None, s.b.stem)
    return s.b.matmul(a, b)


def _matrix(s: _Step, x: Any, weight: Array, bias: Any, name: str) -> Any:
    """A linear layer; on more than two axes a product with a matrix."""
    if len(shape_of(x)) == 2 and (bias is None or is_known(bias)):
        op = Linear(len(weight), bias is not None)
        return s.b.layer(op, x, weight, *([] if bias is None else [bias]), name=name)
    y = s.b.matmul(x, np.ascontiguousarray(weight.T))
    return y if bias is None else s.b.binary("add", y, bias)


# -- activations ---------------------------------------------------------------------------------------------

_ACTIVATIONS = {
    "relu": "relu",
    "relu6": "relu6",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "silu": "swish",
    "hardswish": "hard_swish",
    "hardsigmoid": "hard_sigmoid",
}


@handles(*_ACTIVATIONS)
def _activation(s: _Step) -> Any:
    word = str(s.node.target).split(".")[1].rstrip("_")
    return s.b.activation(_op(_ACTIVATIONS[word], s), s[s.first])


def _op(word: str, s: _Step, **attributes: Any) -> Activation:
    first = s[s.first]
    op: Activation = SPELLINGS[word](first.type, **attributes)
    return op


@handles("hardtanh", "clamp")
def _clamped(s: _Step) -> Any:
    low, high = (s["min_val"], s["max_val"]) if "min_val" in s.args else (s["min"], s["max"])
    if low is None or high is None or is_known(low) or is_known(high):
        if high is None and low == 0:
            return s.b.activation(_op("relu", s), s["self"])
        raise _Refused("one of its limits is open, or computed")
    if (low, high) == (0, 6):
        return s.b.activation(_op("relu6", s), s["self"])
    return s.b.activation(_op("clip", s, low=float(low), high=float(high)), s["self"])


@handles("leaky_relu")
def _leaky_relu(s: _Step) -> Any:
    return s.b.activation(_op("leaky_relu", s, slope=float(s["negative_slope"])), s["self"])


@handles("softmax", "_softmax")
def _softmax(s: _Step) -> Any:
    x = s.value("self")
    if int(s["dim"]) % x.type.rank != 1 or x.type.rank not in (2, 4):
        raise _Refused("it does not run along the channels")
    return s.b.place(SPELLINGS["softmax"](x.type), x)


@handles("dropout", "feature_dropout")
def _dropout(s: _Step) -> Any:
    if s.get("train", False):
        raise _Refused("it drops values (training)")
    return s.b.place(Dropout(float(s["p"])), s[s.first])  # `input`, in place `self`


@handles("exp", "abs", "neg", "sqrt", "log", "floor", "ceil", "erf", "sin", "cos")
def _unary(s: _Step) -> Any:
    return s.b.unary(str(s.node.target).split(".")[1].rstrip("_"), s["self"])


@handles("rsqrt", "reciprocal")
def _inverse(s: _Step) -> Any:
    x = s["self"]
    root = s.b.unary("sqrt", x) if "rsqrt" in str(s.node.target) else x
    return s.b.binary("div", np.ones((), np.float32), root)


# -- arithmetic ----------------------------------------------------------------------------------------------


def _number(value: Any) -> Any:
    return np.asarray(value, np.float32) if isinstance(value, (int, float, bool)) else value


@handles("add", "sub", "mul", "div")
def _arithmetic(s: _Step) -> Any:
    word = str(s.node.target).split(".")[1].rstrip("_")
    a, b = _number(s["self"]), _number(s["other"])
    if (alpha := s.get("alpha", 1)) != 1:
        b = s.b.scaled(b, float(alpha))
    if s.get("rounding_mode") is not None:
        raise _Refused("it rounds")
    return s.b.binary(word, a, b)


@handles("pow")
def _power(s: _Step) -> Any:
    return s.b.binary("pow", _number(s["self"]), _number(s["exponent"]))


@handles("maximum", "minimum")
def _extreme(s: _Step) -> Any:
    return s.b.binary("max" if "max" in str(s.node.target) else "min", s["self"], s["other"])


_VIEWS = ("view", "squeeze", "unsqueeze", "_unsafe_view", "clone")


def _local_response(node: Any) -> tuple[Any, Lrn, set[str]] | None:
    """torch.nn.functional.local_response_norm is Python: x / (k + alpha · mean of x²)^beta.

    Returns what it reads, the operation, and the names of the nodes that it consists of.
    """
    found: dict[str, Any] = {}
    parts: set[str] = set()
    x, at = node.args
    for word in ("pow", "add", "mul", "avg_pool3d", "pad", "mul"):
        while _aten(at) in _VIEWS:
            parts.add(at.name)
            at = at.args[0]
        if _aten(at) != word:
            return None
        parts.add(at.name)
        found[f"{word}2" if word in found else word] = at
        at = at.args[0]
    if at is not x or found["mul2"].args[1] is not x:
        return None
    size, scale = int(found["avg_pool3d"].args[1][0]), float(found["mul"].args[1])
    return x, Lrn(size, scale, float(found["pow"].args[1]), float(found["add"].args[1])), parts


def _aten(node: Any) -> str | None:
    """ATen's name of a recorded operation."""
    words = str(getattr(node, "target", "")).split(".")
    return words[1] if len(words) > 1 and words[0] == "aten" else None


# -- pools ---------------------------------------------------------------------------------------------------


def _window(s: _Step) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int, int, int]]:
    kernel = _pair(s["kernel_size"])
    stride = _pair(s["stride"]) if s.get("stride") else kernel
    top, left = _pair(s.get("padding", 0))
    return kernel, stride, (top, left, top, left)


@handles("max_pool2d", "max_pool2d_with_indices")
def _max_pool(s: _Step) -> Any:
    if _pair(s.get("dilation", 1)) != (1, 1):
        raise _Refused("its windows have holes")
    y = s.b.place(MaxPool(*_window(s), bool(s.get("ceil_mode", False))), s.value("self"))
    return [y, None] if "indices" in str(s.node.target) else y


@handles("avg_pool2d")
def _avg_pool(s: _Step) -> Any:
    kernel, stride, pad = _window(s)
    counts, divisor = bool(s.get("count_include_pad", True)) and any(pad), int(s.get("divisor_override") or 0)
    return s.b.place(
        AvgPool(kernel, stride, pad, bool(s.get("ceil_mode", False)), counts, divisor), s.value("self")
    )


@handles("adaptive_avg_pool2d", "_adaptive_avg_pool2d", "adaptive_max_pool2d")
def _adaptive(s: _Step) -> Any:
    x, largest = s.value("self"), "max" in str(s.node.target)
    size, out = x.type.spatial, _pair(s["output_size"])
    if out == (1, 1):
        y = s.b.place(GlobalMaxPool() if largest else GlobalAvgPool(), x)
    elif all(a % b == 0 for a, b in zip(size, out, strict=True)):
        kernel = (size[0] // out[0], size[1] // out[1])
        y = s.b.place(MaxPool(kernel, kernel) if largest else AvgPool(kernel, kernel), x)
    else:
        raise _Refused(f"{list(size)} does not divide into {list(out)} equal windows")
    return [y, None] if largest else y


@handles("mean", "sum", "amax", "amin")
def _reduced(s: _Step) -> Any:
    word = {"mean": "mean", "sum": "sum", "amax": "max", "amin": "min"}[str(s.node.target).split(".")[1]]
    axes = s.get("dim") or range(len(shape_of(s["self"])))
    axes = [axes] if isinstance(axes, int) else list(axes)
    return s.b.reduce(word, s["self"], axes, bool(s.get("keepdim", False)))


@handles("upsample_nearest2d", "upsample_bilinear2d")
def _upsample(s: _Step) -> Any:
    x, bilinear = s.value("self" if "self" in s.args else "input"), "bilinear" in str(s.node.target)
    if bilinear and s.get("align_corners", False):
        raise _Refused("it aligns corners")
    out = s.node.meta["val"].shape[2:]
    scales = s.get("scale_factors") or [s.get("scales_h"), s.get("scales_w")]
    for size, to, scale in zip(x.type.spatial, out, scales, strict=True):
        if scale is not None and abs(size * scale - int(to)) > 1e-6:
            raise _Refused(f"its scale {scale:g} makes no whole number of {size} pixels")
    return s.b.place(Upsample((int(out[0]), int(out[1])), "bilinear" if bilinear else "nearest"), x)


# -- shapes --------------------------------------------------------------------------------------------------


@handles("view", "reshape", "_unsafe_view", "flatten", "squeeze", "unsqueeze", "unflatten")
def _reshaped(s: _Step) -> Any:
    return s.b.reshape(s["self"], [int(e) for e in s.node.meta["val"].shape])


@handles("permute")
def _permuted(s: _Step) -> Any:
    rank = len(shape_of(s["self"]))
    return s.b.transpose(s["self"], [d % rank for d in s["dims"]])


@handles("transpose", "t")
def _transposed(s: _Step) -> Any:
    rank = len(shape_of(s["self"]))
    order = list(range(rank))
    a, b = (s["dim0"] % rank, s["dim1"] % rank) if "dim0" in s.args else (0, 1)
    order[a], order[b] = order[b], order[a]
    return s.b.transpose(s["self"], order)


@handles("expand")
def _expanded(s: _Step) -> Any:
    return s.b.expand(s["self"], [int(e) for e in s.node.meta["val"].shape])


@handles("cat", "concat")
def _cat(s: _Step) -> Any:
    return s.b.join(s["tensors"], int(s.get("dim", 0)) % len(shape_of(s["tensors"][0])))


@handles("split", "split_with_sizes", "chunk", "unbind", "tensor_split")
def _split(s: _Step) -> Any:
    x, axis = s["self"], int(s.get("dim", 0)) % len(shape_of(s["self"]))
    parts = [tuple(int(e) for e in part.shape) for part in s.node.meta["val"]]
    single = len(parts[0]) < len(shape_of(x))
    sizes, at, results = [1 if single else part[axis] for part in parts], 0, []
    for size, part in zip(sizes, parts, strict=True):
        results.append(s.b.reshape(s.b.take(x, axis, range(at, at + size)), part))
        at += size
    return results


@handles("slice")
def _slice(s: _Step) -> Any:
    x = s["self"]
    axis = int(s.get("dim", 0)) % len(shape_of(x))
    chosen = range(shape_of(x)[axis])[slice(s["start"], s["end"], s.get("step", 1))]
    return s.b.take(x, axis, chosen)


@handles("select", "narrow")
def _select(s: _Step) -> Any:
    x = s["self"]
    axis = int(s["dim"]) % len(shape_of(x))
    if "index" not in s.args:
        start = int(s["start"]) % shape_of(x)[axis]
        return s.b.take(x, axis, range(start, start + int(s["length"])))
    taken = s.b.take(x, axis, [int(s["index"]) % shape_of(x)[axis]])
    return s.b.reshape(taken, [int(e) for e in s.node.meta["val"].shape])


@handles("index", "index_select")
def _index(s: _Step) -> Any:
    x = s["self"]
    indices = s["indices"] if "indices" in s.args else [None] * int(s["dim"]) + [s["index"]]
    axes = [i for i, index in enumerate(indices) if index is not None]
    if len(axes) != 1 or not is_known(indices[axes[0]]) or indices[axes[0]].ndim != 1:
        raise _Refused("it picks by more than one list, or by a computed one")
    listed = indices[axes[0]]
    if listed.dtype == np.bool_:
        listed = np.flatnonzero(listed)
    return s.b.take(x, axes[0], np.asarray(listed, np.int64) % shape_of(x)[axes[0]])


@handles("channel_shuffle", "native_channel_shuffle")
def _channel_shuffle(s: _Step) -> Any:
    x = s.value("self")
    return s.b.place(SPELLINGS["shuffle"](x.type, groups=int(s["groups"])), x)


@handles("pixel_shuffle")
def _pixel_shuffle(s: _Step) -> Any:
    n, c, h, w = shape_of(s["self"])
    r = int(s["upscale_factor"])
    y = s.b.reshape(s["self"], [n, c // r**2, r, r, h, w])
    return s.b.reshape(s.b.transpose(y, [0, 1, 4, 2, 5, 3]), [n, c // r**2, h * r, w * r])


@handles("pad", "constant_pad_nd")
def _pad(s: _Step) -> Any:
    x: Tensor = s["self"]
    if s.get("mode", "constant") != "constant":
        raise _Refused("it repeats the border")
    rank, given = len(shape_of(x)), [int(p) for p in s["pad"]]
    before, after = [0] * rank, [0] * rank
    for i in range(len(given) // 2):
        before[rank - 1 - i], after[rank - 1 - i] = given[2 * i], given[2 * i + 1]
    return s.b.pad(x, before, after, float(s.get("value", 0.0)))


def supported() -> Mapping[str, Handler]:
    """ATen's operations that can be read."""
    return dict(sorted(HANDLERS.items()))
