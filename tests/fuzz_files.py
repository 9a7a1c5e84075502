"""Throw damaged .onnx, .safetensors and .npz files at their readers: `python -m tests.fuzz_files`.

Whatever a file holds, it is read and used, or refused by a CompactError that renders: no other exception, no
crash, no file outside of the folder that the command writes to, bounded memory and time. Noise would be
refused at the door, so most files are sound containers with wrong content: headers, shapes, offsets, names
and archives changed one by one and written anew, ONNX nodes, attributes, types and constants exchanged and
bent. What comes through is used as a user would: weights are matched and mapped, networks are verified,
printed, written as .arch, laid onto another network and, where they are small, run.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from compactir import driver, reference
from compactir.diagnostics import CompactError, render, render_json
from compactir.ir.graph import Graph
from compactir.ir.text import parse_graph, print_graph
from compactir.ir.types import Array
from compactir.ir.verify import verify
from compactir.lang import elaborate, parse
from compactir.lang.write import write_arch
from compactir.weights.init import draw
from compactir.weights.load import load_weights, read_weights
from compactir.weights.safetensors import write_safetensors

NETWORK = """
network net {
  input image: f32[3, 6, 6]
  x = image -> conv(8, kernel=3, bias=true) as stem -> bn -> relu -> shuffle(2)
  x = x -> depthwise(kernel=[3, 5]) as mixed -> conv(8, kernel=1, groups=[1/4, 3/4]) as join
  output y = x -> global_avg_pool -> linear(5) as head
}
"""
MEMORY = 6 << 30
"""Address space of the process while it runs `main`: PyTorch and NumPy alone claim one."""
PATIENCE_S = 20
"""Seconds for one file."""
ODD = [0, 1, -1, 2, 3, 7, 64, 1000, 65535, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1, -(2**63)]
NAMES = [
    "",
    ".",
    "a" * 300,
    "../../escape",
    "/etc/passwd",
    "stem.weight",
    "x\x00y",
    "ä",
    "head",
    "aux.w",
    "1",
    "a.b.c",
]


@dataclass
class Tally:
    """What became of the files."""

    files: int = 0
    structured: int = 0
    past: int = 0
    """Structure-aware files whose container was read."""
    used: int = 0

    def __str__(self) -> str:
        share = 100 * self.past / max(self.files, 1)
        return (
            f"{self.files} files, {self.structured} structure-aware, {self.past} of these past the reader "
            f"({share:.0f} % of all), {self.used} used to the end"
        )


@cache
def network() -> Graph:
    """The network that weights files are for."""
    return elaborate(parse(NETWORK, "net.arch"))


# -- damage to bytes -----------------------------------------------------------------------------------------


def damaged(rng: random.Random, data: bytes) -> bytes:
    """A few bytes changed, lost, doubled; the end gone; or noise."""
    found = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        kind, at = rng.randrange(6), rng.randrange(len(found) + 1)
        if kind == 0 and found:
            found[at % len(found)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del found[at:]
        elif kind == 2:
            del found[at : at + rng.randrange(1, 40)]
        elif kind == 3:
            found[at:at] = found[at : at + rng.randrange(1, 40)]
        elif kind == 4:
            found[at:at] = rng.randbytes(rng.randrange(1, 12))
        elif found:
            found[at % len(found)] = rng.choice([0, 0x7F, 0x80, 0xFF])
    return bytes(found) if rng.random() < 0.97 else rng.randbytes(rng.randrange(300))


# -- weights -------------------------------------------------------------------------------------------------


def weights(rng: random.Random) -> dict[str, Array]:
    """Weights of the network, some of them wrong: names, shapes, types, numbers."""
    arrays: dict[str, Array] = dict(draw(network(), rng.randrange(3)))
    for _ in range(rng.choice([0, 1, 1, 2, 5])):
        name = rng.choice(list(arrays))
        kind = rng.randrange(8)
        if kind == 0:
            arrays.pop(name)
            arrays = arrays or {"only": np.zeros(1, np.float32)}
        elif kind == 1:
            arrays[rng.choice(NAMES) or "e"] = arrays[name]
        elif kind == 2:
            arrays[name] = arrays[name].astype(rng.choice(["<f8", "<f2", "i1", "<i8", "?", "u1"]))
        elif kind == 3:
            arrays[name] = np.asarray(arrays[name], np.float32) * np.float32(
                rng.choice([np.nan, np.inf, 1e30])
            )
        elif kind == 4:
            arrays[name] = arrays[name].reshape(-1)
        elif kind == 5:
            arrays[name] = np.zeros((0, *arrays[name].shape), np.float32)
        elif kind == 6:
            arrays = {f"net.{i}.{n}": a for i, (n, a) in enumerate(arrays.items())}
        else:
            other = rng.choice(list(arrays))
            arrays[name], arrays[other] = arrays[other], arrays[name]
    return arrays


def safetensors(rng: random.Random, folder: Path) -> bytes:
    """A sound container: its header may say what it should not."""
    path = folder / "seed.safetensors"
    arrays = weights(rng)
    write_safetensors(path, {n: a for n, a in arrays.items() if "\x00" not in n})
    data = path.read_bytes()
    path.unlink()
    if rng.random() < 0.4:
        return data
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    for _ in range(rng.choice([1, 1, 2])):
        name = rng.choice(list(header))
        entry = header[name]
        kind = rng.randrange(7) if isinstance(entry, dict) and "data_offsets" in entry else 5
        if kind == 0:
            entry["shape"] = [rng.choice(ODD) for _ in range(rng.randrange(6))]
        elif kind == 1:
            entry["data_offsets"] = rng.choice(
                [[0, rng.choice(ODD)], entry["data_offsets"][::-1], [0], "ab", None]
            )
        elif kind == 2:
            entry["dtype"] = rng.choice(
                ["F32", "F16", "BF16", "F64", "I64", "F8_E4M3", "", "f32", 3, None, "U8"]
            )
        elif kind == 3:
            header[name] = rng.choice([None, [], 7, "x", {}, {"dtype": "F32"}])
            break
        elif kind == 4:
            header[rng.choice(NAMES)] = dict(entry)
        elif kind == 5:
            header["__metadata__"] = rng.choice([{}, {"a": "b"}, 3, None, {"a": {"b": [1]}}, "x" * 1000])
        else:
            del entry[rng.choice(list(entry))]
            break
    text = json.dumps(header).encode()
    claimed = len(text) if rng.random() < 0.9 else abs(rng.choice(ODD)) % 2**63
    return claimed.to_bytes(8, "little") + text + body


def npz(rng: random.Random, folder: Path) -> bytes:
    """A sound archive: its members may be no arrays, or claim what they do not hold."""
    buffer = io.BytesIO()
    how = rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    with zipfile.ZipFile(buffer, "w", how) as archive:
        for name, array in weights(rng).items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
            data = member.getvalue()
            if rng.random() < 0.08:
                data = _other_member(rng, data)
            written = rng.choice(NAMES) if rng.random() < 0.03 else name
            archive.writestr(f"{written.replace(chr(0), '0') or 'e'}.npy", data)
    return buffer.getvalue()


def _other_member(rng: random.Random, data: bytes) -> bytes:
    header = rng.choice(
        [
            f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rng.choice(ODD)}, {rng.choice(ODD)}), }}",
            "{'descr': '|O', 'fortran_order': False, 'shape': (3,), }",
            "{'descr': '<f4', 'fortran_order': True, 'shape': (3, 3), }",
            "{'descr': '<c16', 'fortran_order': False, 'shape': (), }",
            "{'descr': [('a', '<f4'), ('b', '<i8')], 'fortran_order': False, 'shape': (2,), }",
            "__import__('os').system('touch escaped')",
            "{'descr': '<U7', 'fortran_order': False, 'shape': (1,), }",
            "[" * 200,
        ]
    ).encode()
    kind = rng.randrange(4)
    if kind == 0:
        return damaged(rng, data)
    if kind == 1:
        return data[: rng.randrange(len(data))]
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data[-16:]


# -- onnx ----------------------------------------------------------------------------------------------------


@cache
def models() -> list[Any]:
    """Sound models to start from: our own networks, and what the onnx package has for single operators."""
    import onnx
    import onnx.backend.test

    from compactir.codegen.onnx import export_onnx

    graph = network().clone()
    graph.weights = draw(graph, 1)
    folder = Path(onnx.backend.test.__file__).parent / "data" / "node"
    paths = sorted(folder.glob("*/model.onnx"))[::9]
    return [export_onnx(graph), *(onnx.load(str(p)) for p in paths if p.stat().st_size < 4000)]


def onnx_model(rng: random.Random, folder: Path) -> bytes:
    """A sound protobuf: nodes, attributes, constants and types may be those of another model, or of none."""
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(rng.choice([models()[0], rng.choice(models())]))
    for _ in range(rng.choice([0, 1, 1, 1, 2, 4])):
        rng.choice(_BENDS)(rng, model)
    return bytes(model.SerializeToString())


def _nodes(rng: random.Random, model: Any) -> None:
    nodes = model.graph.node
    if not nodes:
        return
    node, other = rng.choice(nodes), rng.choice(nodes)
    kind = rng.randrange(9)
    if kind == 0:
        node.op_type = rng.choice(
            [other.op_type, "Relu", "Conv", "Loop", "If", "Nothing", "", "Reshape", "Split"]
        )
    elif kind == 1 and node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice([*other.output, *node.output, "nobody", ""])
    elif kind == 2 and node.output:
        node.output[0] = rng.choice([*other.output, "", "fresh"])
    elif kind == 3:
        nodes.remove(node)
    elif kind == 4:
        nodes.add().CopyFrom(node)
    elif kind == 5:
        node.domain = rng.choice(["", "ai.onnx.ml", "com.microsoft", "x" * 200])
    elif kind == 6 and node.input:
        node.input.pop()
    elif kind == 7:
        node.input.append(rng.choice([*other.output, "nobody", *node.input[:1]]))
    else:
        kept = list(nodes)
        rng.shuffle(kept)
        del nodes[:]
        nodes.extend(kept)


def _attributes(rng: random.Random, model: Any) -> None:
    import onnx

    found = [(n, a) for n in model.graph.node for a in n.attribute]
    if not found or rng.random() < 0.2:
        if model.graph.node:
            node = rng.choice(model.graph.node)
            word = rng.choice(
                ["axis", "pads", "group", "strides", "kernel_shape", "perm", "to", "alpha", "mode"]
            )
            if word not in {a.name for a in node.attribute}:
                value = rng.choice([rng.choice(ODD), [rng.choice(ODD)] * 4, 0.5, "SAME_UPPER"])
                node.attribute.append(onnx.helper.make_attribute(word, value))
        return
    node, attribute = rng.choice(found)
    kind = rng.randrange(5)
    if kind == 0:
        attribute.i = rng.choice(ODD)
    elif kind == 1 and attribute.ints:
        attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(ODD)
    elif kind == 2:
        attribute.ints.append(rng.choice(ODD))
    elif kind == 3:
        attribute.type = rng.randrange(14)
    else:
        node.attribute.remove(attribute)


def _constants(rng: random.Random, model: Any) -> None:
    held = [a.t for n in model.graph.node for a in n.attribute if a.HasField("t")]
    tensors = [*model.graph.initializer, *held]
    if not tensors:
        return
    tensor = rng.choice(tensors)
    kind = rng.randrange(8)
    if kind == 0:
        del tensor.dims[:]
        tensor.dims.extend(rng.choice(ODD) for _ in range(rng.randrange(5)))
    elif kind == 1:
        tensor.data_type = rng.randrange(24)
    elif kind == 2:
        tensor.raw_data = rng.randbytes(rng.randrange(64))
    elif kind == 3:
        tensor.data_location = 1
        entry = tensor.external_data.add()
        entry.key, entry.value = (
            "location",
            rng.choice(["../secret", "/etc/passwd", "weights.bin", "", "a/../../b", "."]),
        )
        more = tensor.external_data.add()
        more.key, more.value = rng.choice(["offset", "length"]), str(rng.choice(ODD))
    elif kind == 4:
        tensor.name = rng.choice([*(t.name for t in tensors), "", "fresh"])
    elif kind == 5 and model.graph.initializer:
        model.graph.initializer.remove(rng.choice(model.graph.initializer))
    elif kind == 6:
        tensor.float_data.append(1.0)
    else:
        tensor.raw_data = tensor.raw_data[: len(tensor.raw_data) // 2]


def _interface(rng: random.Random, model: Any) -> None:
    ends = [*model.graph.input, *model.graph.output]
    if not ends:
        return
    info = rng.choice(ends)
    kind = rng.randrange(7)
    shape = info.type.tensor_type.shape
    if kind == 0 and shape.dim:
        rng.choice(shape.dim).dim_value = rng.choice(ODD)
    elif kind == 1:
        shape.dim.add().dim_value = rng.choice([1, 2, 0])
    elif kind == 2 and shape.dim:
        rng.choice(shape.dim).dim_param = "N"
    elif kind == 3:
        info.type.tensor_type.elem_type = rng.randrange(24)
    elif kind == 4:
        info.name = rng.choice(["nobody", "", *(i.name for i in ends)])
    elif kind == 5:
        info.ClearField("type")
    else:
        (model.graph.output if rng.random() < 0.5 else model.graph.input).add().CopyFrom(info)


def _versions(rng: random.Random, model: Any) -> None:
    kind = rng.randrange(4)
    if kind == 0 and model.opset_import:
        model.opset_import[0].version = rng.choice([1, 5, 6, 7, 9, 11, 13, 18, 23, 99, *ODD])
    elif kind == 1:
        del model.opset_import[:]
    elif kind == 2:
        model.ir_version = rng.choice([0, 3, 8, 99])
    else:
        other = model.opset_import.add()
        other.domain, other.version = rng.choice(["", "x"]), rng.choice([1, 17])


_BENDS: list[Callable[[random.Random, Any], None]] = [
    _nodes,
    _nodes,
    _attributes,
    _attributes,
    _constants,
    _constants,
    _interface,
    _versions,
]

KINDS: dict[str, Callable[[random.Random, Path], bytes]] = {
    ".safetensors": safetensors,
    ".npz": npz,
    ".onnx": onnx_model,
}
_DOOR = {"CIR630", "CIR640", "CIR642"}
"""Codes of a container that cannot be read at all."""


# -- using what comes through --------------------------------------------------------------------------------


def use(path: Path, rng: random.Random) -> tuple[bool, bool]:
    """Read a file and use it; whether its container was read, and whether all of it went well.

    Anything but a CompactError is the caller's to report.
    """
    try:
        if path.suffix == ".onnx":
            use_network(driver.read(driver.Source(path), warn=False).graph)
            with suppress(CompactError):  # mostly it is another network
                driver.bind(network().clone(), path, map="auto")
        else:
            use_weights(path, rng)
    except CompactError as error:
        render(error)
        json.dumps(render_json(error))
        return error.code not in _DOOR, False
    return True, True


def use_weights(path: Path, rng: random.Random) -> None:
    graph = network().clone()
    read_weights(path)
    notes: list[str] = []
    graph.weights = load_weights(graph, path, notes, rng.choice([None, "auto"]))
    assert set(graph.weights) == set(graph.params)
    reference.run(graph, reference.random_inputs(graph))


def use_network(graph: Graph) -> None:
    verify(graph)
    text = print_graph(graph)
    verify(parse_graph(text))
    sizes = [prod(node.out.type.shape) for node in graph.nodes] + [prod(v.type.shape) for v in graph.inputs]
    if max(sizes, default=0) < 100_000 and graph.macs < 1_000_000:
        reference.run(graph, reference.random_inputs(graph))
        written = write_arch(graph)
        written.graph.weights = written.weights


@contextmanager
def alarm(seconds: int) -> Iterator[None]:
    """TimeoutError after some seconds, in the main thread."""

    def stop(number: int, frame: object) -> None:
        raise TimeoutError(f"longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def fuzz(count: int, seed: int, folder: Path) -> tuple[Tally, str]:
    """Make and use so many files in a folder; what became of them, and the first failure as text."""
    tally = Tally()
    work = folder / "work"
    work.mkdir()
    for i in range(count):
        rng = random.Random(f"{seed}:{i}")
        ending = rng.choice([".safetensors", ".npz", ".onnx", ".onnx"])
        data = KINDS[ending](rng, work)
        structured = rng.random() < 0.8
        path = work / f"file{ending}"
        path.write_bytes(data if structured else damaged(rng, data))
        try:
            with alarm(PATIENCE_S):
                past, used = use(path, rng)
        except Exception as error:
            kept = folder / f"failure-{seed}-{i}{ending}"
            kept.write_bytes(path.read_bytes())
            return tally, f"{type(error).__name__}: {error}\n{traceback.format_exc()}\nthe file: {kept}"
        tally.files += 1
        tally.structured += structured
        tally.past += structured and past
        tally.used += used
        path.unlink()
        if strangers := [p for p in (*work.rglob("*"), *folder.glob("*")) if p != work]:
            return tally, f"file {i} of seed {seed} left {strangers[0].name} behind"
    return tally, ""


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=10_000, help="how many files (default 10,000)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    start = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="compactir-fuzz-"))
    before = set(os.listdir())
    tally, failure = fuzz(args.count, args.seed, folder)
    if not failure and set(os.listdir()) != before:
        failure = f"new files here: {sorted(set(os.listdir()) - before)}"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{tally}; {time.monotonic() - start:.0f} s, at most {peak:.0f} MB")
    if failure:
        print(failure)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
