"""The judges themselves: parameters and multiply-accumulates of every network equal the published figures.

The figures come from public reference implementations that were run (torchvision, timm, pytorchcv, the
authors' code) or from the authors' exported graphs; `ours` marks definitions of this project.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

pytest.importorskip("torch", reason="no torch here: pip install torch")

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.torch_models import INPUTS, MODELS, count_macs, count_params, fill, randomize, tensors


class Case(NamedTuple):
    """Counts are exact as integers, rounded millions as text, not published as None; `flops` is 2 macs."""

    name: str
    variant: dict[str, Any]
    params: int | str
    macs: int | str | None = None
    shape: tuple[int, ...] | None = None
    flops: str | None = None


def sized(side: int) -> tuple[int, ...]:
    return (3, side, side)


CASES = [
    Case("lenet5", {}, 60_000, 326_520),
    Case("lenet5", {"output": "linear"}, 60_850, 326_520),
    Case("lenet5", {"output": "linear", "sparse": False, "average": True}, 61_706, 416_520),
    Case("alexnet", {}, 60_965_224, 724_406_816),
    Case("alexnet", {"groups": 1}, 62_378_344, 1_135_256_096),
    Case("alexnet", {"groups": 1, "ceil": True}, 62_378_344, 1_131_457_664, sized(224)),
    Case("alexnet", {"tower": True}, 61_100_840, 714_188_480, sized(224)),
    Case("squeezenet", {"version": "1.0"}, 1_248_424, 818_924_576),
    Case("squeezenet", {}, 1_235_496, 349_151_936),
    Case("googlenet", {}, 6_998_552, 1_582_671_872),
    Case("googlenet", {"bn": True}, 6_624_904, 1_498_376_192),
    Case("googlenet", {"bn": True, "aux": True}, 13_004_888),
    Case("resnet", {}, 11_689_512, 1_814_073_344),
    Case("resnet", {"depth": 34}, 21_797_672, 3_663_761_408),
    Case("resnet", {"depth": 50}, 25_557_032, 4_089_184_256),
    Case("resnet", {"base": 69}, 13_542_457, 2_098_611_264),
    Case("resnet", {"classes": 100}, 11_227_812, 37_062_656, sized(32)),
    Case("resnet", {"depth": 34, "classes": 10}, 21_289_802, 74_765_312, sized(32)),
    Case("resnet_plain_3331", {}, 8_518_952, 2_276_495_360),
    Case("resnet_plain_3331", {"classes": 10}, 8_011_082, 46_453_760, sized(32)),
    Case("resnet_cifar", {}, 272_474, 40_813_184),
    Case("resnext", {}, 25_028_904, 4_230_479_872),
    Case("resnext", {"depth": 101}, 44_177_704, 7_969_996_800),
    Case("resnext", {"depth": 101, "groups": 64}, 83_455_272, 15_460_270_080),
    Case("resnext", {"depth": 101, "group_width": 8}, 88_791_336, 16_414_015_488),
    Case("resnext29_cifar", {}, 4_775_754, 774_055_936),
    Case("resnext29_cifar", {"groups": 16, "group_width": 64}, 68_155_210, 10_688_866_304),
    Case("densenet", {}, 7_978_856, 2_834_161_664),
    Case("densenet", {"layers": (6, 12, 32, 32)}, 14_149_480, 3_359_843_328),
    Case("densenet", {"layers": (6, 12, 48, 32)}, 20_013_928, 4_291_365_888),
    Case("densenet", {"layers": (6, 12, 36, 24), "growth": 48, "stem": 96}, 28_681_000, 7_727_907_072),
    Case(
        "densenet",
        {"layers": (16, 16, 16), "growth": 12, "stem": 24, "cifar": True, "classes": 10},
        769_162,
        287_929_692,
        sized(32),
    ),
    Case("mobilenet_v1", {}, 4_231_976, 568_740_352),
    Case("mobilenet_v1", {"width": 0.75}, 2_585_560, 325_400_448),
    Case("mobilenet_v1", {"width": 0.5}, 1_331_592, 149_497_088),
    Case("mobilenet_v1", {"width": 0.25}, 470_072, 41_030_272),
    Case("mobilenet_v1", {"relu6": True}, 4_231_976, 418_121_728, sized(192)),
    Case("mobilenet_v1", {}, 4_231_976, 290_675_200, sized(160)),
    Case("mobilenet_v1", {}, 4_231_976, 186_400_768, sized(128)),
    Case("mobilenet_v1_amc", {}, 2_408_232, 293_870_000),
    Case("mobilenet_v2", {}, 3_504_872, 300_774_272),
    Case("mobilenet_v2", {"width": 1.4}, 6_108_776, 582_195_824),
    Case("mobilenet_v2", {"width": 0.75}, 2_636_424, 209_069_792),
    Case("mobilenet_v2", {"width": 0.5}, 1_968_680, 97_131_840),
    Case("mobilenet_v2", {"plain": True}, 3_504_960, 313_619_328),
    Case("mobilenet_v2", {"width": 0.75, "plain": True}, 2_627_592, 186_650_528),
    Case("mobilenet_v2", {"width": 0.5, "plain": True}, 1_964_736, 92_271_040),
    Case("mobilenet_v2", {"width": 0.25, "plain": True}, 1_516_392, 30_480_864),
    Case("shufflenet_v1", {"groups": 1}, 1_531_936, 143_078_976),
    Case("shufflenet_v1", {"groups": 2}, 1_733_848, 140_836_512),
    Case("shufflenet_v1", {}, 1_865_728, 137_460_672),
    Case("shufflenet_v1", {"groups": 4}, 1_968_344, 134_339_776),
    Case("shufflenet_v1", {"groups": 8}, 2_434_768, 138_365_952),
    Case("shufflenet_v1", {"width": 0.75}, 1_238_266, 79_740_144),
    Case("shufflenet_v1", {"width": 0.5}, 718_324, 37_589_856),
    Case("shufflenet_v1", {"width": 0.25}, 305_902, 11_009_808),
    Case("shufflenet_v1", {"groups": 1, "width": 0.5}, 534_484, 38_517_408),
    Case("shufflenet_v1", {"width": 0.5, "bias": False}, 717_324, 37_589_856),
    Case("shufflenet_v1", {"bias": False}, 1_864_728, 137_460_672),
    Case("shufflenet_v1", {"width": 1.5, "stem": 24, "bias": False}, 3_441_168, 292_443_552),
    Case("shufflenet_v1", {"width": 2.0, "bias": False}, 5_449_776, 524_045_184),
    Case("shufflenet_v1", {"groups": 8, "width": 0.5, "stem": 16, "bias": False}, 1_010_448, 40_469_760),
    Case("shufflenet_v1", {"groups": 8, "bias": False}, 2_433_768, 138_365_952),
    Case("shufflenet_v1", {"groups": 8, "width": 1.5, "stem": 24, "bias": False}, 4_268_952, 290_188_800),
    Case("shufflenet_v1", {"groups": 8, "width": 2.0, "bias": False}, 6_521_232, 521_942_016),
    Case("shufflenet_v2", {"width": 0.5}, 1_366_792, 40_476_448),
    Case("shufflenet_v2", {}, 2_278_604, 144_907_992),
    Case("shufflenet_v2", {"width": 1.5}, 3_503_624, 295_759_392),
    Case("shufflenet_v2", {"width": 2.0}, 7_393_996, 583_253_464),
    Case("shufflenet_v2", {"width": 0.5, "unit": "authors"}, 1_365_792, 40_476_448),
    Case("shufflenet_v2", {"unit": "authors"}, 2_278_760, 145_814_296),
    Case("shufflenet_v2", {"width": 1.5, "unit": "authors"}, 3_506_720, 298_970_656),
    Case("shufflenet_v2", {"width": 2.0, "unit": "authors"}, 7_402_600, 590_783_000),
    Case("igcv1", {"net": "L4M32"}, 12_251_240, 1_944_641_536),
    Case("igcv1", {"net": "L16M16"}, 13_528_296, 2_265_989_120),
    Case("igcv1", {}, 8_637_900, 1_264_780_800),
    Case("igcv1_cifar", {}, 155_962, "28.76"),
    Case("igcv1_cifar", {"depth": 38}, 317_242, "57.07"),
    Case("igcv1_cifar", {"depth": 62}, 532_282, "94.82"),
    Case("igcv1_cifar", {"parts": 4, "size": 8}, 277_546, "42.37"),
    Case("igcv1_cifar", {"parts": 4, "size": 8, "depth": 38}, 575_914, "86.21"),
    Case("igcv1_cifar", {"parts": 4, "size": 8, "depth": 62}, 973_738, "144.67"),
    Case("igcv1_cifar", {"parts": 32, "size": 26}, "23.83"),
    Case("igcv1_cifar", {"parts": 32, "size": 26, "depth": 38}, "49.55"),
    Case("igcv1_cifar", {"parts": 32, "size": 26, "depth": 62}, "83.84"),
    Case("igcv2", {}, 1_352_616, 93_874_688),  # ours
    Case("igcv2", {"width": 2.0}, 2_899_048, 235_115_520),  # ours
    Case("igcv3", {}, 3_491_688, 312_970_176),
    Case("igcv3", {"width": 0.75}, 2_638_084, 189_889_232),
    Case("igcv3", {"width": 0.5}, 1_985_528, 96_913_888),
    Case("igcv3", {"width": 0.25}, 1_534_020, 34_044_144),
    Case("seesawnet", {}, 3_644_184, 360_950_976),
    Case("seesawnet", {"depth": "0.5D"}, 2_728_024, 209_265_792),
    Case("seesawnet", {"cifar": True, "classes": 100}, 2_491_284, 181_220_352, sized(32)),
    Case("mixnet", {}, 4_134_606, 239_173_360),
    Case("mixnet", {"net": "m"}, 5_014_382, 339_172_672),
    Case("mixnet", {"net": "l"}, 7_329_252, 555_251_792),
    Case("condensenet", {}, 4_773_944, 516_640_576),
    Case("condensenet", {"groups": 8, "condense": 8}, 2_935_416, 261_545_792),
    Case("condensenet", {"training_form": True}, 11_922_680),
    Case("condensenet", {"groups": 8, "condense": 8, "training_form": True}, 11_103_608),
    Case("condensenet_cifar", {"depth": 38}, 140_522, 18_335_456),
    Case("condensenet_cifar", {"depth": 50}, 214_186, 27_183_376),
    Case("condensenet_cifar", {"depth": 62}, 301_354, 37_473_088),
    Case("condensenet_cifar", {"depth": 74}, 402_026, 49_204_592),
    Case("condensenet_cifar", {"depth": 86}, 516_202, 62_377_888),
    Case("condensenet_cifar", {"depth": 98}, 643_882, 76_992_976),
    Case("condensenet_cifar", {"depth": 110}, 785_066, 93_049_856),
    Case("condensenet_cifar", {"depth": 122}, 939_754, 110_548_528),
    Case("condensenet_cifar", {"depth": 182, "growth": 12}, 4_209_226, 493_916_592),
    Case("flgc_mobilenet_v2", {"groups": 1}, 2_295_834, 90_106_368),
    Case("flgc_mobilenet_v2", {"groups": 2}, 1_814_234, 71_608_832),
    Case("flgc_mobilenet_v2", {"groups": 4}, 1_573_434, 62_360_064),
    Case("flgc_mobilenet_v2", {}, 1_453_034, 57_735_680),
    Case("scalenet", {"net": "50-light"}, 23_631_912, 2_861_475_840),
    Case("scalenet", {}, 31_483_618, 3_818_372_352),
    Case("scalenet", {"net": "101"}, 54_792_390, 7_511_097_600),
    Case("scalenet", {"net": "152"}, 77_220_070, 11_211_951_616),
    Case("bunit_toy", {"number": 1}, 90_767, flops="8.739"),
    Case("bunit_toy", {"number": 2}, 89_980, flops="9.462"),
    Case("bunit_toy", {"number": 3}, 91_114, flops="8.836"),
    Case("bunit_toy", {"number": 4}, 106_635, flops="10.391"),
    Case("bunit_toy", {"number": 5}, 104_054, flops="9.022"),
    Case("bunit_toy", {"number": 6}, 95_388, flops="9.578"),
    Case("bunit_toy", {"number": 7}, 93_287, flops="10.462"),
    Case("bunit_toy", {"number": 8}, 98_262, flops="8.796"),
    Case("bunit_toy", {"number": 9}, 100_004, flops="8.543"),
    Case("bunit_toy", {"number": 10}, 105_985, flops="11.169"),
    Case("bunit_resnet", {}, 9_158_184, 1_023_801_344),
    Case("bunit_resnet", {"style": 34}, 14_052_648, 1_515_124_736),
    Case("bunit_resnet", {"style": 20}, 4_541_480, 1_034_639_360),
    Case("bunit_resnet", {"classes": 10}, 8_650_314, 20_888_576, sized(32)),
    Case("bunit_resnet", {"classes": 100}, 8_696_484, 20_934_656, sized(32)),
    Case("bunit_resnet", {"style": 20, "classes": 10}, 4_033_610, 21_109_760, sized(32)),
    Case("bunit_resnet", {"style": 34, "classes": 10}, 13_544_778, 30_915_584, sized(32)),
    Case("bunit_mnist", {"hidden": 2}, 1_410, 328_720),
    Case("bunit_mnist", {"hidden": 3}, 1_834, 435_320),
    Case("bunit_mnist", {"hidden": 4}, 2_258, 541_920),
    Case("darts", {}, 3_349_342, 528_359_040),
    Case("darts", {"net": "v1"}, 3_169_414, 500_987_520),
    Case("darts", {"imagenet": True}, 4_718_752, 529_911_552, sized(224)),
    Case("ds_cnn", {}, 23_756, 2_656_768),
    Case("mobilenet_v1_vww", {}, 216_322, 7_489_664),
    Case("resnet8_cifar", {}, 78_186, 12_501_632),
    Case("autoencoder", {}, 267_928, 264_192),
]


def label(case: Case) -> str:
    side = [str(case.shape[1])] if case.shape else []
    return "-".join([case.name, *(f"{k}={v}" for k, v in case.variant.items()), *side])


def build(case: Case) -> nn.Module:
    with torch.device("meta"):
        return MODELS[case.name](**case.variant)


class Executed(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves __init_subclass__ untyped
    """Adds up the multiply-accumulates of every convolution and matrix product that torch really executes."""

    macs = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.__name__.split(".")[0]
        if name == "convolution":
            self.macs += out.numel() * args[1][0].numel()
        elif name in ("addmm", "mm"):
            self.macs += out.numel() * args[-2].shape[1]
        else:
            assert not any(product in name for product in ("conv", "mm", "dot")), name
        return out


def agrees(count: int, figure: int | str | None) -> bool:
    if isinstance(figure, str):
        decimals = len(figure.partition(".")[2])
        return f"{count / 1e6:.{decimals}f}" == figure
    return figure is None or count == figure


@pytest.mark.parametrize("case", CASES, ids=label)
def test_counts_equal_the_published_figures(case: Case) -> None:
    """No product escapes the hooks; the RBF output, a squared distance, is no product to torch."""
    model = build(case)
    params = count_params(model)
    assert agrees(params, case.params), params
    with Executed() as executed:  # type: ignore[no-untyped-call]  # untyped in torch
        macs = count_macs(model, case.shape or INPUTS[case.name])
    assert macs == executed.macs + (840 if case == CASES[0] else 0)
    assert agrees(macs, case.macs), macs
    assert agrees(2 * macs, case.flops), macs


def test_counts_are_per_image() -> None:
    model = build(Case("mobilenet_v2", {}, 0))
    assert count_macs(model, (3, 224, 224), batch=3) == 300_774_272


def test_every_model_has_a_case() -> None:
    assert {case.name for case in CASES} == set(MODELS) == set(INPUTS)


@pytest.mark.parametrize(
    "case",
    [
        Case("lenet5", {}, 0),
        Case("squeezenet", {}, 0, shape=sized(64)),
        Case("shufflenet_v2", {"unit": "authors"}, 0, shape=sized(64)),
        Case("mixnet", {}, 0, shape=sized(64)),
        Case("condensenet_cifar", {"depth": 38}, 0),
        Case("flgc_mobilenet_v2", {"groups": 3}, 0, shape=sized(16)),
        Case("seesawnet", {"depth": "0.5D"}, 0, shape=sized(64)),
        Case("bunit_toy", {}, 0),
        Case("ds_cnn", {}, 0),
    ],
    ids=label,
)
def test_weights_taken_over_by_order_give_the_same_function(case: Case) -> None:
    shape = case.shape or INPUTS[case.name]
    source, judge = (MODELS[case.name](**case.variant).eval() for _ in range(2))
    randomize(source, 1)
    fill(judge, [value.numpy() for _, value in tensors(source)])
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, actual = source(x), judge(x)
        assert torch.equal(expected, actual)
        assert expected.isfinite().all()
        assert expected.std() > 1e-4
        middle = next(v for _, v in tensors(judge)[len(tensors(judge)) // 2 :] if v.ndim > 1 and len(v) > 1)
        middle[[0, 1]] = middle[[1, 0]]
        assert not torch.allclose(expected, judge(x), rtol=0, atol=float(1e-2 * expected.abs().max()))


def test_arrays_that_do_not_fit_are_refused() -> None:
    model = MODELS["bunit_mnist"]()
    arrays = [value.numpy() for _, value in tensors(model)]
    with pytest.raises(ValueError, match=r"0\.weight has shape \(8, 1, 5, 5\)"):
        fill(model, arrays[::-1])
    with pytest.raises(ValueError, match="arrays were given"):
        fill(model, arrays[:-1])
