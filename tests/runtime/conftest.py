"""A network small enough to write by hand: y = relu(w[c] * x[c]), behind the interface of generated code."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from compactir.runtime.build import find_compiler
from compactir.runtime.cache import Cache
from compactir.runtime.manifest import Buffer, Manifest, Step, Tensor
from compactir.runtime.package import build_library, write_folder
from compactir.targets import load_target, machine
from compactir.weights.container import pack

CONTENT_ID = bytes(range(16))
WEIGHTS = np.array([1.0, -2.0, 0.5], np.float32)
SHAPE = (1, 3, 4, 5)

SOURCE = """\
#include "{name}.h"
#include <string.h>
{storage}
static const unsigned char id[16] = {{ {id} }};

const char *{name}_error(int code) {{
  static const char *const text[] = {{
    "fine", "a bad argument", "these are not its weights", "another version", "another byte order",
    "another size", "not aligned", "another CPU"
  }};
  return code >= 0 && code < 8 ? text[code] : "unknown";
}}

const char *{name}_signature(void) {{ return "{signature}"; }}

int {name}_bind({name}_weights *w, const void *data, size_t size) {{
  const unsigned char *bytes = data;
  if (!w || !data) return 1;
  if (size != {weights_bytes}) return 5;
  if ((size_t)bytes % 64) return 6;
  if (memcmp(bytes, "CIRW", 4) || memcmp(bytes + 24, id, 16)) return 2;
  if (bytes[4] != 1) return 3;
  w->data = (const float *)(const void *)(bytes + 64);
  return 0;
}}

const void *{name}_inline_weights(void) {{ return {inline}; }}

int {name}_run_steps(const {name}_weights *w, const float *image, float *y, void *workspace,
                     int first, int last) {{
  float *t = workspace;
  if (!w || !image || !y || !workspace || (size_t)workspace % 64) return 1;
  if (first <= 0 && last > 0)
    for (int c = 0; c < 3; ++c) for (int i = 0; i < 20; ++i) t[c * 20 + i] = w->data[c] * image[c * 20 + i];
  if (first <= 1 && last > 1)
    for (int i = 0; i < 60; ++i) y[i] = {factor}f * (t[i] > 0 ? t[i] : 0);
  return 0;
}}

int {name}_run(const {name}_weights *w, const float *image, float *y, void *workspace) {{
  return {name}_run_steps(w, image, y, workspace, 0, 2);
}}
"""

HEADER = """\
#include <stddef.h>
#define PUBLIC __attribute__((visibility("default")))
typedef struct {{ const float *data; }} {name}_weights;
PUBLIC const char *{name}_error(int code);
PUBLIC const char *{name}_signature(void);
PUBLIC int {name}_bind({name}_weights *w, const void *data, size_t size);
PUBLIC const void *{name}_inline_weights(void);
PUBLIC int {name}_run(const {name}_weights *w, const float *image, float *y, void *workspace);
PUBLIC int {name}_run_steps(const {name}_weights *w, const float *image, float *y, void *workspace,
                            int first, int last);
"""

Make = Callable[..., Path]


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """`compiled(target="c", embed=False, …)` is an output folder, built once: do not change it."""
    cache = Cache(tmp_path_factory.mktemp("cache"))

    def make(target: str = "c", embed: bool = False, name: str = "tiny", factor: float = 1.0) -> Path:
        chosen = load_target(target)
        packed = pack(WEIGHTS, CONTENT_ID)
        manifest = tiny_manifest(name, target, chosen.isa, chosen.cpu_features, len(packed), embed)
        files = sources(name, factor, len(packed), embed, manifest.signature)
        library = build_library(
            manifest, files, chosen, find_compiler(chosen), embed=packed if embed else None, cache=cache
        )
        assert manifest.library
        folder = tmp_path_factory.mktemp(f"{name}-{target}")
        beside = {} if embed else {f"{name}.weights": packed}
        write_folder(folder, manifest, {**files, manifest.library: library, **beside})
        return folder

    made: dict[tuple[object, ...], Path] = {}

    def remembered(target: str = "c", embed: bool = False, name: str = "tiny", factor: float = 1.0) -> Path:
        key = (target, embed, name, factor)
        if key not in made:
            made[key] = make(*key)
        return made[key]

    return remembered


@pytest.fixture
def tiny(compiled: Make, tmp_path: Path) -> Path:
    """A copy of the tiny network's output folder, to be damaged."""
    return Path(shutil.copytree(compiled(), tmp_path / "out dir ü"))


@pytest.fixture
def image() -> np.ndarray:
    """An input of the tiny network."""
    return np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)


@pytest.fixture(scope="session")
def expected() -> Callable[[np.ndarray], np.ndarray]:
    """What the tiny network computes."""
    return lambda x: np.maximum(x * WEIGHTS.reshape(1, 3, 1, 1), 0)


@pytest.fixture(scope="session")
def other_machine() -> str:
    """A processor that this machine is not: the target of its name can be emulated."""
    return "arm" if machine() != "aarch64" else "x86"


@pytest.fixture(scope="session")
def tiny_sources() -> Callable[[], dict[str, str]]:
    """The C of the tiny network, for tests that compile it themselves."""
    return lambda: sources("tiny", 1.0, 64 + WEIGHTS.nbytes, False)


def sources(name: str, factor: float, weights_bytes: int, embed: bool, signature: str = "") -> dict[str, str]:
    storage = f"extern const unsigned char {name}_packed[];" if embed else ""
    inline = f"{name}_packed" if embed else "NULL"
    text = SOURCE.format(
        name=name,
        storage=storage,
        inline=inline,
        factor=factor,
        weights_bytes=weights_bytes,
        signature=signature,
        id=", ".join(str(byte) for byte in CONTENT_ID),
    )
    return {f"{name}.c": text, f"{name}.h": HEADER.format(name=name)}


def tiny_manifest(
    name: str, target: str, isa: str, features: tuple[str, ...], weights_bytes: int, embed: bool
) -> Manifest:
    scale = Step("scale", "scale_c3", "affine", 60, 492, "scale", "tiny.arch:3:7")
    manifest = Manifest(
        network=name,
        symbol=name,
        target=target,
        isa=isa,
        cpu_features=features,
        inputs=(Tensor("image", "f32", SHAPE),),
        outputs=(Tensor("y", "f32", SHAPE),),
        workspace_bytes=256,
        weights_bytes=weights_bytes,
        align=64,
        content_id=CONTENT_ID.hex(),
        library=f"lib{name}.so",
        weights=None if embed else f"{name}.weights",
        source=f"{name}.c",
        header=f"{name}.h",
        steps=(scale, replace(scale, name="relu", kernel="relu", op="relu", macs=0, bytes_moved=480)),
        memory=(Buffer("t", 0, 240, 0, 1),),
        raw={"compactir": "0.1.0", "init": {"seed": 0}},
    )
    return manifest
