"""The loaded network: what `compactir.load` returns and people call.

m = load("out")
y = m(image)                  # numpy or torch in, the same kind out; (C, H, W) is taken where N is 1
m(image, out=y)               # into an array that is there already
again = m.bind(image, out=y)  # the same arrays over and over: again() checks nothing any more
m.inputs, m.outputs, m.workspace_bytes, m.weights_bytes
print(m.profile())            # time of every step, and its share of the peak
print(m.memory())             # who lives where in the workspace, and when
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from numbers import Integral, Real
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from compactir.diagnostics import CompactError, check_argument, did_you_mean, spell_list
from compactir.ir.types import Array
from compactir.runtime.elf import read_elf
from compactir.runtime.manifest import Manifest, Tensor, read_manifest
from compactir.runtime.native import Native
from compactir.targets import cpu_features, machine

if TYPE_CHECKING:
    from compactir.runtime.memory import MemoryPlan
    from compactir.runtime.peak import Gauge
    from compactir.runtime.profile import Profile, Runner

__all__ = ["Module", "load", "load_answers", "load_on_board"]


class Backend(Protocol):
    """Who runs the code: this process, or an emulator."""

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array], threads: int = 1) -> None: ...

    def runner(
        self, inputs: Sequence[Array], outputs: Sequence[Array], threads: int = 1
    ) -> Callable[[], None]: ...


def load(path: str | Path, cc: str | None = None) -> Module:
    """Load a network from the folder that `compactc -o` wrote (or from the manifest.json in it).

    Of several levels (`--target x86,x86-avx512`) it is the best that this CPU has. A library for another
    architecture is called through an emulator, if there is one; a warning says so once. There `cc` compiles
    the C of the folder, by default the compiler that built the library, where it is here. For a module that
    runs on this CPU it compiles the loop that `Module.profile` compares with.

    Raises:
        CompactError: with a code of room 6xx: a missing or damaged file, weights of another build, a newer
            format, a CPU that lacks instructions; CIR678 for a `path` that is none.
    """
    check_argument("path", path, (str, os.PathLike), "the folder that `compactc -o DIR` wrote")
    check_argument("cc", cc, (str, type(None)), "the name or path of a C compiler")
    folder = Path(path)
    folder = folder.parent if folder.name == "manifest.json" else folder
    folder, manifest = _best_level(folder, read_manifest(folder))
    return Module(folder, manifest, _backend(folder, manifest, cc), cc)


def load_on_board(path: str | Path, host: str, cc: str | None = None) -> Module:
    """Load a network that runs on another machine, which `ssh host` reaches: see `compactir.runtime.board`.

    Raises:
        CompactError: as `load` does; CIR517 where the machine cannot be reached.
    """
    from compactir.runtime.board import Board

    folder = Path(path)
    manifest = read_manifest(folder)
    return Module(folder, manifest, Board(folder, manifest, host, cc=cc))


def load_answers(path: str | Path) -> Module:
    """Load what a board has answered by hand: a network that can be asked what it was asked there.

    Raises:
        CompactError: as `read_manifest` does; CIR518 for a folder without answers, and when something else
            is asked.
    """
    from compactir.runtime.by_hand import Answers

    folder = Path(path)
    manifest = read_manifest(folder)
    return Module(folder, manifest, Answers(folder, manifest))


def _best_level(folder: Path, lowest: Manifest) -> tuple[Path, Manifest]:
    """Of a network that was compiled for several levels, the best one that this CPU runs, or the lowest."""
    for name in lowest.levels:
        try:
            level = read_manifest(folder / name)
        except CompactError as error:
            raise error.at(None, f"it is a level of the module in {folder}") from None
        if not set(level.cpu_features) - cpu_features():
            return folder / name, level
    return folder, lowest


def _backend(folder: Path, manifest: Manifest, cc: str | None) -> Backend:
    if manifest.library is None:
        raise CompactError(
            "CIR614",
            f"{folder} holds the C of `{manifest.network}`, but no library",
            help=f"compile it with the library: `compactc MODEL.arch --emit c,lib -o {folder}`",
        )
    try:
        elf = read_elf(folder / manifest.library)
    except OSError:
        elf = None  # Native says what is wrong
    if elf is None or elf.machine == machine():
        return Native(folder, manifest)
    from compactir.runtime.emulate import Emulated  # brings compilers along: only where they are needed

    return Emulated(folder, manifest, cc=cc)


class Module:
    """A compiled network. Several threads may call it at once: each call has a workspace of its own."""

    def __init__(self, folder: Path, manifest: Manifest, backend: Backend, cc: str | None = None) -> None:
        self._folder = folder
        self._cc = cc
        self._manifest = manifest
        self._backend: Backend | None = backend
        self._input_names = tuple(t.name for t in manifest.inputs)

    def __call__(self, *inputs: Any, out: Any = None, threads: int | None = None, **named: Any) -> Any:
        """Run the network.

        Args:
            *inputs: the inputs in order, as numpy arrays or torch tensors on the CPU, of the declared
                element type. C-contiguous ones are used in place, others are copied. (C, H, W) is taken for
                (1, C, H, W).
            out: where to write, instead of new arrays: an array of the declared shape that is C-contiguous,
                writable and apart from the inputs; with several outputs a dict or a sequence of them.
            threads: how many threads share the call, from 1 to what the network was compiled for, which is
                the default. The results are the same bits for any number.
            **named: inputs by name, alone or after those given in order.

        Returns:
            One output: an array (a torch tensor if the first input was one; no gradients). Several: a dict
            by name, in the order of the network. With `out`: `out`.

        Raises:
            CompactError: CIR620 inputs that do not match by number or name, CIR621 a wrong shape, CIR622 a
                wrong element type, CIR623 not an array, CIR624 an unfit `out`, CIR625 a closed module, CIR628
                an odd number of threads.
        """
        backend = self._backend
        if backend is None:
            raise self._closed()
        count = self._threads(threads)
        given = self._in_order(inputs, named) if named or len(inputs) != len(self._input_names) else inputs
        arrays = [_input(x, tensor) for x, tensor in zip(given, self._manifest.inputs, strict=True)]
        if out is not None:
            backend.run(arrays, self._targets(out, arrays), count)
            return out
        results, targets = self._results(given[0] if given else None)
        backend.run(arrays, targets, count)
        return results[0] if len(results) == 1 else dict(zip(self.outputs, results, strict=True))

    def bind(self, *inputs: Any, out: Any, threads: int | None = None, **named: Any) -> Callable[[], Any]:
        """A call on these very arrays, checked now instead of every time: what short networks gain by.

        Fill the inputs in place, call, read `out`:

            image, logits = np.empty((1, 3, 224, 224), np.float32), np.empty((1, 1000), np.float32)
            classify = m.bind(image, out=logits)
            for frame in frames:
                image[0] = frame
                classify()

        Args:
            *inputs: as for a call, but only arrays that can be used in place.
            out: as for a call.
            threads: as for a call.
            **named: inputs by name.

        Returns:
            A function that takes nothing, runs the network and returns `out`. It keeps the arrays alive.

        Raises:
            CompactError: as a call does; CIR623 for an input that would have to be copied. The function
                raises CIR625 once the module is closed.
        """
        if self._backend is None:
            raise self._closed()
        given = self._in_order(inputs, named)
        arrays = [_input(x, tensor) for x, tensor in zip(given, self._manifest.inputs, strict=True)]
        for x, array, tensor in zip(given, arrays, self._manifest.inputs, strict=True):
            if not np.may_share_memory(_as_numpy(x, tensor, "CIR623"), array):
                raise _copied(tensor)
        run = self._backend.runner(arrays, self._targets(out, arrays), self._threads(threads))

        def again() -> Any:
            if self._backend is None:
                raise self._closed()
            run()
            return out

        return again

    @property
    def name(self) -> str:
        """The network's name."""
        return self._manifest.network

    @property
    def target(self) -> str:
        """The target it was compiled for."""
        return self._manifest.target

    @property
    def inputs(self) -> dict[str, Tensor]:
        """Name → element type and shape, in the order of a call."""
        return {t.name: t for t in self._manifest.inputs}

    @property
    def outputs(self) -> dict[str, Tensor]:
        """Name → element type and shape."""
        return {t.name: t for t in self._manifest.outputs}

    @property
    def workspace_bytes(self) -> int:
        """Memory that one call needs for everything between inputs and outputs."""
        return self._manifest.workspace_bytes

    @property
    def weights_bytes(self) -> int:
        """Size of the packed weights, header included."""
        return self._manifest.weights_bytes

    @property
    def threads(self) -> int:
        """The most threads that a call runs on: what the network was compiled for."""
        return self._manifest.threads

    @property
    def manifest(self) -> Manifest:
        """All that is known about it."""
        return self._manifest

    @property
    def folder(self) -> Path:
        """Where it was loaded from."""
        return self._folder

    def profile(
        self,
        *inputs: Any,
        repeats: int = 20,
        warmup: int = 3,
        peak_gflops: float | None = None,
        threads: int | None = None,
        **named: Any,
    ) -> Profile:
        """Time every step: the median of `repeats` runs, after `warmup` runs, and its share of the peak.

        The peak is that of a loop of multiply-adds on the cores that take part, timed just before and after.
        Its library is compiled once and kept in the build cache; where there is no C compiler, or where more
        threads take part than this process has cores, the table has no such column.

        Args:
            *inputs: as for a call; without any, random numbers.
            repeats: how many timed runs, at least 1.
            warmup: how many runs before, or 0.
            peak_gflops: take this number for the peak; 0: leave the column out.
            threads: as for a call.
            **named: inputs by name.

        Raises:
            CompactError: CIR627 where steps cannot be timed, CIR628 too many threads or too few, CIR678
                `repeats`, `warmup` or `peak_gflops` that are none, room 5xx where the `cc` that the module
                was loaded with cannot compile the loop.
        """
        from compactir.runtime.profile import measure

        least_one, none_too = "a whole number of at least 1", "a whole number, 0 for none"
        check_argument("repeats", repeats, (Integral,), least_one, lambda count: count >= 1)
        check_argument("warmup", warmup, (Integral,), none_too, lambda count: count >= 0)
        wanted = "the peak in GFLOP/s, or 0 for a table without it"
        check_argument("peak_gflops", peak_gflops, (Real, bool, type(None)), wanted, _is_peak)
        given = self._in_order(inputs, named) if inputs or named else self._random()
        count = self._threads(threads)
        run = self.stepper(*given, threads=count)
        gauge = self._gauge(count) if peak_gflops is None else None
        before = gauge() if gauge else 0.0
        profile = measure(self._manifest, run, int(repeats), int(warmup), peak_gflops or None, count)
        if gauge:
            return profile.against(max(before, gauge()))
        return profile if peak_gflops is not None else self._unmeasured(profile)

    def _gauge(self, threads: int) -> Gauge | None:
        """What measures the peak; None where it cannot be measured."""
        from compactir.runtime.peak import find_gauge  # brings compilers along

        return find_gauge(self.target, threads, self._cc)

    def _unmeasured(self, profile: Profile) -> Profile:
        """With a note where more cores would give it a peak."""
        from compactir.runtime.peak import few_cores

        return replace(profile, note=few_cores(profile.threads))

    def stepper(self, *inputs: Any, threads: int = 1) -> Runner:
        """`f(first, last)` runs these steps on prepared inputs (random ones, if none are given), for timing.

        Raises:
            CompactError: CIR627 where steps cannot be timed, CIR628 as `profile` does.
        """
        if not isinstance(self._backend, Native):
            raise self._closed() if self._backend is None else self._untimed("it runs in an emulator")
        if not self._manifest.steps:
            raise self._untimed("it was compiled without a list of steps")
        given = inputs or self._random()
        arrays = [_input(x, tensor) for x, tensor in zip(given, self._manifest.inputs, strict=True)]
        runner: Runner = self._backend.stepper(arrays, self._results(None)[1], self._threads(threads))
        return runner

    def stepwise(self, *inputs: Any, **named: Any) -> Iterator[tuple[Array, dict[str, Array]]]:
        """Run step by step; after each, the workspace as floats and the outputs as they are by then.

        The arrays are only valid until the next step. What `compactc verify --per-layer` reads.

        Raises:
            CompactError: as a call does.
        """
        from compactir.runtime.emulate import Emulated

        given = self._in_order(inputs, named)
        arrays = [_input(x, tensor) for x, tensor in zip(given, self._manifest.inputs, strict=True)]
        results, targets = self._results(None)
        outputs = dict(zip(self.outputs, results, strict=True))
        backend = self._backend  # what is under way goes on when the module is closed
        if isinstance(backend, Native):
            workspace = backend.workspace()
            for step in range(len(self._manifest.steps)):
                backend.run_steps(arrays, targets, workspace, step, step + 1)
                yield backend.memory(workspace), outputs
        elif isinstance(backend, Emulated):
            for step in range(len(self._manifest.steps)):
                memory = backend.run_steps(arrays, targets, step, step + 1)
                yield np.frombuffer(memory, np.float32), outputs
        else:
            raise self._closed()

    def memory(self) -> MemoryPlan:
        """The plan of the workspace: who lives where and when, the peak and who lives at it."""
        from compactir.runtime.memory import MemoryPlan

        return MemoryPlan(self._manifest)

    def close(self) -> None:
        """Let go of the library and the weights. Calls under way finish; later ones raise CIR625."""
        self._backend = None

    def __enter__(self) -> Module:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        inputs, outputs = (", ".join(map(str, ts)) for ts in (self._manifest.inputs, self._manifest.outputs))
        closed = ", closed" if self._backend is None else ""
        return f"<compactir module {self.name} ({self.target}{closed}): {inputs} -> {outputs}>"

    def _in_order(self, inputs: Sequence[Any], named: Mapping[str, Any]) -> list[Any]:
        """Positional and named inputs in the order of the network. Errors: CIR620."""
        names = self._input_names
        for name in named:
            if name not in names:
                hint = did_you_mean(name, names) or f"the inputs are {spell_list([f'`{n}`' for n in names])}"
                raise CompactError("CIR620", f"`{self.name}` has no input named `{name}`", help=hint)
        if len(inputs) > len(names):
            takes = f"it takes {len(names)}: {spell_list([f'`{n}`' for n in names])}"
            raise CompactError("CIR620", f"{len(inputs)} inputs for `{self.name}`", help=takes)
        if twice := [name for name in names[: len(inputs)] if name in named]:
            raise CompactError("CIR620", f"the input `{twice[0]}` is given twice", help="give it once")
        rest = names[len(inputs) :]
        if missing := [name for name in rest if name not in named]:
            what = spell_list([f"`{name}`" for name in missing])
            raise CompactError(
                "CIR620", f"`{self.name}` needs {what}", help=f"call it as `m({', '.join(names)})`"
            )
        return [*inputs, *(named[name] for name in rest)]

    def _targets(self, out: Any, arrays: Sequence[Array]) -> list[Array]:
        """The arrays behind `out`. Errors: CIR624."""
        tensors = self._manifest.outputs
        if isinstance(out, Mapping):
            if set(out) != {t.name for t in tensors}:
                wanted = spell_list([f"`{t.name}`" for t in tensors])
                raise CompactError("CIR624", f"`out` has the keys {sorted(out)}", help=f"it needs {wanted}")
            given = [out[t.name] for t in tensors]
        else:
            given = list(out) if len(tensors) > 1 and isinstance(out, (list, tuple)) else [out]
        if len(given) != len(tensors):
            what = f"`out` holds {len(given)} arrays, the network has {len(tensors)} outputs"
            raise CompactError("CIR624", what, help=f"give {spell_list([f'`{t.name}`' for t in tensors])}")
        targets = [_output(x, tensor) for x, tensor in zip(given, tensors, strict=True)]
        _check_apart(targets, arrays, tensors)
        return targets

    def _results(self, like: Any) -> tuple[list[Any], list[Array]]:
        """New outputs of the same kind as `like`, and the arrays over their memory."""
        if hasattr(like, "data_ptr"):  # a torch tensor
            tensors = [like.new_empty(t.shape) for t in self._manifest.outputs]
            return tensors, [tensor.numpy() for tensor in tensors]
        arrays = [np.empty(t.shape, t.numpy_dtype) for t in self._manifest.outputs]
        return arrays, arrays

    def _threads(self, wanted: int | None) -> int:
        """How many threads a call runs on. Errors: CIR628."""
        most = self._manifest.threads
        if wanted is None:
            return most
        whole = isinstance(wanted, (int, np.integer)) and not isinstance(wanted, bool)
        if whole and 1 <= wanted <= most:
            return int(wanted)
        what, limit = (f"{most} threads", f"1 to {most}") if most > 1 else ("one thread", "1")
        more = f", or compile it with `--threads {wanted}`" if whole and wanted > most else ""
        raise CompactError(
            "CIR628",
            f"`{self.name}` cannot run on {wanted!r} threads: it is compiled for {what}",
            help=f"give {limit if whole else f'a whole number: {limit}'}{more}",
        )

    def _random(self) -> list[Array]:
        rng = np.random.default_rng(0)
        return [rng.standard_normal(t.shape).astype(t.numpy_dtype) for t in self._manifest.inputs]

    def _closed(self) -> CompactError:
        return CompactError("CIR625", f"the module `{self.name}` was closed", help="load it again")

    def _untimed(self, why: str) -> CompactError:
        return CompactError(
            "CIR627",
            f"the steps of `{self.name}` cannot be timed",
            notes=[why],
            help="time it on the machine it is for",
        )


def _input(x: Any, tensor: Tensor) -> Array:
    """The array behind an input, C-contiguous and aligned; a copy only where it was not."""
    array = x if type(x) is np.ndarray else _as_numpy(x, tensor, "CIR623")
    if array.dtype != tensor.numpy_dtype:
        raise _wrong_dtype(str(array.dtype), tensor)
    if array.shape != tensor.shape:
        if tensor.shape[0] != 1 or array.shape != tensor.shape[1:]:
            raise _wrong_shape(array.shape, tensor)
        array = array[np.newaxis]
    return (
        array
        if array.flags.c_contiguous and array.flags.aligned
        else np.require(array, requirements=["C", "A"])
    )


def _output(x: Any, tensor: Tensor) -> Array:
    """The array behind an `out`, fit to be written to. Errors: CIR624."""
    array = x if type(x) is np.ndarray else _as_numpy(x, tensor, "CIR624")
    shape, flags = array.shape, array.flags
    if array.dtype == tensor.numpy_dtype and shape == tensor.shape and flags.carray:
        return array
    problems = {
        f"its element type is {array.dtype}": array.dtype != tensor.numpy_dtype,
        f"its shape is {list(shape)}": shape != tensor.shape
        and not (tensor.shape[0] == 1 and shape == tensor.shape[1:]),
        "it is not C-contiguous": not (flags.c_contiguous and flags.aligned),
        "it is read-only": not flags.writeable,
    }
    if found := [problem for problem, holds in problems.items() if holds]:
        wanted = f"np.empty({tensor.shape}, np.{tensor.numpy_dtype})"
        raise CompactError(
            "CIR624", f"`out` cannot hold {tensor}", notes=found, help=f"make it with `{wanted}`"
        )
    return array


def _as_numpy(x: Any, tensor: Tensor, code: str) -> Array:
    """The memory of a numpy array, a torch tensor or whatever speaks one of their protocols, not copied."""
    if hasattr(x, "data_ptr"):
        return _of_torch(x, tensor, code)
    if isinstance(x, np.ndarray) or hasattr(x, "__array_interface__"):
        return np.asarray(x)
    if hasattr(x, "__dlpack__"):
        try:
            return np.from_dlpack(x)
        except (BufferError, RuntimeError, TypeError, ValueError) as error:
            raise _no_array(x, tensor, code, [str(error)]) from error
    raise _no_array(x, tensor, code, [])


def _of_torch(x: Any, tensor: Tensor, code: str) -> Array:
    if x.device.type != "cpu":
        raise CompactError(code, f"`{tensor.name}` lies on {x.device}", help="bring it to the CPU: `x.cpu()`")
    try:
        array: Array = x.detach().numpy()
    except (TypeError, RuntimeError) as error:  # bfloat16, sparse: what numpy cannot say
        raise _wrong_dtype(str(x.dtype), tensor, [str(error)]) from error
    if array.dtype != tensor.numpy_dtype and code != "CIR624":
        raise _wrong_dtype(str(x.dtype), tensor)
    return array


def _no_array(x: Any, tensor: Tensor, code: str, notes: Sequence[str]) -> CompactError:
    return CompactError(
        code,
        f"`{tensor.name}` is given as {type(x).__name__}, not as an array",
        notes=notes,
        help=f"make one of it: `np.asarray(x, np.{tensor.numpy_dtype})`",
    )


def _is_peak(value: float | None) -> bool:
    return not value or (value is not True and value > 0)


def _copied(tensor: Tensor) -> CompactError:
    return CompactError(
        "CIR623",
        f"`{tensor.name}` is not C-contiguous: what is bound must be used in place",
        help="bind an array that is, and copy into it: `np.ascontiguousarray(x)` makes one",
    )


def _wrong_dtype(found: str, tensor: Tensor, notes: Sequence[str] = ()) -> CompactError:
    convert = "x.float()" if found.startswith("torch.") else f"x.astype(np.{tensor.numpy_dtype})"
    what = f"`{tensor.name}` is {found}, the network takes {tensor.numpy_dtype}"
    return CompactError(
        "CIR622", what, notes=notes, help=f"convert it (and scale it, if it is an image): `{convert}`"
    )


def _wrong_shape(found: tuple[int, ...], tensor: Tensor) -> CompactError:
    what = f"`{tensor.name}` has shape {list(found)}, the network takes {list(tensor.shape)}"
    return CompactError("CIR621", what, help=_shape_help(found, tensor.shape))


def _shape_help(found: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """What people do: channels last, another batch, a flat array."""
    batch, item = wanted[0], wanted[1:]
    if len(item) == 3 and found[-3:] == (*item[1:], item[0]):
        axes = (2, 0, 1) if len(found) == 3 else (0, 3, 1, 2)
        return f"the channels come first here: `x.transpose{axes}`"
    if found[1:] == item:
        one_by_one = " or call it once per item: `m(x[i])`" if batch == 1 else ""
        return f"it was compiled for batches of {batch}: compile with `--batch {found[0]}`{one_by_one}"
    if found == item:
        return f"it was compiled for batches of {batch}: stack {batch} of them with `np.stack`"
    if np.prod(found) == np.prod(wanted):
        return f"the number of elements is right: `x.reshape{wanted}`"
    return (
        "resize the input, or compile the network for this size (`-D size=…` where it has such a parameter)"
    )


def _check_apart(targets: Sequence[Array], inputs: Sequence[Array], tensors: Sequence[Tensor]) -> None:
    """Generated code may write an output while it still reads an input. Errors: CIR624."""
    for i, (target, tensor) in enumerate(zip(targets, tensors, strict=True)):
        if any(np.may_share_memory(target, other) for other in (*inputs, *targets[:i])):
            problem = f"`out` for `{tensor.name}` overlaps an input or another output"
            raise CompactError("CIR624", problem, help="give it memory of its own")
