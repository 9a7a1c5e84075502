"""Every operation keeps what it declares: type rule, element type, counts, traits, spellings, errors."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compactir.catalogue import CATALOGUE
from compactir.diagnostics import CompactError
from compactir.ir.channels import ChannelList
from compactir.ir.connectivity import Connectivity
from compactir.ir.graph import Graph, Param
from compactir.ir.op import Op, Sample, counted_macs, result_type, signature
from compactir.ir.types import Array, TensorType
from compactir.ops import OPS, SPELLINGS
from compactir.ops.activation import Relu, Relu6
from compactir.ops.combine import Add, Mul
from compactir.ops.conv import Conv, Masked, balanced, learned, pruned
from compactir.ops.norm import BatchNorm
from compactir.ops.tensor import TensorOp
from tests.graphs import random_weights

SAMPLES = [
    pytest.param(sample, id=f"{name}-{i}")
    for name, cls in sorted(OPS.items())
    for i, sample in enumerate(cls.samples())
]
FLOATS = (np.float32, np.float64)


def operands(sample: Sample, dtype: type[np.floating[Any]] = np.float32, seed: int = 0) -> list[Array]:
    """Seeded arrays for the values and the parameters of a sample."""
    rng = np.random.default_rng(seed)
    types = [TensorType.f32(*shape) for shape in sample.shapes]
    graph = Graph("sample")
    for spec in sample.op.params(*types):
        graph.param(spec.name, TensorType.f32(*spec.shape), spec.role, spec.init)
    xs = [rng.standard_normal(shape) for shape in sample.shapes]
    return [a.astype(dtype) for a in [*xs, *random_weights(graph, seed).values()]]


def f32(*shape: int) -> TensorType:
    return TensorType.f32(*shape)


# -- every operation -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(OPS))
def test_every_op_has_a_sample(name: str) -> None:
    samples = OPS[name].samples()
    assert samples
    assert all(type(s.op) is OPS[name] for s in samples)


@pytest.mark.parametrize("name", sorted(OPS))
def test_every_op_says_what_it_is(name: str) -> None:
    cls = OPS[name]
    assert cls.name == name
    assert cls.__doc__
    assert "Shapes:" in cls.__doc__ or issubclass(
        cls, tuple(b for b in cls.__mro__[1:-2] if b.__doc__) or (Op,)
    )
    assert hash(cls.samples()[0].op) == hash(cls.samples()[0].op)


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_the_type_rule_is_what_happens(sample: Sample, dtype: type[np.floating[Any]]) -> None:
    arrays = operands(sample, dtype)
    inferred = result_type(sample.op, [f32(*a.shape) for a in arrays])
    result = sample.op.reference(*arrays)
    assert result.shape == inferred.shape
    assert result.dtype == dtype
    assert np.isfinite(result).all()


@pytest.mark.parametrize("sample", SAMPLES)
def test_what_is_counted_is_the_formula(sample: Sample) -> None:
    arrays = operands(sample)
    with counted_macs() as counted:
        sample.op.reference(*arrays)
    assert counted[0] == sample.op.macs(*(f32(*a.shape) for a in arrays))
    assert (counted[0] > 0) == (sample.op.name in ("conv", "linear", "rbf"))


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_batch_is_its_images(sample: Sample) -> None:
    values = len(sample.shapes)
    arrays = operands(sample, np.float64)
    more = operands(sample, np.float64, seed=1)
    both = [np.concatenate([a, b]) for a, b in zip(arrays[:values], more[:values], strict=True)]
    together = sample.op.reference(*both, *arrays[values:])
    apart = [sample.op.reference(*one[:values], *arrays[values:]) for one in (arrays, more)]
    np.testing.assert_allclose(together, np.concatenate(apart), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sample", SAMPLES)
def test_operands_are_not_written_to(sample: Sample) -> None:
    arrays = operands(sample)
    for array in arrays:
        array.setflags(write=False)
    sample.op.reference(*arrays)


@pytest.mark.parametrize("sample", SAMPLES)
def test_too_few_and_too_many_operands_are_refused(sample: Sample) -> None:
    types = [f32(*a.shape) for a in operands(sample)]
    if sample.op.name in ("concat", "join"):
        return  # take any number
    for wrong in (types[:-1], [*types, f32(1, 1, 1, 1)]):
        with pytest.raises(CompactError, match="CIR206"):
            result_type(sample.op, wrong)


# -- traits --------------------------------------------------------------------------------------------------


def _depends_on_other_channels(sample: Sample) -> bool:
    """Does an output channel change with other channels of the first operand?"""
    arrays = operands(sample)
    before = sample.op.reference(*arrays)
    for kept in range(arrays[0].shape[1]):
        changed = [arrays[0] + 1, *arrays[1:]]
        changed[0][:, kept] = arrays[0][:, kept]
        if not np.array_equal(sample.op.reference(*changed)[:, kept : kept + 1], before[:, kept : kept + 1]):
            return True
    return False


def _depends_on_other_elements(sample: Sample) -> bool:
    arrays = operands(sample)
    changed = [a.copy() for a in arrays]
    changed[0].reshape(-1)[1:] += 1
    before, after = sample.op.reference(*arrays), sample.op.reference(*changed)
    return bool(before.reshape(-1)[0] != after.reshape(-1)[0])


@pytest.mark.parametrize("name", sorted(OPS))
def test_traits_are_true(name: str) -> None:
    cls = OPS[name]
    if cls.per_channel:
        assert not any(map(_depends_on_other_channels, cls.samples()))
    if cls.elementwise:
        assert cls.per_channel
        assert not any(map(_depends_on_other_elements, cls.samples()))


@pytest.mark.parametrize("name", ["conv", "softmax", "lrn", "shuffle", "gather", "linear"])
def test_traits_that_are_not_claimed_do_not_hold(name: str) -> None:
    assert not OPS[name].per_channel
    assert any(map(_depends_on_other_channels, OPS[name].samples()))


# -- the convolution's own -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fine", [False, True])
def test_a_mask_is_a_product_with_the_weight(fine: bool) -> None:
    connect = Connectivity.grouped(4, 6, 2, (3, 3), (1, 1, 1, 1))
    plain, masked = Conv(connect), Conv(connect, masked=Masked("learned(2)", fine))
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((1, 4, 5, 5)), rng.standard_normal((6, 2, 3, 3))
    spec = masked.params(f32(1, 4, 5, 5))[1]
    assert (spec.name, spec.role) == ("mask", "buffer")
    assert spec.shape == ((6, 2, 3, 3) if fine else (6, 2, 1, 1))
    mask = rng.integers(2, size=spec.shape).astype(np.float64)
    with counted_macs() as counted:
        result = masked.reference(x, weight, mask)
    assert np.array_equal(result, plain.reference(x, weight * mask))
    assert counted[0] == 25 * np.broadcast_to(mask, weight.shape).sum()
    assert result_type(masked, [f32(1, 4, 5, 5), f32(6, 2, 3, 3), f32(*spec.shape)]) == f32(1, 6, 5, 5)


def test_an_epilogue_is_what_follows() -> None:
    rng = np.random.default_rng(0)
    x, other = rng.standard_normal((1, 3, 4, 4)), rng.standard_normal((1, 5, 4, 4))
    weight, bias, gate = (
        rng.standard_normal((5, 3, 1, 1)),
        rng.standard_normal(5),
        rng.standard_normal((1, 5, 1, 1)),
    )
    plain = Conv(Connectivity.dense(3, 5), bias=True)
    fused = Conv(Connectivity.dense(3, 5), bias=True, epilogue=(Relu(), Add(), Mul(), Relu6()))
    expected = Relu6().reference((np.maximum(plain.reference(x, weight, bias), 0) + other) * gate)
    assert np.array_equal(fused.reference(x, weight, bias, other, gate), expected)
    types = [f32(*a.shape) for a in (x, weight, bias, other, gate)]
    assert result_type(fused, types) == f32(1, 5, 4, 4)
    with pytest.raises(CompactError, match="CIR206"):
        result_type(fused, types[:-1])
    with pytest.raises(CompactError, match="CIR211"):
        result_type(fused, [*types[:3], f32(1, 4, 4, 4), types[4]])


def test_outputs_of_no_block_are_their_bias() -> None:
    op = Conv(Connectivity.learned([0, 0], [0, 1, 2]), bias=True)
    y = op.reference(np.ones((1, 2, 2, 2)), np.full((1, 2, 1, 1), 3.0), np.array([0.5, 1.5, 2.5]))
    assert np.array_equal(y[0, :, 0, 0], [6.5, 1.5, 2.5])


def test_a_sum_of_zero_terms_is_zero() -> None:
    op = Conv(Connectivity(2, 2, ()))
    assert op.params(f32(1, 2, 3, 3)) == []
    assert np.array_equal(op.reference(np.ones((1, 2, 3, 3), np.float32)), np.zeros((1, 2, 3, 3)))


# -- spellings -----------------------------------------------------------------------------------------------

X, V = f32(1, 8, 6, 6), f32(1, 8)


def spelled(name: str, *args: Any, **attributes: Any) -> Any:
    return SPELLINGS[name](*args, **attributes)


FOREIGN = {name for name, cls in OPS.items() if issubclass(cls, TensorOp)}  # made by frontends only


def test_every_op_has_a_spelling() -> None:
    made = " ".join(str(inspect.signature(f, eval_str=True).return_annotation) for f in SPELLINGS.values())
    unspelt = {name for name, cls in OPS.items() if f".{cls.__qualname__}" not in made}
    assert unspelt == FOREIGN


@pytest.mark.parametrize("name", sorted(SPELLINGS))
def test_every_spelling_is_a_declaration(name: str) -> None:
    declared = signature(name)
    assert SPELLINGS[name].__doc__
    assert declared.operands or declared.attributes
    for attribute in declared.attributes.values():
        assert attribute.annotation is not inspect.Parameter.empty
        assert not isinstance(attribute.annotation, str)


def test_split_makes_consecutive_slices() -> None:
    parts = spelled("split", X, [2, 5, 1])
    assert [str(p.channels) for p in parts] == ["0..2", "2..7", "7"]
    assert spelled("split", X, [Fraction(1, 4), Fraction(3, 4)]) == spelled("split", X, [2, 6])


def test_depthwise_shares_its_channels_among_kernels() -> None:
    op = spelled("depthwise", f32(1, 10, 9, 9), [3, 5, 7])
    sizes = [(f.kernel[0], f.count) for f in op.connect.families]
    assert sizes == [(3, 4), (5, 3), (7, 3)]  # the remainder goes to the first
    assert op.connect.is_depthwise
    assert result_type(op, [f32(1, 10, 9, 9), *(f32(*s) for s in op.connect.weight_shapes)]) == f32(
        1, 10, 9, 9
    )


def test_conv_reads_shares_lists_and_learned() -> None:
    uneven = spelled("conv", X, 4, 1, groups=[Fraction(1, 2), Fraction(1, 4), Fraction(1, 4)])
    assert [(f.count, f.ins, f.outs) for f in uneven.connect.families] == [(1, 4, 2), (2, 2, 1)]
    table = spelled("conv", X, 2, 3, connect=[[0, 1], [5, 7, 2]])
    assert table.connect.mask.sum() == 5
    assert spelled("conv", X, 8, 1, connect=learned(4)).masked == Masked("learned(4)")


@pytest.mark.parametrize(
    ("attributes", "pad", "size"),
    [
        ({"kernel": 3}, (1, 1, 1, 1), (6, 6)),
        ({"kernel": [3, 5]}, (1, 2, 1, 2), (6, 6)),
        ({"kernel": 3, "dilation": 2}, (2, 2, 2, 2), (6, 6)),
        ({"kernel": 3, "stride": 2}, (1, 1, 1, 1), (3, 3)),
        ({"kernel": 3, "stride": 2, "pad": "same"}, (0, 0, 1, 1), (3, 3)),
        ({"kernel": 2, "pad": 0}, (0, 0, 0, 0), (5, 5)),
        ({"kernel": 2, "pad": "same"}, (0, 0, 1, 1), (6, 6)),
        ({"kernel": 5, "pad": [1, 2]}, (1, 2, 1, 2), (4, 6)),
        ({"kernel": 5, "pad": [0, 1, 2, 3]}, (0, 1, 2, 3), (4, 6)),
    ],
)
def test_padding_as_the_language_says(
    attributes: dict[str, Any], pad: Sequence[int], size: Sequence[int]
) -> None:
    op = spelled("conv", X, 4, **attributes)
    assert op.connect.families[0].pad == pad
    assert op.connect.out_size(X.spatial, op.stride, op.dilation) == size


REFUSED: list[tuple[str, Callable[[], Any], str, str]] = [
    ("unknown element type", lambda: TensorType("f16", (1,)), "CIR201", "f16"),
    ("empty extent", lambda: f32(1, 0, 2, 2), "CIR202", "[1, 0, 2, 2]"),
    (
        "groups",
        lambda: spelled("conv", X, 60, 1, groups=7),
        "CIR203",
        "groups that divide 8 and 60 are 1 2 4",
    ),
    ("shares", lambda: spelled("conv", X, 8, 1, groups=[3, 4]), "CIR203", "do not add up to the 8 input"),
    (
        "share",
        lambda: spelled("conv", X, 8, 1, groups=[Fraction(1, 3), Fraction(2, 3)]),
        "CIR203",
        "1/3 of 8",
    ),
    ("shuffle", lambda: spelled("shuffle", X, 3), "CIR203", "1 2 4 8"),
    ("kernel too large", lambda: _infer(spelled("conv", X, 8, 9, pad=0), X), "CIR204", "9x9"),
    ("pool too large", lambda: _infer(spelled("max_pool", X, 9), X), "CIR204", "9x9"),
    ("mixed sizes", lambda: _infer(spelled("depthwise", X, [3, 5], pad=1), X), "CIR204", "disagree"),
    ("conv of a vector", lambda: spelled("conv", V, 8, 1), "CIR205", "f32[1,8]"),
    ("pool of a vector", lambda: _infer(OPS["global_avg_pool"](), V), "CIR205", "f32[1,8]"),
    ("linear of a map", lambda: _infer(spelled("linear", X, 3), X), "CIR205", "flatten"),
    ("shuffle of a vector", lambda: spelled("shuffle", V, 2), "CIR205", "f32[1,8]"),
    ("bn of a scalar", lambda: _infer(BatchNorm(), f32(5)), "CIR205", "f32[5]"),
    ("no weight", lambda: _infer(spelled("linear", V, 3), V, params=False), "CIR206", "needs 2 parameters"),
    ("wrong weight", lambda: result_type(BatchNorm(), [X, *[f32(7)] * 4]), "CIR206", "must be [8]"),
    ("channels", lambda: _infer(Conv(Connectivity.dense(6, 2)), X), "CIR207", "connects 6"),
    ("stride 0", lambda: spelled("conv", X, 8, 3, stride=0), "CIR208", "stride"),
    ("no outputs", lambda: spelled("conv", X, 0, 3), "CIR208", "`out`"),
    ("no features", lambda: spelled("linear", V, 0), "CIR208", "`out`"),
    ("even kernel", lambda: spelled("conv", X, 8, 2), "CIR208", "has no default padding"),
    ("odd word", lambda: spelled("conv", X, 8, 3, pad="valid"), "CIR208", "valid"),
    ("three paddings", lambda: spelled("conv", X, 8, 3, pad=[1, 2, 3]), "CIR208", "one, two or four"),
    ("negative padding", lambda: spelled("conv", X, 8, 3, pad=-1), "CIR208", "-1"),
    ("kernels for channels", lambda: spelled("depthwise", f32(1, 2, 6, 6), [3, 5, 7]), "CIR208", "3 kernels"),
    ("learned groups", lambda: learned(0), "CIR208", "groups"),
    ("condensed", lambda: spelled("conv", X, 8, 1, connect=learned(2, 3)), "CIR203", "one in 3 of 8"),
    ("balanced", lambda: balanced(5, 4), "CIR208", "5 of 4"),
    ("runs", lambda: spelled("conv", X, 8, 1, connect=balanced(1, 3)), "CIR203", "runs of 3"),
    ("pruned", lambda: spelled("conv", X, 4, 1, connect=pruned(6)), "CIR208", "6"),
    ("eps", lambda: spelled("bn", X, 0.0), "CIR208", "eps"),
    ("lrn size", lambda: spelled("lrn", X, 0), "CIR208", "size"),
    ("clip", lambda: spelled("clip", X, 2.0, 1.0), "CIR208", "low"),
    ("dropout", lambda: spelled("dropout", X, 1.0), "CIR208", "`p`"),
    ("divisor", lambda: spelled("avg_pool", X, 2, divisor=-1), "CIR208", "divisor"),
    (
        "pool padding",
        lambda: _infer(spelled("max_pool", X, 2, pad=2), X),
        "CIR208",
        "smaller than its kernel",
    ),
    ("upsample", lambda: spelled("upsample", X, 0), "CIR208", "scale"),
    ("gather beyond", lambda: spelled("gather", X, [8]), "CIR209", "channels are 0 to 7"),
    ("gather below", lambda: spelled("gather", X, [-1]), "CIR209", "from 0 on"),
    ("gather nothing", lambda: spelled("gather", X, []), "CIR209", "list of channels"),
    ("permute", lambda: spelled("permute", X, [0, 1, 2]), "CIR209", "each of the 8 channels once"),
    ("slice", lambda: spelled("slice", X, 3, 9), "CIR209", "3..9"),
    ("split", lambda: spelled("split", X, [8, 0]), "CIR209", "at least one channel"),
    ("split sum", lambda: spelled("split", X, [4, 5]), "CIR203", "4, 5"),
    (
        "connect input",
        lambda: spelled("conv", X, 1, 1, connect=[[8]]),
        "CIR209",
        "input channel 8",
    ),
    (
        "connect output",
        lambda: spelled("conv", X, 1, 1, connect=[[0], [0]]),
        "CIR209",
        "the inputs of 2 outputs, there are 1",
    ),
    (
        "connect missing",
        lambda: spelled("conv", X, 2, 1, connect=[[0]]),
        "CIR209",
        "one list per output",
    ),
    ("connect twice", lambda: spelled("conv", X, 1, 1, connect=[[1, 1]]), "CIR209", "twice"),
    ("connect nothing", lambda: spelled("conv", X, 1, 1, connect=[[]]), "CIR209", "no input for output 0"),
    ("concat sizes", lambda: result_type(OPS["concat"](), [X, f32(1, 8, 3, 3)]), "CIR210", "same stride"),
    ("concat nothing", lambda: result_type(OPS["concat"](), []), "CIR210", "at least one"),
    ("add channels", lambda: _infer(Add(), X, f32(1, 4, 6, 6)), "CIR211", "to 8 channels"),
    ("add sizes", lambda: _infer(Add(), X, f32(1, 8, 3, 3)), "CIR211", "same stride"),
    ("add ranks", lambda: _infer(Add(), X, V), "CIR211", "flatten both"),
]


def _infer(op: Op, *xs: TensorType, params: bool = True) -> TensorType:
    specs = op.params(*xs) if params else []
    return result_type(op, [*xs, *(f32(*s.shape) for s in specs)])


@pytest.mark.parametrize(("make", "code", "words"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_what_does_not_fit_is_refused(make: Callable[[], Any], code: str, words: str) -> None:
    with pytest.raises(CompactError) as caught:
        make()
    assert caught.value.code == code
    assert words in str(caught.value)
    assert code in CATALOGUE
    assert caught.value.message[0] == "`" or not caught.value.message[0].isupper()
    assert not caught.value.message.endswith(".")


# -- graphs of operations ------------------------------------------------------------------------------------


def test_apply_declares_the_parameters() -> None:
    graph = Graph("g")
    x = graph.input("x", X)
    graph.apply(spelled("conv", X, 4, 3, bias=True), [x], "stem.conv1")
    assert list(graph.params) == ["stem.conv1.weight", "stem.conv1.bias"]
    assert graph.trainable == 4 * 8 * 9 + 4
    assert graph.macs == 36 * 4 * 8 * 9
    assert [isinstance(p, Param) for p in graph.nodes[0].args] == [False, True, True]
    with pytest.raises(CompactError, match="CIR304"):
        graph.apply(spelled("conv", X, 4, 3), [x], "stem.conv1")


def test_mixed_kernels_have_numbered_weights() -> None:
    graph = Graph("g")
    graph.apply(spelled("depthwise", X, [3, 5]), [graph.input("x", X)], "mix")
    assert {n: p.type.shape for n, p in graph.params.items()} == {
        "mix.weight0": (4, 1, 3, 3),
        "mix.weight1": (4, 1, 5, 5),
    }


@settings(max_examples=50)
@given(st.integers(1, 12), st.data())
def test_views_compose_as_lists(channels: int, data: st.DataObject) -> None:
    picks = st.lists(st.integers(0, channels - 1), min_size=1, max_size=9)
    first = ChannelList.of(data.draw(picks))
    second = ChannelList.of(data.draw(st.lists(st.integers(0, len(first) - 1), min_size=1, max_size=9)))
    gather = OPS["gather"]
    x = np.arange(channels, dtype=np.float32).reshape(1, channels, 1, 1)
    twice = gather(second).reference(gather(first).reference(x))  # type: ignore[call-arg]  # fields of the subclass
    once = gather(first.take(second)).reference(x)  # type: ignore[call-arg]  # fields of the subclass
    assert np.array_equal(twice, once)
