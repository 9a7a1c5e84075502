"""The laws of channel lists and connectivities, each against the masked dense convolution."""

from __future__ import annotations

from collections.abc import Sequence

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given, settings

from compactir.diagnostics import CompactError
from compactir.ir import algebra
from compactir.ir.channels import ChannelList, Run, inverse, is_permutation, shuffle
from compactir.ir.connectivity import Block, Connectivity, Family, Kernel, Pad, same_padding
from compactir.ir.types import Array
from compactir.ops.conv import Conv
from tests.effort import calls
from tests.graphs import connectivities, kernels, masks

channel_lists = st.one_of(
    st.lists(st.integers(0, 12), max_size=12),
    st.builds(
        lambda a, n, s: list(range(a, a + n * s, s)), st.integers(0, 9), st.integers(0, 9), st.integers(1, 3)
    ),
)


def weights_of(connect: Connectivity, seed: int = 0) -> list[Array]:
    """Small whole numbers: sums of their products are exact, so equal means equal."""
    rng = np.random.default_rng(seed)
    return [rng.integers(-4, 5, shape).astype(np.float64) for shape in connect.weight_shapes]


def convolve(dense: Array, pad: Pad, x: Array, stride: Kernel = (1, 1), dilation: Kernel = (1, 1)) -> Array:
    """A dense convolution by its definition: one multiply at a time over output pixels and taps."""
    top, left, bottom, right = pad
    height, width = x.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (9, 9), (9, 9)))  # of which as much is taken as the padding says
    padded = padded[:, :, 9 - top : 9 + height + bottom, 9 - left : 9 + width + right]
    rows, columns = dense.shape[2:]
    height = (padded.shape[2] - dilation[0] * (rows - 1) - 1) // stride[0] + 1
    width = (padded.shape[3] - dilation[1] * (columns - 1) - 1) // stride[1] + 1
    y = np.zeros((x.shape[0], dense.shape[0], height, width), x.dtype)
    for i in range(height):
        for j in range(width):
            for ky in range(rows):
                for kx in range(columns):
                    pixel = padded[:, :, i * stride[0] + ky * dilation[0], j * stride[1] + kx * dilation[1]]
                    y[:, :, i, j] += pixel @ dense[:, :, ky, kx].T
    return y


def image(channels: int, seed: int = 1) -> Array:
    """Whole numbers again, (2, C, 4, 5)."""
    return np.random.default_rng(seed).integers(-3, 4, (2, channels, 4, 5)).astype(np.float64)


def run(connect: Connectivity, weights: Sequence[Array], x: Array) -> Array:
    """The reference of the one convolution."""
    return Conv(connect).reference(x, *weights)


# -- channel lists -------------------------------------------------------------------------------------------


@given(channel_lists)
def test_lists_keep_their_channels(channels: list[int]) -> None:
    compressed = ChannelList.of(channels)
    assert list(compressed) == channels
    assert len(compressed) == len(channels)
    assert compressed == ChannelList.of(np.array(channels, np.int64))
    assert ChannelList.parse(str(compressed)) == compressed
    assert compressed.top == max(channels, default=-1)
    assert compressed.is_distinct == (len(set(channels)) == len(channels))
    assert compressed.is_plain_range == (
        channels == list(range(channels[0], channels[0] + len(channels))) if channels else True
    )


@given(channel_lists, channel_lists)
def test_lists_join_and_take(first: list[int], second: list[int]) -> None:
    assert list(ChannelList.joined([ChannelList.of(first), ChannelList.of(second)])) == first + second
    assume(first)
    places = [p % len(first) for p in second]
    assert list(ChannelList.of(first).take(places)) == [first[p] for p in places]
    assert ChannelList.of(first).take(ChannelList.of(places)) == ChannelList.of(first).take(places)


@given(st.integers(0, 9), st.integers(0, 40), st.integers(1, 4))
def test_a_range_is_one_run(start: int, count: int, step: int) -> None:
    ranged = ChannelList.range(start, start + count * step, step)
    assert list(ranged) == list(range(start, start + count * step, step))
    assert len(ranged.runs) <= 1


@pytest.mark.parametrize(
    ("text", "channels"),
    [
        ("", []),
        ("7", [7]),
        ("0..4", [0, 1, 2, 3]),
        ("1..8:3", [1, 4, 7]),
        ("3..0:-1", [3, 2, 1, 0]),
        ("6..2:-2", [6, 4, 2]),
        ("5*3", [5, 5, 5]),
        ("5,1,3", [5, 1, 3]),
        ("0..2,9,4..7", [0, 1, 9, 4, 5, 6]),
    ],
)
def test_lists_print_as_documented(text: str, channels: list[int]) -> None:
    assert str(ChannelList.of(channels)) == text
    assert list(ChannelList.parse(text)) == channels


@pytest.mark.parametrize("text", ["-1", "a", "1..", "1..4:0", "2*", "1;2", "99999999", "0..4:", "1 2"])
def test_wrong_lists_are_refused(text: str) -> None:
    with pytest.raises(CompactError, match="CIR301"):
        ChannelList.parse(text)


def test_negative_channels_are_refused() -> None:
    with pytest.raises(CompactError, match="CIR302"):
        ChannelList.of([0, -1])


def test_many_ranges_are_found_in_linear_time() -> None:
    def effort(count: int) -> int:
        channels = np.random.default_rng(0).permutation(count)
        return calls(lambda: ChannelList.of(channels))

    assert effort(20_000) < 15 * effort(2_000)


def test_many_equal_blocks_are_one_object() -> None:
    assert len(Connectivity.grouped(960, 960, 960, (3, 3), (1, 1, 1, 1)).families) == 1
    assert Connectivity.grouped(960, 960, 960).families[0].inputs.runs == (Run(0, 960),)
    assert str(Connectivity.grouped(960, 960, 960)) == "depthwise(960, 1x1)"


@given(st.permutations(range(7)), st.permutations(range(7)))
def test_permutations_form_a_group(p: list[int], q: list[int]) -> None:
    a, b = ChannelList.of(p), ChannelList.of(q)
    assert is_permutation(a)
    assert a.take(inverse(a)).is_identity(7)
    assert inverse(a).take(a).is_identity(7)
    assert inverse(a.take(b)) == inverse(b).take(inverse(a))


@given(st.integers(1, 5), st.integers(1, 5))
def test_a_shuffle_is_a_transpose(groups: int, each: int) -> None:
    channels = groups * each
    expected = np.arange(channels).reshape(groups, each).T.reshape(-1)
    assert np.array_equal(shuffle(channels, groups).array, expected)
    assert shuffle(channels, groups).take(shuffle(channels, each)).is_identity(channels)
    assert inverse(shuffle(channels, groups)) == shuffle(channels, each)


def test_a_repeating_list_is_no_permutation() -> None:
    assert not is_permutation(ChannelList.of([0, 0, 1]))
    assert not is_permutation(ChannelList.of([1, 2]))


# -- what a connectivity means -------------------------------------------------------------------------------


@settings(max_examples=150)
@given(connectivities())
def test_blocks_are_the_masked_dense_convolution(connect: Connectivity) -> None:
    weights, x = weights_of(connect), image(connect.in_channels)
    dense, pad = connect.to_dense(weights)
    assert dense.shape == (connect.out_channels, connect.in_channels, *connect.kernel)
    assert np.array_equal(run(connect, weights, x), convolve(dense, pad, x))
    assert not dense[~connect.mask].any()


@given(connectivities())
def test_blocks_come_back_from_dense(connect: Connectivity) -> None:
    weights = weights_of(connect)
    dense, _ = connect.to_dense(weights)
    again = connect.from_dense(dense)
    assert [w.shape for w in again] == [w.shape for w in weights]
    assert np.array_equal(connect.to_dense(again)[0], dense)
    if all(b.inputs.is_distinct for f in connect.families for b in f.blocks()):
        assert all(np.array_equal(a, b) for a, b in zip(again, weights, strict=True))


@given(connectivities(), st.integers(1, 3), st.integers(1, 3))
def test_a_dense_weight_loses_only_what_is_not_linked(
    connect: Connectivity, seed: int, dilation: int
) -> None:
    kinds = {(f.kernel, f.pad) for f in connect.families}
    assume(len(kinds) == 1)
    rng = np.random.default_rng(seed)
    dense = rng.integers(-4, 5, (connect.out_channels, connect.in_channels, *connect.kernel)).astype(
        np.float64
    )
    picked, _ = connect.to_dense(connect.from_dense(dense, (dilation, dilation)), (dilation, dilation))
    assert np.array_equal(picked, dense * connect.mask[:, :, None, None])


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_mixed_kernels_share_one_grid(stride: int, dilation: int) -> None:
    d = dilation
    pads: list[Pad] = [(0, 0, 0, 0), (d, d, d, d), (2 * d, d, 2 * d, d)]
    connect = Connectivity.parts([(1, 2), (2, 1), (1, 1)], [(1, 1), (3, 3), (5, 3)], pads)
    weights = weights_of(connect)
    x = np.random.default_rng(0).integers(-3, 4, (1, 4, 9, 8)).astype(np.float64)
    dense, pad = connect.to_dense(weights, (d, d))
    op = Conv(connect, (stride, stride), (d, d))
    assert dense.shape[2:] == (5, 3)
    assert np.array_equal(op.reference(x, *weights), convolve(dense, pad, x, (stride, stride), (d, d)))


@pytest.mark.parametrize("pads", [[(-1, -1, 0, 0)] * 2, [(-1, 0, 1, -2), (0, 1, 2, -1)]])
def test_padding_below_zero_cuts_off(pads: list[Pad]) -> None:
    kernels = [(1, 1), (1, 1)] if pads[0] == pads[1] else [(1, 1), (3, 3)]
    connect = Connectivity.parts([(1, 2), (2, 1)], kernels, pads)
    weights = weights_of(connect)
    x = np.random.default_rng(0).integers(-3, 4, (1, 3, 7, 8)).astype(np.float64)
    dense, pad = connect.to_dense(weights)
    assert np.array_equal(run(connect, weights, x), convolve(dense, pad, x))
    assert Connectivity.parse(str(connect)) == connect


def test_paddings_that_share_no_grid_are_refused() -> None:
    connect = Connectivity.parts([(1, 1), (1, 1)], [(1, 1), (2, 2)], [(0, 0, 0, 0), (1, 1, 1, 1)])
    with pytest.raises(CompactError, match="CIR303"):
        connect.to_dense(weights_of(connect), (2, 2))


@given(st.data())
def test_masks_and_blocks_are_each_other(data: st.DataObject) -> None:
    mask = data.draw(masks(data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))))
    connect = Connectivity.from_mask(mask)
    assert np.array_equal(connect.mask, mask)
    assert connect.weights == mask.sum()
    assert np.array_equal(Connectivity.from_mask(connect.mask).mask, mask)


@given(connectivities())
def test_text_round_trip(connect: Connectivity) -> None:
    assert Connectivity.parse(str(connect)) == connect


@pytest.mark.parametrize(
    ("connect", "text"),
    [
        (Connectivity.dense(3, 8, (3, 3), (1, 1, 1, 1)), "dense(3->8, 3x3, pad 1)"),
        (Connectivity.dense(3, 8, (5, 3), (2, 1, 0, 3)), "dense(3->8, 5x3, pad 2/1/0/3)"),
        (Connectivity.grouped(6, 4, 2), "groups(2, 6->4, 1x1)"),
        (Connectivity.grouped(5, 5, 5, (3, 3)), "depthwise(5, 3x3)"),
        (Connectivity.grouped(3, 6, 3), "groups(3, 3->6, 1x1)"),
        (
            Connectivity.parts([(1, 2), (2, 1)]),
            "blocks(3->3; 1 of [0]->[0..2], 1x1; 1 of [1..3]->[2], 1x1)",
        ),
        (Connectivity(3, 2, ()), "blocks(3->2; )"),
    ],
)
def test_connectivities_print_as_documented(connect: Connectivity, text: str) -> None:
    assert str(connect) == text
    assert Connectivity.parse(text) == connect


def test_the_convolution_by_definition_can_fail() -> None:
    connect = Connectivity.grouped(4, 4, 2, (3, 3), (1, 1, 1, 1))
    weights, x = weights_of(connect), image(4)
    swapped = [weights[0][[1, 0, 2, 3]]]
    assert not np.array_equal(run(connect, swapped, x), convolve(*connect.to_dense(weights), x))


# -- predicates and spellings --------------------------------------------------------------------------------


def test_spellings_are_known_by_what_they_link() -> None:
    assert Connectivity.dense(3, 5).is_dense
    assert Connectivity.grouped(6, 9, 3).groups == 3
    assert Connectivity.grouped(4, 4, 4).is_depthwise
    assert not Connectivity.grouped(4, 8, 4).is_depthwise
    mixed = Connectivity.parts([(1, 1)] * 4, [(3, 3)] * 2 + [(5, 5)] * 2, [(1,) * 4] * 2 + [(2,) * 4] * 2)
    assert mixed.is_depthwise
    assert mixed.groups is None
    assert mixed.kernel == (5, 5)
    assert not Connectivity.dense(3, 3, (3, 3)).is_identity_kernel
    assert Connectivity.parts([(2, 1), (1, 2)]).is_identity_kernel


def test_tables_list_the_inputs_of_every_output() -> None:
    connect = Connectivity.table(4, {0: [0, 1], 1: [1, 2], 2: [0, 2, 3], 3: [3]}, (3, 3))
    expected = np.zeros((4, 4), np.bool_)
    expected[0, [0, 1]] = expected[1, [1, 2]] = expected[2, [0, 2, 3]] = expected[3, 3] = True
    assert np.array_equal(connect.mask, expected)
    assert connect.weights == 8 * 9
    assert len(connect.families) == 3


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=8), st.lists(st.integers(0, 3), min_size=1, max_size=8)
)
def test_learned_groups_join_equals(reads: list[int], makes: list[int]) -> None:
    connect = Connectivity.learned(reads, makes)
    assert np.array_equal(connect.mask, np.equal.outer(makes, reads))


def test_learned_groups_may_be_empty() -> None:
    connect = Connectivity.learned([0, 0, 2], [0, 1, 1, 2])
    assert (connect.in_channels, connect.out_channels) == (3, 4)
    assert not connect.mask[1:3].any()
    none = Connectivity.learned([0], [1])
    assert np.array_equal(run(none, [], np.ones((1, 1, 2, 2))), np.zeros((1, 1, 2, 2)))


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: Connectivity.grouped(6, 4, 3), "CIR203"),
        (lambda: Connectivity.grouped(6, 4, 0), "CIR203"),
        (
            lambda: Connectivity(2, 2, (Family(1, ChannelList.of([2]), ChannelList.of([0]), (1, 1)),)),
            "CIR303",
        ),
        (
            lambda: Connectivity(2, 2, (Family(1, ChannelList.of([0]), ChannelList.of([2]), (1, 1)),)),
            "CIR303",
        ),
        (
            lambda: Connectivity(2, 2, (Family(2, ChannelList.of([0, 1]), ChannelList.of([1, 1]), (1, 1)),)),
            "CIR303",
        ),
        (lambda: Family(2, ChannelList.of([0]), ChannelList.of([0, 1]), (1, 1)), "CIR303"),
        (lambda: Family(0, ChannelList.of([]), ChannelList.of([]), (1, 1)), "CIR303"),
        (lambda: Connectivity.dense(1, 1, (5, 5)).out_size((4, 4), (1, 1), (1, 1)), "CIR204"),
        (
            lambda: Connectivity.parts([(1, 1)] * 2, [(1, 1), (3, 3)]).out_size((4, 4), (1, 1), (1, 1)),
            "CIR204",
        ),
        (lambda: Connectivity.parse("nothing"), "CIR301"),
        (lambda: Connectivity.parse("blocks(1->1; what)"), "CIR301"),
    ],
)
def test_what_does_not_fit_is_refused(make: object, code: str) -> None:
    assert callable(make)
    with pytest.raises(CompactError, match=code):
        make()


@given(st.integers(1, 30), st.integers(1, 7), st.integers(1, 4), st.integers(1, 3))
def test_same_padding_gives_the_ceiling(size: int, kernel: int, stride: int, dilation: int) -> None:
    pad = same_padding((size, size), (kernel, kernel), (stride, stride), (dilation, dilation))
    connect = Connectivity.dense(1, 1, (kernel, kernel), pad)
    assert connect.out_size((size, size), (stride, stride), (dilation, dilation))[0] == -(-size // stride)
    assert 0 <= pad[2] - pad[0] <= 1


# -- the algebra ---------------------------------------------------------------------------------------------


@given(connectivities(), st.data())
def test_reading_goes_through_the_list(connect: Connectivity, data: st.DataObject) -> None:
    channels = data.draw(st.integers(1, 8))
    size = connect.in_channels
    sources = ChannelList.of(data.draw(st.lists(st.integers(0, channels - 1), min_size=size, max_size=size)))
    weights, x = weights_of(connect), image(channels)
    moved = connect.reading(sources, channels)
    assert np.array_equal(run(moved, weights, x), run(connect, weights, x[:, sources.array]))


@given(connectivities(), st.data())
def test_writing_permutes_the_outputs(connect: Connectivity, data: st.DataObject) -> None:
    sources = ChannelList.of(data.draw(st.permutations(range(connect.out_channels))))
    weights, x = weights_of(connect), image(connect.in_channels)
    moved = connect.writing(sources)
    assert np.array_equal(run(moved, weights, x), run(connect, weights, x)[:, sources.array])
    assert moved.writing(inverse(sources)) == connect


@given(connectivities(), st.data())
def test_permutations_on_either_side_cancel(connect: Connectivity, data: st.DataObject) -> None:
    p = ChannelList.of(data.draw(st.permutations(range(connect.in_channels))))
    q = ChannelList.of(data.draw(st.permutations(range(connect.out_channels))))
    moved = connect.reading(p, connect.in_channels).writing(q)
    dense, same = connect.to_dense(weights_of(connect))[0], moved.to_dense(weights_of(connect))[0]
    assert np.array_equal(same[:, p.array], dense[q.array])
    assert moved.reading(inverse(p), connect.in_channels).writing(inverse(q)) == connect


@given(connectivities())
def test_merging_families_keeps_the_weights(connect: Connectivity) -> None:
    weights, merged = weights_of(connect), connect.merged()
    stacked: list[Array] = []
    for family in merged.families:
        rows, taken = 0, []
        while rows < len(family.outputs):
            taken.append(weights.pop(0))
            rows += len(taken[-1])
        stacked.append(np.concatenate(taken))
    assert np.array_equal(merged.to_dense(stacked)[0], connect.to_dense(weights_of(connect))[0])
    assert merged.merged() == merged


@given(connectivities(), st.data())
def test_restriction_keeps_the_links_between_what_is_kept(connect: Connectivity, data: st.DataObject) -> None:
    inputs, outputs = (
        ChannelList.of(data.draw(st.lists(st.integers(0, n - 1), unique=True)))
        for n in (connect.in_channels, connect.out_channels)
    )
    weights = weights_of(connect)
    small, kept = algebra.restrict(connect, inputs, outputs, weights)
    assert (small.in_channels, small.out_channels) == (len(inputs), len(outputs))
    assert small.weight_shapes == tuple(w.shape for w in kept)
    assert np.array_equal(small.mask, connect.mask[outputs.array][:, inputs.array])
    x = image(connect.in_channels)
    gone = np.setdiff1d(np.arange(connect.in_channels), inputs.array)
    x[:, gone] = 0
    if small.families:
        assert np.array_equal(
            run(small, kept, x[:, inputs.array]), run(connect, weights, x)[:, outputs.array]
        )
    assert algebra.restrict(connect, inputs, outputs)[0] == small


def test_restriction_refuses_repeats_and_strangers() -> None:
    connect, all_of = Connectivity.dense(3, 3), ChannelList.span(0, 3)
    for wrong in (ChannelList.of([0, 0]), ChannelList.of([3])):
        for inputs, outputs in ((wrong, all_of), (all_of, wrong)):
            with pytest.raises(CompactError, match="CIR302"):
                algebra.restrict(connect, inputs, outputs)


@settings(max_examples=150)
@given(connectivities())
def test_the_normal_form_computes_the_same(connect: Connectivity) -> None:
    weights = weights_of(connect)
    form, carried = algebra.normal(connect, weights)
    assert form.weight_shapes == tuple(w.shape for w in carried)
    if form.families:
        x = image(connect.in_channels)
        assert np.array_equal(run(form, carried, x), run(connect, weights, x))
    assert np.array_equal(form.mask, connect.mask)
    assert algebra.normal(form, carried)[0] == form
    assert algebra.normal(connect)[0] == form


@given(connectivities(), st.data())
def test_the_normal_form_forgets_how_it_was_written(connect: Connectivity, data: st.DataObject) -> None:
    """Blocks in another order, cut into single outputs, their inputs turned round: the same normal form."""
    weights = weights_of(connect)
    parts = []
    for piece in algebra.pieces(connect, weights):
        order = data.draw(st.permutations(range(len(piece.block.inputs))))
        for row, output in enumerate(piece.block.outputs):
            block = Block(
                piece.block.inputs.take(order),
                ChannelList.span(output, 1),
                piece.block.kernel,
                piece.block.pad,
            )
            parts.append(algebra.Piece(block, piece.weight[row : row + 1][:, order]))
    other, moved = algebra.join(connect.in_channels, connect.out_channels, data.draw(st.permutations(parts)))
    form, carried = algebra.normal(connect, weights)
    same, again = algebra.normal(other, moved)
    assert (same, str(same)) == (form, str(form))
    assert all(np.array_equal(a, b) for a, b in zip(carried, again, strict=True))


@pytest.mark.parametrize(
    "connect",
    [
        Connectivity.dense(3, 5),
        Connectivity.grouped(6, 4, 2),
        Connectivity.grouped(5, 5, 5),
        Connectivity.parts([(2, 3), (1, 1)]),
    ],
)
def test_plain_spellings_are_normal(connect: Connectivity) -> None:
    assert algebra.normal(connect)[0] == connect


@settings(max_examples=150)
@given(st.data())
def test_a_product_does_one_after_the_other(data: st.DataObject) -> None:
    through, point = data.draw(st.integers(1, 6)), ((1, 1), (0, 0, 0, 0))
    first, second = (
        Connectivity.from_mask(
            data.draw(masks(outs, ins)), *data.draw(kernels(3) if spatial else st.just(point))
        )
        for outs, ins, spatial in [(through, 4, data.draw(st.booleans())), (5, through, False)]
    )
    if data.draw(st.booleans()):
        second, first = _spatial(second), _point(first)
    a, b, x = weights_of(first, 1), weights_of(second, 2), image(4)
    both, weights = algebra.product(first, second, a, b)
    expected = run(second, b, run(first, a, x))
    result = run(both, weights, x) if both.families else np.zeros_like(expected)
    assert np.array_equal(result, expected)
    assert np.array_equal(both.mask, (second.mask.astype(int) @ first.mask.astype(int)) > 0)
    assert algebra.product(first, second)[0] == both


def _spatial(connect: Connectivity) -> Connectivity:
    return Connectivity.from_mask(connect.mask, (3, 3), (1, 1, 1, 1))


def _point(connect: Connectivity) -> Connectivity:
    return Connectivity.from_mask(connect.mask)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (((3, 1), (1, 0, 1, 0)), ((1, 3), (0, 1, 0, 1))),  # Jaderberg's scheme 2
        (((1, 3), (0, 2, 0, 0)), ((3, 1), (0, 0, 2, 0))),
        (((3, 2), (1, 1, 1, 0)), ((2, 2), (0, 0, 0, 0))),  # any padding before one without
        (((2, 1), (1, 0, 1, 0)), ((2, 3), (0, 1, 0, 1))),
    ],
)
def test_kernels_multiply_out_where_borders_allow(
    first: tuple[Kernel, Pad], second: tuple[Kernel, Pad]
) -> None:
    a, b = Connectivity.grouped(4, 6, 2, *first), Connectivity.dense(6, 5, *second)
    w, v, x = weights_of(a, 1), weights_of(b, 2), image(4)
    both, weights = algebra.product(a, b, w, v)
    assert np.array_equal(run(both, weights, x), run(b, v, run(a, w, x)))


def test_products_that_are_none_are_refused() -> None:
    spatial = Connectivity.dense(3, 3, (3, 3), (1, 1, 1, 1))
    mixed = Connectivity.parts([(1, 1), (2, 2)], [(1, 1), (3, 3)], [(0,) * 4, (1,) * 4])
    for first, second in [
        (spatial, spatial),
        (Connectivity.dense(3, 3), mixed),
        (Connectivity.dense(3, 4), spatial),
    ]:
        with pytest.raises(CompactError, match="CIR303"):
            algebra.product(first, second)


def test_group_convolutions_multiply_out_to_all_links() -> None:
    """IGCV: groups, a shuffle, groups again reach every input from every output."""
    first = Connectivity.grouped(6, 6, 2).writing(shuffle(6, 2))
    both, _ = algebra.product(first, Connectivity.grouped(6, 6, 3))
    assert both.is_dense


@given(connectivities(), st.integers(1, 9), st.integers(1, 8))
def test_cost_counts_the_links(connect: Connectivity, pixels: int, lanes: int) -> None:
    cost = algebra.cost(connect, pixels, lanes)
    links = sum(w.size for w in weights_of(connect))
    assert (cost.macs, cost.weights) == (pixels * links, links)
    assert cost.channels_read == connect.mask.any(axis=0).sum()
    assert cost.macs <= cost.executed <= cost.macs * lanes
    assert algebra.cost(connect, pixels).executed == cost.macs


def test_cost_fills_the_last_vector() -> None:
    cost = algebra.cost(Connectivity.grouped(6, 20, 2, (3, 3)), 49, 8)
    assert (cost.macs, cost.executed) == (49 * 20 * 3 * 9, 49 * 2 * 16 * 3 * 9)
    assert (cost.channels_read, cost.channels_written, cost.weights) == (6, 20, 540)
