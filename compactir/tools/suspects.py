"""What usually explains that a compiled network and its judge differ, or a folder's expectation and both."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compactir.driver import Authored
    from compactir.runtime.module import Module

__all__ = ["suspects"]


def _other_weights(args: Namespace, authored: Authored, module: Module) -> str | None:
    """The manifest of a folder says which weights were compiled in."""
    built, given = module.manifest.raw.get("init"), args.module or args.answers
    if not given or not isinstance(built, Mapping) or _same(built, authored.init):
        return None
    return (
        f"the module in {given} was compiled with {_spelled(built)}, the model here has "
        f"{_spelled(authored.init)}: give both the same, with `--weights` or `--init`"
    )


def _same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """A file may have got another name."""
    return all(a.get(key) == b.get(key) for key in ("weights", "seed", "sha256"))


def _spelled(init: Mapping[str, Any]) -> str:
    match init.get("weights"):
        case "file":
            return f"the weights of {init.get('file')} (sha256 {str(init.get('sha256'))[:12]}…)"
        case "random":
            return f"random weights (seed {init.get('seed')})"
    return "weights of its own"


def _quantized(args: Namespace, authored: Authored, module: Module) -> str | None:
    """A quantized .onnx file rounds, the network that we read from it does not."""
    if (args.against != "onnxruntime" and not args.inputs) or Path(args.model).suffix != ".onnx":
        return None
    from compactir.frontends.onnx.model import load_model

    model = load_model(Path(args.model))
    rounded = [n for n in model.nodes if n.op == "QuantizeLinear" and n.inputs[0] not in model.constants]
    if not rounded:
        return None
    return (
        f"the model is quantized: it rounds at {len(rounded)} QuantizeLinear, where compactir clamps to the "
        "same range in float32 (docs/onnx.md); differences of some of its steps are no mistake of either"
    )


SUSPECTS: tuple[Callable[[Namespace, Authored, Module], str | None], ...] = (_other_weights, _quantized)


def suspects(args: Namespace, authored: Authored, module: Module) -> Iterator[str]:
    """Hints for `compactc verify` where outputs differ."""
    return (hint for ask in SUSPECTS if (hint := ask(args, authored, module)))
