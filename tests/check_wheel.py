"""`make wheel`: build the wheel, install it into a clean environment, and use it from another folder.

Not a test of the suite, because it installs packages.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

MODEL = """\
network tiny(classes: int = 3) {
  input image: f32[3, 8, 8]
  output scores = image -> conv(4, kernel=3) -> bn -> relu -> global_avg_pool -> linear(classes)
}
"""

PROGRAM = """\
import sys
import numpy as np
import compactir

assert "site-packages" in compactir.__file__, compactir.__file__
module = compactir.load("out")
scores = module(np.ones((1, 3, 8, 8), np.float32))
assert scores.shape == (1, 3) and np.isfinite(scores).all(), scores
assert "torch" not in sys.modules
print("compactir", compactir.__version__, "says", scores)
"""


def main() -> None:
    dist = ROOT / "dist"
    for old in dist.glob("compactir-*"):
        old.unlink()
    run([sys.executable, "-m", "build", "--wheel", "--outdir", str(dist), str(ROOT)], ROOT)
    (wheel,) = dist.glob("compactir-*.whl")
    with tempfile.TemporaryDirectory(prefix="compactir wheel ü ") as scratch:
        use(wheel, Path(scratch))
    print(f"{wheel.relative_to(ROOT)} installs and works on its own")


def use(wheel: Path, scratch: Path) -> None:
    """Install the wheel with its core dependencies only, and a compiler where the system has none."""
    venv.create(scratch / "venv", with_pip=True)
    binaries = scratch / "venv" / "bin"
    extra = "" if any(map(shutil.which, ("cc", "gcc", "clang"))) else "[toolchain]"
    run([str(binaries / "python"), "-m", "pip", "install", f"{wheel}{extra}"], scratch)
    work = scratch / "elsewhere"
    work.mkdir()
    (work / "tiny.arch").write_text(MODEL, encoding="utf-8")
    run([str(binaries / "compactc"), "--help"], work)
    run([str(binaries / "compactc"), "tiny.arch", "--emit", "ir,c,lib,py", "-o", "out"], work)
    run([str(binaries / "python"), "-c", PROGRAM], work)


def run(command: list[str], folder: Path) -> None:
    """Run a command as a stranger would: no variable of this checkout reaches it."""
    print("$", *command, flush=True)
    environment = os.environ | {"COMPACTIR_CACHE": str(folder / "cache")}
    for ours in ("PYTHONPATH", "VIRTUAL_ENV"):
        environment.pop(ours, None)
    subprocess.run(command, cwd=folder, env=environment, check=True)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"failed with status {error.returncode}: {' '.join(error.cmd[:3])} …")
