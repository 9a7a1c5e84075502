"""Operations on tensors of any rank in C: views, loops, and where they meet layers on maps."""

from __future__ import annotations

from functools import cache
from itertools import count, islice
from math import prod
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from numpy.lib.stride_tricks import as_strided

from compactir.codegen.c.emit import emit_c
from compactir.codegen.lower import Lowered, lower, parts
from compactir.codegen.lower.strides import View, merged
from compactir.diagnostics import CompactError
from compactir.ir.channels import ChannelList
from compactir.ir.connectivity import Connectivity
from compactir.ir.graph import Graph, Value
from compactir.ir.op import Op
from compactir.ir.plan import Nest
from compactir.ir.plan_text import parse_plan, print_plan
from compactir.ir.types import TensorType
from compactir.ir.verify_plan import verify_plan
from compactir.ops.activation import Relu, Softmax
from compactir.ops.combine import Add
from compactir.ops.conv import Conv
from compactir.ops.linear import Linear
from compactir.ops.norm import Affine, Lrn
from compactir.ops.pool import MaxPool
from compactir.ops.tensor import Binary, Expand, Join, MatMul, Pad, Reduce, Reshape, Take, Transpose, Unary
from compactir.runtime.build import find_compiler
from compactir.targets import Target, load_target, unsupported
from tests.c.networks import AT_END, AT_START, Case, Program, Request, build, disagreements
from tests.c.tensors import is_steady, tensor_graph
from tests.graphs import random_weights

TARGETS = [t for t in map(load_target, ("c", "x86", "x86-avx512")) if not unsupported(t)]
X86 = load_target("x86")


def network(*ops: Op, shape: tuple[int, ...] = (1, 6, 4, 5), twice: bool = False) -> Graph:
    """One operation after the other."""
    graph = Graph("chain")
    x: Value = graph.input("x", TensorType.f32(*shape))
    for i, op in enumerate(ops):
        x = graph.apply(op, [x, x] if twice and i == len(ops) - 1 else [x], f"n{i}")
    graph.outputs["y"] = x
    graph.weights = random_weights(graph)
    return graph


def steps(lowered: Lowered) -> list[str]:
    """The names of what runs."""
    return [step.name for step in lowered.plan.steps]


# -- views ---------------------------------------------------------------------------------------------------


def elements(view: View, memory: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The elements that a view means."""
    return as_strided(memory[view.start :], view.shape, [memory.itemsize * s for s in view.strides])


@given(st.data())
def test_views_mean_what_numpy_does(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 5), max_size=4)))
    memory = np.arange(prod(shape))
    view, array = View.dense(shape), memory.reshape(shape)
    for _ in range(data.draw(st.integers(1, 5))):
        what = data.draw(st.sampled_from(["transposed", "expanded", "part", "reshaped"]))
        if what == "transposed":
            order = data.draw(st.permutations(range(array.ndim)))
            view, array = view.transposed(order), array.transpose(order)
        elif what == "expanded":
            wide = tuple(3 if e == 1 and data.draw(st.booleans()) else e for e in array.shape)
            wide = (2, *wide) if data.draw(st.booleans()) else wide
            view, array = view.expanded(wide), np.broadcast_to(array, wide)
        elif what == "part" and array.ndim:
            axis = data.draw(st.integers(0, array.ndim - 1))
            first, last = (data.draw(st.integers(0, array.shape[axis] - 1)) for _ in range(2))
            step = 1 if last >= first else -1
            view = view.part(axis, first, abs(last - first) + 1, step)
            array = array.take(range(first, last + step, step), axis)
        elif what == "reshaped":
            factors = data.draw(st.permutations([e for e in array.shape if e > 1]))
            wanted = data.draw(st.sampled_from([(array.size,), tuple(factors), (1, *array.shape, 1)]))
            found = view.reshaped(wanted)
            if found is not None:
                view, array = found, array.reshape(wanted)
        assert view.shape == array.shape
        np.testing.assert_array_equal(elements(view, memory), array)


def test_dense_elements_take_every_shape() -> None:
    view = View.dense((2, 3, 4, 5))
    assert [view.reshaped(s) is not None for s in ((120,), (6, 20), (5, 4, 3, 2), (1, 1, 120))] == [True] * 4
    turned = view.transposed([0, 2, 1, 3])
    assert turned.reshaped((2, 4, 15)) is None
    assert turned.reshaped((2, 2, 2, 3, 5)) is not None


def test_loops_are_merged_where_all_walk_on() -> None:
    dense, spread = (20, 5, 1), (0, 5, 1)
    assert merged((3, 4, 5), [dense]) == [(60, [1])]
    assert merged((3, 4, 5), [dense, spread]) == [(3, [20, 0]), (20, [1, 1])]
    assert merged((1, 1), [(7, 7)]) == []


# -- what runs -----------------------------------------------------------------------------------------------


def test_views_are_no_code() -> None:
    ops = [Transpose((0, 2, 3, 1)), Take(1, ChannelList.of([3, 1])), Reshape((2, 5, 6)), Unary("neg")]
    assert steps(lower(network(*ops), X86)) == ["n3"]


def test_functions_of_elements_are_one_loop() -> None:
    ops = [Reduce("mean", (1,)), Unary("sqrt"), Unary("neg"), Relu()]
    [step] = lower(network(*ops, shape=(1, 8, 40)), X86).plan.steps
    assert step.nodes == ("n0", "n1", "n2", "n3")
    [call] = step.calls
    assert isinstance(call.kernel, Nest)
    assert (call.kernel.core, [op.label for op in call.kernel.epilogue]) == ("mean", ["sqrt", "neg", "relu"])


def test_a_value_that_two_read_is_made() -> None:
    graph = network(Transpose((0, 2, 1)), Unary("exp"), shape=(1, 5, 6))
    y = graph.outputs["y"]
    graph.outputs["y"] = graph.apply(Binary("sub"), [y, graph.apply(Unary("neg"), [y], "a")], "b")
    assert steps(lower(graph, X86)) == ["n1", "a", "b"]


def test_an_operand_that_is_not_the_first_does_not_lead() -> None:
    """E^x − …: the loops cannot begin with what is subtracted; a sum's can with either."""
    for op, expected in ((Binary("sub"), ["a", "b"]), (Binary("add"), ["b"])):
        graph = Graph("order")
        x, z = (graph.input(n, TensorType.f32(5, 6)) for n in "xz")
        turned = graph.apply(Transpose((1, 0)), [graph.apply(Reshape((6, 5)), [z], "r")], "t")
        graph.outputs["y"] = graph.apply(op, [x, graph.apply(Unary("exp"), [turned], "a")], "b")
        assert steps(lower(graph, X86)) == expected


def test_rows_of_a_product_share_what_they_load() -> None:
    [step] = lower(network(MatMul(), shape=(2, 8, 8), twice=True), X86).plan.steps
    [call] = step.calls
    assert isinstance(call.kernel, Nest)
    assert (call.kernel.rows, call.kernel.along, step.macs) == (6, False, 0)


def test_a_constant_matrix_lies_in_panels() -> None:
    """The columns of a tile one after the other: of 48 there are three panels for vectors of 8."""
    graph = Graph("product")
    x, w = graph.input("x", TensorType.f32(2, 5, 3)), graph.param("w", TensorType.f32(3, 48))
    graph.outputs["y"] = graph.append(MatMul(), [graph.apply(Transpose((1, 0, 2)), [x], "t"), w], "y")
    graph.weights = random_weights(graph)
    lowered = lower(graph, X86)
    kernel = lowered.plan.steps[-1].calls[0].kernel
    assert isinstance(kernel, Nest)
    assert kernel.extents == (5, 2, 48)  # rows lie at two distances
    graph.outputs["y"] = graph.append(MatMul(), [graph.apply(Unary("neg"), [x], "n"), w], "z")
    lowered = lower(graph, X86)
    kernel = lowered.plan.steps[-1].calls[0].kernel
    assert isinstance(kernel, Nest)
    assert (kernel.extents, kernel.rows, kernel.operands[1].strides) == ((3, 10, 16), 6, (48, 0, 1, 16))
    panels = lowered.weights[-144:].reshape(3, 3, 16)
    np.testing.assert_array_equal(panels, graph.weights["w"].reshape(3, 3, 16).swapaxes(0, 1))


def test_a_turned_second_matrix_is_brought_into_order() -> None:
    graph = network(Transpose((0, 2, 1)), shape=(1, 8, 7))
    turned = graph.outputs["y"]
    graph.outputs["y"] = graph.apply(MatMul(), [graph.inputs[0], turned], "product")
    assert steps(lower(graph, X86)) == ["product.turned", "product"]


def test_sums_along_neighbours_are_vectors() -> None:
    def kernel(axis: int) -> Nest:
        [step] = lower(network(Reduce("sum", (axis,)), shape=(4, 30, 40)), X86).plan.steps
        found = step.calls[0].kernel
        assert isinstance(found, Nest)
        return found

    assert kernel(2).along
    assert not kernel(1).along


def test_layers_meet_tensors_in_planes() -> None:
    ops = [
        Conv(Connectivity.dense(6, 8)),
        Transpose((0, 1, 3, 2)),
        Unary("erf"),
        Conv(Connectivity.dense(8, 3)),
    ]
    names = steps(lower(network(*ops), X86))
    assert names.index("n0.tensor") < names.index("n2") < names.index("n3")


def test_a_layer_on_elements_goes_on_where_tensors_are() -> None:
    ops = [Transpose((0, 3, 1, 2)), Unary("exp"), Affine(), Relu(), Reduce("max", (3,))]
    assert steps(lower(network(*ops), X86)) == ["n3", "n4"]


def test_softmax_of_what_is_no_map() -> None:
    graph = network(Reshape((5, 6, 2, 2)), Softmax())
    assert steps(lower(graph, X86))[-1] == "n1"
    assert "max over 6" in emit_c(lower(graph, X86), X86).source


def test_images_that_mix_are_whole_tensors() -> None:
    """Two images, and a product over them: nothing can be made image by image."""
    assert lower(network(Unary("neg"), shape=(2, 3, 4)), X86).plan.batch == 2
    graph = network(Transpose((1, 0, 2)), shape=(2, 3, 4))
    assert lower(graph, X86).plan.batch == 1
    assert lower(network(Linear(5), shape=(3, 7)), X86).plan.batch == 3


def test_a_new_first_axis_does_not_count_images() -> None:
    """As many rows as images, which are not the images."""
    assert lower(network(Expand((2, 2, 3)), shape=(2, 3)), X86).plan.batch == 1
    assert lower(network(Expand((2, 4, 3)), shape=(2, 1, 3)), X86).plan.batch == 2


def test_a_constant_with_rows_for_every_image_is_read_whole() -> None:
    graph = Graph("rows")
    x, p = graph.input("x", TensorType.f32(2, 3, 4)), graph.param("p", TensorType.f32(2, 5, 4))
    graph.outputs["y"] = graph.append(Join(1), [x, p], "join")
    graph.weights = random_weights(graph)
    assert lower(graph, X86).plan.batch == 1
    assert lower(network(Linear(5), shape=(2, 7)), X86).plan.batch == 2


def test_several_images_in_one_axis() -> None:
    """Windows of two images one after the other: still image by image, convolutions of maps included."""
    windows = [
        Reshape((2, 3, 4, 5)),
        Transpose((0, 2, 1, 3)),
        Reshape((8, 3, 5)),
        Reduce("sum", (2,), keep=False),
    ]
    ops = [Conv(Connectivity.dense(6, 3)), Reshape((2, 3, 4, 5)), *windows[1:], Linear(7), Reshape((2, 28))]
    plan = lower(network(*ops, shape=(2, 6, 4, 5)), X86).plan
    assert plan.batch == 2
    verify_plan(plan)


def test_axes_of_images_that_move_want_one_image() -> None:
    ops = [MaxPool((2, 2), (2, 2)), Transpose((1, 0, 2, 3))]
    assert lower(network(*ops), X86).plan.batch == 1
    with pytest.raises(CompactError, match=r"CIR501.*take the model for one image"):
        lower(network(*ops, shape=(2, 6, 4, 5)), X86)


def test_what_has_no_loops_is_listed() -> None:
    """Layers that look at neighbours work on maps of the network's images alone."""
    graph = network(Reshape((2, 3, 4, 5)), Lrn(), MaxPool((2, 2), (2, 2)))
    with pytest.raises(CompactError, match=r"CIR501.*`lrn` on f32\[2,3,4,5\] and 1 more"):
        lower(graph, X86)


def test_constants_lie_side_by_side() -> None:
    graph = network(Transpose((0, 2, 1)), shape=(1, 5, 6))
    values = [graph.param(f"p{i}", TensorType.f32(*s)) for i, s in enumerate([(5,), (6, 1)])]
    y = graph.outputs["y"]
    for i, value in enumerate(values):
        y = graph.append(Binary("sub"), [y, value], f"minus{i}")
    graph.outputs["y"] = y
    graph.weights = random_weights(graph)
    lowered = lower(graph, X86)
    [step] = lowered.plan.steps
    kernel = step.calls[0].kernel
    assert isinstance(kernel, Nest)
    assert [(w.packed, w.start, w.strides[-1]) for w in kernel.operands[1:]] == [(True, 0, 1), (True, 5, 0)]
    np.testing.assert_array_equal(
        lowered.weights[:11], np.concatenate([graph.weights[p.name].ravel() for p in values])
    )


def test_what_has_no_axes_is_expanded_to_none() -> None:
    assert Expand(()).reference(np.array(2.0)).shape == ()


def test_weights_that_many_steps_read_exist_once() -> None:
    graph = Graph("recurrence")
    h, w = graph.input("h", TensorType.f32(3, 8)), graph.param("w", TensorType.f32(8, 8))
    for i in range(4):
        h = graph.apply(Unary("neg"), [graph.append(MatMul(), [h, w], f"m{i}")], f"n{i}")
    graph.outputs["y"] = h
    graph.weights = random_weights(graph)
    assert lower(graph, X86).plan.weights == 64


def test_borders_are_written_once() -> None:
    [step] = lower(network(Pad((0, 0, 1, 2), (0, 1, 0, 3), -2.0)), X86).plan.steps
    written = sum(prod(c.kernel.extents) for c in step.calls if isinstance(c.kernel, Nest))
    assert written == step.written == 7 * 5 * 10


# -- random graphs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["c", "x86-avx512", "arm"])
@pytest.mark.parametrize("threads", [1, 3])
def test_plans_of_random_graphs_hold(target: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "WORTH", 0)
    for seed in range(60):
        plan = lower(tensor_graph(seed), load_target(target), threads).plan
        assert parse_plan(print_plan(plan)) == plan
        verify_plan(plan)


@cache
def cases(number: int, first: int = 0) -> tuple[Case, ...]:
    """The first steady ones from a seed on."""
    steady = ((s, g) for s in count(first) if is_steady(g := tensor_graph(s)))
    return tuple(Case(f"tensors {s}", g) for s, g in islice(steady, number))


def program(target: Target, folder: Path, threads: int = 1, *flags: str) -> Program:
    """Some graphs for a target."""
    return build(cases(40), target, find_compiler(target), folder, "-O0", *flags, threads=threads)


@pytest.mark.compiler
@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_random_graphs_equal_the_reference(target: Target, tmp_path: Path) -> None:
    built = program(target, tmp_path)
    assert [disagreements(built, placement) for placement in (AT_END, AT_START)] == [{}, {}]


def turned_sum(strided: bool) -> Graph:
    """A product of many columns, of which the epilogue or the second matrix is read in steps."""
    graph = Graph("turned")
    x = graph.input("x", TensorType.f32(1 if strided else 5, 7))
    z = graph.input("z", TensorType.f32(150, 7, 2))
    matrix = graph.apply(Transpose((1, 2, 0)), [z], "t")
    half = graph.apply(Take(1, ChannelList.of([1])), [matrix], "half")
    second = graph.apply(Reshape((7, 150)), [half], "r")
    if not strided:
        other = graph.apply(Take(0, ChannelList.of([0, 1, 2, 3, 4])), [second], "five")
        second = graph.apply(MatMul(), [x, graph.apply(Unary("neg"), [second], "n")], "product")
        graph.outputs["y"] = graph.apply(Add(), [second, other], "sum")
    else:
        graph.outputs["y"] = graph.apply(MatMul(), [x, second], "product")
    return graph


@pytest.mark.compiler
def test_several_vectors_in_steps(tmp_path: Path) -> None:
    graphs = [Case(f"turned {strided}", turned_sum(strided)) for strided in (False, True)]
    target = load_target("c")
    assert disagreements(build(graphs, target, find_compiler(target), tmp_path, "-O0")) == {}


@pytest.mark.compiler
@pytest.mark.parametrize("shape", [(1, 100000, 3), (1, 100003), (400, 300, 3)])
def test_long_sums_are_sums_of_sums(shape: tuple[int, ...], tmp_path: Path) -> None:
    """One after the other, 100000 equal numbers are 0.1 % off."""
    graph = network(Reduce("mean", tuple(range(len(shape)))[: 2 if len(shape) > 2 else None]), shape=shape)
    target = load_target("c")
    built = build([Case("mean", graph)], target, find_compiler(target), tmp_path, "-O1")
    [answer] = built.run([Request("mean", {"x": np.full(shape, 0.1, np.float32)})])
    np.testing.assert_allclose(answer["y"], 0.1, rtol=2e-5)


@pytest.mark.compiler
def test_threads_share_the_loops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "WORTH", 0)
    built = program(load_target("native"), tmp_path, 3)
    assert any(c.kernel.split for n in built.networks for s in n.lowered.plan.steps for c in s.calls)
    for threads in (1, 2, 3):
        built.environment = {"CREW": str(threads)}
        assert disagreements(built, AT_END) == {}


def test_the_sum_of_two_tensors_that_are_begun() -> None:
    """One leads, the other is made first."""
    graph = Graph("two")
    x = graph.input("x", TensorType.f32(2, 3, 4))
    turned = graph.apply(Transpose((1, 0, 2)), [x], "t")
    both = [graph.apply(Unary(f), [turned], f) for f in ("exp", "abs")]
    graph.outputs["y"] = graph.apply(Add(), both, "sum")
    assert steps(lower(graph, X86)) == ["abs", "sum"]
    graph.outputs["y"] = graph.apply(Join(0), [graph.outputs["y"], turned], "join")
    verify_plan(lower(graph, X86).plan)
