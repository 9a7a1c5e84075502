"""`make run`: compile LeNet-5 to C and let the compiled module read 360 real handwritten digits.

    python examples/digits_demo.py [NETWORK] [-D NAME=VALUE] [--out DIR] [--target native] [--weights FILE]

NETWORK is any of examples/ that train_digits.py has trained: `lenet5` (as it is), or `resnet8_cifar -D
dataset=digits`. Everything printed is computed in this run: the answers of the C module, those of the emitted
PyTorch module with the same weights, how far their outputs are apart, and the time per digit.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
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
    """What one run found: outputs (360, 10) of C and of PyTorch, seconds per digit in C.

    The answer is the largest output, or the smallest where they are distances.
    """

    labels: npt.NDArray[np.uint8]
    c: Array
    torch: Array
    seconds: float
    distances: bool

    @property
    def right(self) -> int:
        """Digits that the C module reads correctly."""
        return int((self.read(self.c) == self.labels).sum())

    @property
    def same(self) -> int:
        """Digits to which C and PyTorch give the same answer."""
        return int((self.read(self.c) == self.read(self.torch)).sum())

    @property
    def apart(self) -> float:
        """The largest difference of C and PyTorch, relative to the largest output."""
        return float(np.abs(self.c - self.torch).max() / np.abs(self.torch).max())

    def read(self, outputs: Array) -> npt.NDArray[np.intp]:
        """The digit that each row of outputs says."""
        answers: npt.NDArray[np.intp] = (outputs.argmin if self.distances else outputs.argmax)(axis=1)
        return answers


def compile_to(
    out: Path, target: str, weights: Path | None, network: str = "lenet5", defines: Sequence[str] = ()
) -> None:
    """What `compactc examples/NETWORK.arch --emit ir,c,lib,py -o OUT` does."""
    from compactir.cli import main

    given = ["--weights", str(weights)] if weights else []
    given += [word for define in defines for word in ("-D", define)]
    emit = ["--emit", "ir,c,lib,py", "--target", target, "-o", str(out)]
    if status := main([str(HERE / f"{network}.arch"), *emit, *given]):
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
    outputs = [np.array(module(image[None])) for image in images]
    seconds = (perf_counter() - start) / len(images)
    torch.set_num_threads(1)
    with torch.no_grad():
        reference = load_module(out)(torch.from_numpy(images)).numpy()
    distances = " = rbf(" in next(out.glob("*.cir")).read_text(encoding="utf-8")
    return Reading(digits.labels, np.concatenate(outputs), reference, seconds, distances)


def load_module(out: Path):  # type: ignore[no-untyped-def]  # a class of the emitted file
    """The network of the emitted PyTorch file, with the weights that were written beside it."""
    import importlib.util

    from safetensors.torch import load_file

    path = next(out.glob("*.plan")).with_suffix(".py")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (name,) = module.__all__
    model = getattr(module, name)()
    model.load_state_dict(load_file(path.with_suffix(".safetensors")))
    return model.eval()


def main() -> int:
    """Compile, read, report."""
    parser = argparse.ArgumentParser(description="Read 360 handwritten digits with a network compiled to C.")
    parser.add_argument("network", nargs="?", default="lenet5", help="of examples/ (default lenet5)")
    parser.add_argument("-D", dest="defines", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--out", type=Path, help="output folder (default out/NETWORK)")
    parser.add_argument("--target", default="native", help="see `compactc targets` (default native)")
    parser.add_argument("--weights", type=Path, help="other weights than those that the network names")
    options = parser.parse_args()
    network, out = options.network, options.out or Path("out") / options.network
    compile_to(out, options.target, options.weights, network, options.defines)
    import compactir

    module = compactir.load(out)
    found = read_digits_with(out)
    count = len(found.labels)
    library = next(out.glob("lib*.so"))
    title = "LeNet-5 (1998: sparse C3, RBF output)" if network == "lenet5" else network
    print(f"""
{title}, compiled to C for {module.target}, on {count} handwritten digits:

  read correctly        {found.right} of {count} ({found.right / count:.2%})
  same answer as torch  {found.same} of {count}; outputs at most {found.apart:.1e} of the largest apart
  time per digit        {found.seconds * 1e6:.1f} us, one thread, called from Python
  library               {library.stat().st_size / 1024:.0f} KB, weights {module.weights_bytes / 1024:.0f} KB
  workspace             {module.workspace_bytes / 1024:.0f} KB

  C             {out / network}.c
  IR dumps      {out / network}.cir (as written)
                {out / network}.opt.cir (after the passes)
                {out / network}.plan (what runs)
  PyTorch       {out / network}.py""")
    return 0 if found.same == count else 1


if __name__ == "__main__":
    sys.exit(main())
