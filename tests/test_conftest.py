"""The habits of conftest.py hold: CI_NO_SKIPS=1 lets no skip pass, golden files compare and update."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parent / "conftest.py"

PASSES = "def test_passes(): pass\n"
SKIPS = "import pytest\ndef test_skips(): pytest.skip('no gcc here: apt-get install gcc')\n"
FILE_SKIPS = "import pytest\npytest.skip('the whole file', allow_module_level=True)\n"
TOOL_SKIPS = "def test_needs(tool): tool('qemu-of-nowhere')\n"
EXPECTED_FAILURE = "import pytest\n@pytest.mark.xfail\ndef test_fails(): assert False\n"


def session(folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run pytest on this folder, with our conftest.py and no other configuration."""
    shutil.copy(CONFTEST, folder)
    (folder / "pytest.ini").write_text("[pytest]\n")
    inherited = {name: value for name, value in os.environ.items() if name != "CI_NO_SKIPS"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options]
    return subprocess.run(command, cwd=folder, env=inherited | environment, capture_output=True, text=True)


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.slow
def test_a_skip_fails_where_none_is_allowed(tmp_path: Path, workers: str) -> None:
    for number, text in enumerate((PASSES, SKIPS, FILE_SKIPS, TOOL_SKIPS, EXPECTED_FAILURE)):
        (tmp_path / f"test_{number}.py").write_text(text)
    allowed = session(tmp_path, "-n", workers)
    assert allowed.returncode == 0, allowed.stdout
    forbidden = session(tmp_path, "-n", workers, CI_NO_SKIPS="1")
    assert forbidden.returncode == 1, forbidden.stdout
    listed = forbidden.stdout.split("allows no skips")[1]
    assert "test_1.py::test_skips: no gcc here: apt-get install gcc\n" in listed
    assert "test_2.py: the whole file\n" in listed
    assert "test_3.py::test_needs: no qemu-of-nowhere here: apt-get install qemu-of-nowhere\n" in listed
    assert "test_fails" not in listed


def test_what_is_no_skip_passes(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text(PASSES)
    (tmp_path / "test_b.py").write_text(EXPECTED_FAILURE)
    done = session(tmp_path, CI_NO_SKIPS="1")
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_golden_files_compare_and_update(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text(
        "from pathlib import Path\n"
        "def test_it(golden): golden(Path(__file__).parent / 'g' / 'a.txt', 'new\\n')\n"
    )
    file = tmp_path / "g" / "a.txt"
    assert "`make golden` writes it" in session(tmp_path).stdout
    assert session(tmp_path, "--update-golden").returncode == 0
    assert file.read_text() == "new\n"
    assert session(tmp_path).returncode == 0
    file.write_text("old\n")
    assert session(tmp_path).returncode == 1
    assert file.read_text() == "old\n"


def test_tool_is_the_path_of_a_program(tool: Callable[[str], str]) -> None:
    assert Path(tool("sh")).is_absolute()


def test_builds_do_not_reach_the_cache_of_the_user() -> None:
    assert os.environ["COMPACTIR_CACHE"]
