"""Options, fixtures and habits shared by all tests."""

import importlib.util
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent

NO_SKIPS = "CI_NO_SKIPS"
"""Set to 1, a skipped test fails the session: where every tool can be installed, nothing may be left out."""

APT_PACKAGE = {
    "arm-none-eabi-gcc": "gcc-arm-none-eabi",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
    "aarch64-linux-gnu-nm": "binutils-aarch64-linux-gnu",
    "aarch64-linux-gnu-objdump": "binutils-aarch64-linux-gnu",
    "arm-linux-gnueabihf-gcc": "gcc-arm-linux-gnueabihf libc6-dev-armhf-cross",
    "arm-linux-gnueabihf-nm": "binutils-arm-linux-gnueabihf",
    "arm-linux-gnueabihf-objdump": "binutils-arm-linux-gnueabihf",
    "c++": "g++",
    "cc": "gcc",
    "dot": "graphviz",
    "llvm-nm-19": "llvm-19",
    "nm": "binutils",
    "objdump": "binutils",
    "qemu-aarch64": "qemu-user",
    "qemu-arm": "qemu-user",
    "qemu-x86_64": "qemu-user",
}
"""Program -> the Debian packages that bring it, where they are called differently."""

os.environ.pop("COLUMNS", None)  # workers of pytest-xdist have it: the width of a terminal that is not there

PIP_PACKAGE = {"PIL": "pillow", "sklearn": "scikit-learn"}
"""Module -> the package that brings it, where they are called differently."""


MODEL = """\
network tiny(classes: int = 3) {
  input image: f32[3, 8, 8]
  output scores = image -> conv(4, kernel=3) -> bn -> relu -> global_avg_pool -> linear(classes)
}
"""


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small model in the current folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.arch"
    path.write_text(MODEL, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """`tool("qemu-aarch64")` is a program's path; without it the test skips, naming the install command."""

    def find(program: str) -> str:
        path = shutil.which(program)
        if path is None:
            pytest.skip(f"no {program} here: apt-get install {APT_PACKAGE.get(program, program)}")
        return path

    return find


@pytest.fixture(scope="session")
def need() -> Callable[[str], None]:
    """`need("onnx")` skips the test, naming the install command, where a Python package is missing."""

    def check(module: str) -> None:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"no {module} here: pip install {PIP_PACKAGE.get(module, module)}")

    return check


@pytest.fixture(scope="session")
def golden(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """`golden(path, text)` asserts that the file holds this text; `--update-golden` writes it instead."""
    update = request.config.getoption("--update-golden")

    def compare(path: Path, text: str) -> None:
        if update:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                path.write_text(text, encoding="utf-8")
            return
        assert path.exists(), f"{path.name} is not there yet: `make golden` writes it"
        known = path.read_text(encoding="utf-8")
        assert text == known, f"`make golden` writes {path.name} anew; read the diff"

    return compare


@pytest.fixture(scope="session")
def update_golden(request: pytest.FixtureRequest) -> bool:
    """True under `--update-golden`, for tests whose golden text is a part of a file."""
    return bool(request.config.getoption("--update-golden"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write golden files instead of comparing")


def pytest_configure(config: pytest.Config) -> None:
    # A shell that runs us in the background ignores Ctrl-C, and what we start would inherit that.
    if (
        signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        and threading.current_thread() is threading.main_thread()
    ):
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(config, "workerinput"):
        return  # a worker of pytest-xdist inherits the environment of its controller
    if "COMPACTIR_CACHE" not in os.environ:  # tests never build into the cache of the person who runs them
        os.environ["COMPACTIR_CACHE"] = cache = tempfile.mkdtemp(prefix="compactir-tests-")
        config.add_cleanup(lambda: shutil.rmtree(cache, ignore_errors=True))
    if os.environ.get(NO_SKIPS) == "1":
        config.pluginmanager.register(FailOnSkips(), "fail-on-skips")


class FailOnSkips:
    """Fails the session after it, listing every test and file that was skipped, and why."""

    def __init__(self) -> None:
        self.skipped: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not hasattr(report, "wasxfail"):  # an expected failure reports itself as skipped too
            self.note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.note(report)

    def note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self.skipped[report.nodeid] = reason.removeprefix("Skipped: ")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.skipped:
            terminalreporter.section(f"skipped, and {NO_SKIPS}=1 allows no skips", red=True)
            for test, reason in sorted(self.skipped.items()):
                terminalreporter.line(f"{test}: {reason}")

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.skipped:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


# No deadline: no test fails because another process took the processor. In CI the same examples every time.
hypothesis.settings.register_profile("compactir", deadline=None, derandomize=os.environ.get(NO_SKIPS) == "1")
hypothesis.settings.load_profile("compactir")
