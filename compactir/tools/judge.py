"""Who a compiled network is compared with: a process of its own that sees the model and its weights only.

    python -m compactir.tools.judge FOLDER

The folder holds `request.json` (the model as the command line names it, who judges, whether every layer is
wanted) and `inputs-0.npz` and so on; the judge leaves `outputs-0.npz`, with every output and, if wanted, all
values of the graph, or `error.json`. Plans and packed weights never come here: `reference` runs the graph as
authored, `torch` its PyTorch module, `onnxruntime` the .onnx file itself, or the graph exported to ONNX.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compactir.diagnostics import CompactError
from compactir.driver import Source
from compactir.ir.graph import Graph
from compactir.ir.types import Array

__all__ = ["JUDGES", "Verdict", "ask"]

_OUTPUT, _VALUE = "output:", "value:"


@dataclass(frozen=True)
class Verdict:
    """What the judge makes of one set of inputs."""

    outputs: dict[str, Array]
    values: dict[str, Array]
    """Every value of the authored graph by name, if asked for."""


def ask(
    source: Source, inputs: Sequence[Mapping[str, Array]], against: str = "reference", trace: bool = False
) -> list[Verdict]:
    """What a judge makes of these inputs.

    Args:
        source: the model, a file.
        inputs: sets of arrays by input.
        against: a key of `JUDGES`.
        trace: whether every value is wanted, which only the reference can give.

    Raises:
        CompactError: what the judge says; CIR683 when it breaks down.
    """
    with tempfile.TemporaryDirectory(prefix="compactir-judge-") as name:
        folder = Path(name)
        request = {"source": _plain(source), "against": against, "trace": trace, "runs": len(inputs)}
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        for i, arrays in enumerate(inputs):
            np.savez(folder / f"inputs-{i}.npz", **_keywords(arrays))
        command = [sys.executable, "-m", "compactir.tools.judge", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if (folder / "error.json").exists():
            told = json.loads((folder / "error.json").read_text(encoding="utf-8"))
            raise CompactError(told["code"], told["message"], notes=told["notes"], help=told["help"])
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            raise CompactError(
                "CIR683",
                f"the judge ({against}) broke down with exit code {done.returncode}",
                notes=lines[-1:],
                help="try another: `--against reference`, `--against onnxruntime`, `--against torch`",
            )
        return [_verdict(folder / f"outputs-{i}.npz") for i in range(len(inputs))]


def _plain(source: Source) -> dict[str, Any]:
    """A source as JSON; its files with whole paths."""
    plain = asdict(source)
    for name in ("model", "weights"):
        plain[name] = None if plain[name] is None else str(Path(plain[name]).absolute())
    if plain.get("map") not in (None, "auto"):
        plain["map"] = str(Path(plain["map"]).absolute())
    return {name: value for name, value in plain.items() if value is not None}


def _keywords(arrays: Mapping[str, Array]) -> dict[str, Any]:
    return dict(arrays)


def _verdict(path: Path) -> Verdict:
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    return Verdict(
        {name.removeprefix(_OUTPUT): a for name, a in arrays.items() if name.startswith(_OUTPUT)},
        {name.removeprefix(_VALUE): a for name, a in arrays.items() if name.startswith(_VALUE)},
    )


# -- the judges ----------------------------------------------------------------------------------------------

Runs = Callable[[Mapping[str, Array]], dict[str, Array]]


def _reference(graph: Graph, source: Source, trace: bool) -> Runs:
    from compactir import reference

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        values = reference.trace(graph, inputs)
        result = {f"{_OUTPUT}{name}": values[value] for name, value in graph.outputs.items()}
        if trace:
            result |= {f"{_VALUE}{value.name}": array for value, array in values.items()}
        return result

    return run


def _onnxruntime(graph: Graph, source: Source, trace: bool) -> Runs:
    try:
        import onnxruntime
    except ImportError as error:
        problem = "ONNX Runtime is not installed"
        raise CompactError("CIR605", problem, help="`pip install onnxruntime`") from error
    model: str | bytes = str(source.model)
    if Path(str(model)).suffix != ".onnx":
        from compactir.codegen.onnx import export_onnx

        model = export_onnx(graph).SerializeToString()
    onnxruntime.set_default_logger_severity(3)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    theirs = [i.name for i in session.get_inputs()]

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        given = dict(zip(theirs, (inputs[v.name] for v in graph.inputs), strict=True))
        found = session.run(None, given)
        return {
            f"{_OUTPUT}{name}": np.asarray(array).reshape(value.type.shape)
            for (name, value), array in zip(graph.outputs.items(), found, strict=True)
        }

    return run


def _torch(graph: Graph, source: Source, trace: bool) -> Runs:
    try:
        import torch
    except ImportError as error:
        raise CompactError("CIR605", "PyTorch is not installed", help="`pip install torch`") from error
    from compactir.codegen.torch import emit_torch, load_torch

    module = load_torch(emit_torch(graph), graph)

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        with torch.no_grad():
            found: Any = module(*(torch.from_numpy(inputs[v.name]) for v in graph.inputs))
        several = (
            found.values() if isinstance(found, dict) else found if isinstance(found, tuple) else [found]
        )
        return {f"{_OUTPUT}{name}": y.numpy() for name, y in zip(graph.outputs, several, strict=True)}

    return run


JUDGES: Mapping[str, Callable[[Graph, Source, bool], Runs]] = {
    "reference": _reference,
    "onnxruntime": _onnxruntime,
    "torch": _torch,
}
"""Name → what runs the network."""


def main(folder: Path) -> None:
    """Judge what the folder asks for."""
    from compactir.driver import read

    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    source = Source(**request["source"])
    try:
        graph = read(source, warn=False).graph
        run = JUDGES[request["against"]](graph, source, request["trace"])
        for i in range(request["runs"]):
            with np.load(folder / f"inputs-{i}.npz") as stored:
                inputs = {name: stored[name] for name in stored.files}
            np.savez(folder / f"outputs-{i}.npz", **_keywords(run(inputs)))
    except CompactError as error:
        told = {"code": error.code, "message": error.message, "notes": list(error.notes), "help": error.help}
        (folder / "error.json").write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
