"""What happens to a vector between the last multiplication and the store: activations, adds, gates, in C."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np

from compactir.ir.op import Op
from compactir.ops import activation as act
from compactir.ops.combine import Add, Mul
from compactir.ops.tensor import UNARY, Binary, Choose, Unary


def literal(value: float) -> str:
    """A float32 as C writes it, digit for digit the same number."""
    if not abs(value) <= np.finfo(np.float32).max:
        return special(value)
    text = repr(float(np.float32(value)))
    return f"{text}f" if "e" in text or "." in text else f"{text}.0f"


def special(value: float) -> str:
    """A constant expression of C99 for what has no digits: infinities, numbers beyond float32, NaN."""
    return "(0.0f / 0.0f)" if np.isnan(value) else f"({'-' if value < 0 else ''}1.0f / 0.0f)"


def finish(op: Op, a: str, *extras: str) -> str:
    """The C expression for an operation on the vector `a` (and on further operands)."""
    match op:
        case act.Relu():
            return f"v_max(v_zero(), {a})"
        case act.Relu6():
            return f"v_min(v_set1(6.0f), v_max(v_zero(), {a}))"
        case act.Clip(low, high):
            return f"v_min(v_set1({literal(high)}), v_max(v_set1({literal(low)}), {a}))"
        case act.LeakyRelu(slope):
            return f"v_less({a}, v_zero(), v_mul({a}, v_set1({literal(slope)})), {a})"
        case act.Sigmoid():
            return f"v_sigmoid({a})"
        case act.Swish():
            return f"v_swish({a})"
        case act.Tanh(scale, slope):
            inner = a if slope == 1 else f"v_mul(v_set1({literal(slope)}), {a})"
            return f"v_tanh({inner})" if scale == 1 else f"v_mul(v_set1({literal(scale)}), v_tanh({inner}))"
        case act.HardSigmoid():
            return f"v_mul(v_set1({literal(1 / 6)}), {_shifted(a)})"
        case act.HardSwish():
            return f"v_mul(v_mul(v_set1({literal(1 / 6)}), {a}), {_shifted(a)})"
        case Unary(function):
            return _UNARY.get(function, f"v_{function}({{}})").format(a)
        case Binary(function):
            return _BINARY.get(function, f"v_{function}({{}}, {{}})").format(a, *extras)
        case Choose():
            return f"v_same({a}, v_zero(), {extras[1]}, {extras[0]})"
        case Add():
            return f"v_add({a}, {extras[0]})"
        case Mul():
            return f"v_mul({a}, {extras[0]})"
    raise KeyError(f"no C spelling for {op.name}")


_ONE = "v_set1(1.0f)"
_TRUTH = f"v_same({{1}}, v_zero(), v_zero(), {_ONE})"
"""1 where the second operand is not 0."""
_UNARY = {
    "log": f"v_mul(v_set1({literal(np.log(2))}), v_log2({{}}))",
    "neg": "v_mul(v_set1(-1.0f), {})",
    "not": f"v_same({{}}, v_zero(), {_ONE}, v_zero())",
}
_BINARY = {
    "and": f"v_same({{0}}, v_zero(), v_zero(), {_TRUTH})",
    "equal": f"v_same({{}}, {{}}, {_ONE}, v_zero())",
    "greater": f"v_less({{1}}, {{0}}, {_ONE}, v_zero())",
    "less": f"v_less({{}}, {{}}, {_ONE}, v_zero())",
    "max": "v_max_nan({}, {})",
    "min": "v_min_nan({}, {})",
    "or": f"v_same({{0}}, v_zero(), {_TRUTH}, {_ONE})",
    "pow": "v_power({}, {})",
    "xor": f"v_same({{0}}, v_zero(), {_TRUTH}, v_same({{1}}, v_zero(), {_ONE}, v_zero()))",
}
"""Functions that are not one word of the vocabulary with their own name."""

_PLAIN = {"abs", "ceil", "floor", "neg", "not", "round", "sign", "sqrt", "trunc"}
CALLED = frozenset({"tanh", "sigmoid", "swish", "pow", "fmod", "mod"} | (set(UNARY) - _PLAIN))
"""Operations whose vector words are functions that are called."""


def _shifted(a: str) -> str:
    return f"v_min(v_set1(6.0f), v_max(v_zero(), v_add({a}, v_set1(3.0f))))"


def chain(epilogue: Sequence[Op], a: str, extras: Sequence[str]) -> list[str]:
    """One C statement per operation, on the variable `a`; `extras`: loads of further operands in order."""
    left = iter(extras)
    return [f"{a} = {finish(op, a, *islice(left, further(op)))};" for op in epilogue]


def further(op: Op) -> int:
    """How many further operands an operation of an epilogue takes."""
    return 2 if isinstance(op, Choose) else int(isinstance(op, Add | Mul | Binary))
