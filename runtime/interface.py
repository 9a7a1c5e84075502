"""The C interface of a generated network, as cffi wants it declared.

The declarations are turned into a small Python file when a network is built (out-of-line ABI mode): parsing
them takes tens of milliseconds, loading that file a fraction of one, without a C parser.
"""

from __future__ import annotations

from pathlib import Path

from compactir.runtime.manifest import Manifest, Tensor

__all__ = ["ERRORS", "cdef", "ffi_source"]

ERRORS = (
    "OK",
    "BAD_ARGUMENT",
    "BAD_WEIGHTS",
    "BAD_VERSION",
    "BAD_ENDIANNESS",
    "BAD_SIZE",
    "BAD_ALIGNMENT",
    "BAD_CPU",
)
"""What a number returned by generated code means: NAME_OK is 0, and so on."""

_C_TYPES = {"f32": "float", "f64": "double", "i8": "int8_t", "i32": "int32_t"}


def cdef(manifest: Manifest) -> str:
    """The C declarations of the library's functions."""
    name = manifest.symbol
    tensors = [f"const {_pointer(t)}" for t in manifest.inputs] + [_pointer(t) for t in manifest.outputs]
    arguments = ", ".join([f"const {name}_weights *", *tensors, "void *"])
    shared = f"""\
int {name}_run_threads({arguments}, int);
int {name}_run_steps_threads({arguments}, int, int, int);
void {name}_stop(void);
"""
    return f"""\
typedef struct {{ const float *data; }} {name}_weights;
const char *{name}_error(int);
const char *{name}_signature(void);
int {name}_bind({name}_weights *, const void *, size_t);
const void *{name}_inline_weights(void);
int {name}_run({arguments});
int {name}_run_steps({arguments}, int, int);
{shared if manifest.threads > 1 else ""}"""


def ffi_source(manifest: Manifest) -> str:
    """The text of NAME_ffi.py: what `cdef` says, digested."""
    import tempfile

    from cffi import FFI  # brings a C parser: only where something is built

    ffi = FFI()
    ffi.cdef(cdef(manifest))
    ffi.set_source(f"{manifest.symbol}_ffi", None, compiler_verbose=False)  # it prints otherwise
    with tempfile.TemporaryDirectory(prefix="compactir-") as folder:
        path = Path(folder) / manifest.ffi
        ffi.emit_python_code(str(path))
        return path.read_text(encoding="utf-8")


def _pointer(tensor: Tensor) -> str:
    return f"{_C_TYPES[tensor.dtype]} *"
