"""`make run`: compile LeNet-5 to C and let the compiled module read 360 real handwritten digits.

    python examples/lenet5_demo.py [--out DIR] [--target native] [--weights FILE]

Everything printed is computed in this run: the answers of the C module, those of the emitted PyTorch module
with the same weights, how far their outputs are apart, and the time per digit.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import numpy.typing as npt

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Reading:
    """What one run found: distances (360, 10) from C and from PyTorch, seconds per digit in C."""

    labels: npt.NDArray[np.uint8]
    c: Array
    torch: Array
    seconds: float

    @property
    def right(self) -> int:
        """Digits that the C module reads correctly; the smallest distance is the answer."""
        return int((self.c.argmin(axis=1) == self.labels).sum())

    @property
    def same(self) -> int:
        """Digits to which C and PyTorch give the same answer."""
        return int((self.c.argmin(axis=1) == self.torch.argmin(axis=1)).sum())

    @property
    def apart(self) -> float:
        """The largest difference of C and PyTorch, relative to the largest output."""
        return float(np.abs(self.c - self.torch).max() / np.abs(self.torch).max())


def compile_lenet5(out: Path, target: str, weights: Path | None) -> None:
    """What `compactc examples/lenet5.arch --emit ir,c,lib,py -o OUT` does."""
    from compactir.cli import main

    given = ["--weights", str(weights)] if weights else []
    emit = ["--emit", "ir,c,lib,py", "--target", target, "-o", str(out)]
    if status := main([str(HERE / "lenet5.arch"), *emit, *given]):
        raise SystemExit(status)


def read_digits_with(out: Path) -> Reading:
    """The held-out digits through the compiled module and through the emitted PyTorch module in `out`."""
    import torch

    import compactir
    from examples.prepare_digits import read_held_out, to_inputs

    digits = read_held_out()
    images = to_inputs(digits.images)
    module = compactir.load(out)
    module(images[:1])
    start = perf_counter()
    answers = [np.array(module(image[None])) for image in images]
    seconds = (perf_counter() - start) / len(images)
    torch.set_num_threads(1)
    with torch.no_grad():
        reference = load_module(out)(torch.from_numpy(images)).numpy()
    return Reading(digits.labels, np.concatenate(answers), reference, seconds)


def load_module(out: Path):  # type: ignore[no-untyped-def]  # a class of the emitted file
    """The network of the emitted PyTorch file, with the weights that were written beside it."""
    import importlib.util

    from safetensors.torch import load_file

    spec = importlib.util.spec_from_file_location("lenet5", out / "lenet5.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.Lenet5()
    model.load_state_dict(load_file(out / "lenet5.safetensors"))
    return model.eval()


def main() -> int:
    """Compile, read, report."""
    parser = argparse.ArgumentParser(description="Read 360 handwritten digits with LeNet-5 compiled to C.")
    parser.add_argument(
        "--out", type=Path, default=Path("out/lenet5"), help="output folder (default out/lenet5)"
    )
    parser.add_argument("--target", default="native", help="see `compactc targets` (default native)")
    parser.add_argument("--weights", type=Path, help="other weights than examples/lenet5.safetensors")
    options = parser.parse_args()
    compile_lenet5(options.out, options.target, options.weights)
    import compactir

    module = compactir.load(options.out)
    found = read_digits_with(options.out)
    count = len(found.labels)
    library = next(options.out.glob("lib*.so"))
    print(f"""
LeNet-5 (1998: sparse C3, RBF output), compiled to C for {module.target}, on {count} handwritten digits:

  read correctly        {found.right} of {count} ({found.right / count:.2%})
  same answer as torch  {found.same} of {count}; outputs at most {found.apart:.1e} of the largest apart
  time per digit        {found.seconds * 1e6:.1f} us, one thread, called from Python
  library               {library.stat().st_size / 1024:.0f} KB, weights {module.weights_bytes / 1024:.0f} KB
  workspace             {module.workspace_bytes / 1024:.0f} KB

  C             {options.out / "lenet5.c"}
  IR dumps      {options.out / "lenet5.cir"} (as written)
                {options.out / "lenet5.opt.cir"} (after the passes)
                {options.out / "lenet5.plan"} (what runs)
  PyTorch       {options.out / "lenet5.py"}""")
    return 0 if found.same == count else 1


if __name__ == "__main__":
    sys.exit(main())
