"""The engines to compare with. To add one: a file here with a subclass of `Engine`, its line in `_HOMES`."""

from __future__ import annotations

from importlib import import_module

from compactir.tools.bench.engines.base import Engine, Session

__all__ = ["ENGINES", "OURS", "PEAK", "Engine", "Session", "engine"]

OURS, PEAK = "compactir", "peak"

_HOMES = {
    OURS: "ours:Ours",
    PEAK: "peak:Peak",
    "onnxruntime": "with_onnxruntime:OnnxRuntime",
    "openvino": "with_openvino:OpenVino",
    "ncnn": "with_ncnn:Ncnn",
    "litert": "with_litert:LiteRt",
    "mnn": "with_mnn:Mnn",
    "torch": "with_torch:Torch",
}

ENGINES = tuple(name for name in _HOMES if name not in (OURS, PEAK))
"""What `--against` can name."""


def engine(name: str) -> Engine:
    """The engine of that name, or of `module:Class` anywhere; its library is not imported yet."""
    home = f"{__name__}.{_HOMES[name]}" if name in _HOMES else name
    module, _, cls = home.partition(":")
    made: Engine = getattr(import_module(module), cls)()
    return made
