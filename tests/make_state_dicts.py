"""Write tests/state_dicts/*.json: names and shapes of torchvision's and timm's state_dicts; and check them.

    pip install --no-deps torchvision timm
    python tests/make_state_dicts.py            # the names and shapes, as these versions have them
    python tests/make_state_dicts.py --check    # random values through `--map auto`, in C, against them

The files hold no values: the default tests draw them (tests/test_map.py) and need neither library.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "tests" / "state_dicts"
NETWORKS: dict[str, tuple[str, str, dict[str, object]]] = {
    "mobilenet_v2": ("torchvision", "mobilenet_v2", {}),
    "shufflenet_v2": ("torchvision", "shufflenet_v2_x1_0", {}),
    "squeezenet": ("torchvision", "squeezenet1_1", {}),
    "googlenet": ("torchvision", "googlenet", {"form": "bn"}),
    "mixnet": ("timm", "mixnet_s", {}),
}
"""The example → the library, its name for the network, and our parameters for it."""


def build(library: str, name: str) -> nn.Module:
    """The library's network, with the library's random weights."""
    # The part of torchvision that registers its own operators wants the PyTorch it was built with.
    sys.modules.setdefault("torchvision._meta_registrations", ModuleType("_meta_registrations"))
    if library == "timm":
        made: nn.Module = importlib.import_module("timm").create_model(name)
        return made
    models: Any = importlib.import_module("torchvision").models
    made = getattr(models, name)(**({"init_weights": True} if name == "googlenet" else {}))
    return made


def write() -> None:
    """All files."""
    for network, (library, name, defines) in NETWORKS.items():
        tensors = {key: list(value.shape) for key, value in build(library, name).state_dict().items()}
        lines = ",\n".join(f"    {json.dumps(key)}: {json.dumps(shape)}" for key, shape in tensors.items())
        head = {"library": f"{library} {version(library)}", "name": name, "defines": defines}
        text = "".join(f"  {json.dumps(key)}: {json.dumps(value)},\n" for key, value in head.items())
        path = FOLDER / f"{network}.json"
        path.write_text(f'{{\n{text}  "tensors": {{\n{lines}\n  }}\n}}\n', encoding="utf-8")
        print(f"{path.relative_to(ROOT)}: {len(tensors)} tensors")


def check() -> bool:
    """Every network with random weights: the library's outputs against ours in C."""
    import compactir
    from tests.torch_models import randomize

    fine = True
    for network, (library, name, defines) in NETWORKS.items():
        model = build(library, name).eval()
        randomize(model, 3)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "foreign.pt"
            torch.save(model.state_dict(), path)
            model_file = ROOT / "examples" / f"{network}.arch"
            given: dict[str, Any] = {"weights": path, "map": "auto", **defines}
            module = compactir.compile(model_file, **given)
        x = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
        with torch.no_grad():
            theirs = model(torch.from_numpy(x)).numpy()
        error = float(np.abs(np.asarray(module(x)) - theirs).max() / np.abs(theirs).max())
        fine &= error <= 1e-4
        print(f"{network:<14} {library} {name:<20} largest difference {error:.1e} of the largest output")
    return fine


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="compare the libraries' outputs with ours")
    sys.path.insert(0, str(ROOT))
    if parser.parse_args().check:
        sys.exit(not check())
    write()
