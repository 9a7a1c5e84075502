"""What is shipped, and what an import costs."""

import os
import re
import shutil
import statistics
import subprocess
import sys
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

import compactir

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUP = PROJECT["tool"]["setuptools"]
FOLDERS: dict[str, str] = SETUP["package-dir"]
BYTECODE = shutil.ignore_patterns("__pycache__")
HEAVY = ("torch", "cffi", "jinja2", "lark", "onnx", "rich", "networkx", "numpy")


def copy_checkout(to: Path, *, links: bool) -> None:
    """What git holds of the packages, with or without the links inside compactir/."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, to / name)
    for folder in FOLDERS.values():
        shutil.copytree(ROOT / folder, to / folder, symlinks=True, ignore=BYTECODE)
    if not links:
        for name in ("passes", "codegen", "runtime"):
            (to / "compactir" / name).unlink()


def python(code: str, folder: Path) -> str:
    """Run code in a fresh interpreter that sees the compactir of this folder; returns what it prints."""
    environment = os.environ | {"PYTHONPATH": str(folder)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    copy_checkout(folder, links=False)  # package-dir names the real folders, so the wheel does not need them
    build = "from setuptools import build_meta; build_meta.build_wheel('dist')"
    subprocess.run([sys.executable, "-c", build], cwd=folder, check=True, capture_output=True)
    (path,) = (folder / "dist").glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = (n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(name).decode("utf-8"))


def test_every_package_is_listed() -> None:
    on_disk = {
        ".".join((name, *init.parent.relative_to(ROOT / folder).parts))
        for name, folder in FOLDERS.items()
        for init in (ROOT / folder).glob("**/__init__.py")
    }
    assert on_disk == set(SETUP["packages"])


def test_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    shipped = {name for name in wheel.namelist() if ".dist-info/" not in name}
    on_disk = {
        "/".join((*package.split("."), *file.relative_to(ROOT / folder).parts))
        for package, folder in FOLDERS.items()
        for file in (ROOT / folder).glob("**/*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert shipped == on_disk, "a kind of data file that [tool.setuptools.package-data] does not name?"
    assert {name.split("/")[0] for name in shipped} == {"compactir"}


def test_links_lead_to_the_real_folders() -> None:
    for name in ("passes", "codegen", "runtime"):
        link = ROOT / "compactir" / name
        assert link.is_symlink()
        assert os.readlink(link) == f"../{name}"


def test_a_checkout_that_lost_its_links_still_imports(tmp_path: Path) -> None:
    copy_checkout(tmp_path, links=False)
    for module in ("compactir.passes", "compactir.codegen.c", "compactir.runtime"):
        found = Path(python(f"import {module}; print({module}.__file__)", tmp_path).strip())
        assert found.parent == tmp_path.joinpath(*module.split(".")[1:])


def test_version_is_said_once(metadata: Message) -> None:
    assert metadata["Version"] == compactir.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", compactir.__version__)


def test_metadata(metadata: Message, wheel: zipfile.ZipFile) -> None:
    assert metadata["Name"] == "compactir"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    (scripts,) = (n for n in wheel.namelist() if n.endswith("entry_points.txt"))
    assert "compactc = compactir.__main__:main" in wheel.read(scripts).decode()
    assert any(n.endswith("/LICENSE") for n in wheel.namelist())


def test_core_needs_no_torch_and_every_bound_is_a_lower_one(metadata: Message) -> None:
    wanted = metadata.get_all("Requires-Dist", [])
    core = {re.split(r"[^\w-]", line)[0] for line in wanted if "extra ==" not in line}
    assert core == {"numpy", "networkx", "jinja2", "cffi", "lark", "rich", "safetensors"}
    assert set(metadata.get_all("Provides-Extra", [])) >= {"torch", "onnx", "toolchain", "plot", "dev"}
    assert [line for line in wanted if re.search(r"[<~]|==(?! ?['\"])", line.split(";")[0])] == []


def test_import_is_fast_and_light() -> None:
    code = f"""
import sys, time
start = time.perf_counter()
import compactir
print(time.perf_counter() - start)
print(*(m for m in {HEAVY} if m in sys.modules))
"""
    seconds = []
    for _ in range(10):
        elapsed, heavy = python(code, ROOT).split("\n", 1)
        assert heavy.split() == []
        seconds.append(float(elapsed))
    assert statistics.median(seconds) < 0.3


def test_public_names_load_on_first_use() -> None:
    assert {*compactir.PUBLIC, "__version__"} == set(compactir.__all__) <= set(dir(compactir))
    with pytest.raises(AttributeError, match="has no attribute 'no_such_thing'"):
        compactir.no_such_thing  # noqa: B018 - the access is the test
    for name, home in compactir.PUBLIC.items():
        value = getattr(compactir, name)
        assert callable(value)
        assert value.__module__.startswith(home)


def test_make_help_lists_every_command() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)
    described = re.findall(r"^([a-z-]+):.*## \S", makefile, flags=re.MULTILINE)
    assert sorted(described) == sorted(phony.split())
    assert {"setup", "run", "test"} <= set(described)
