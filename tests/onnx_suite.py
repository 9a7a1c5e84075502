"""ONNX's own backend suite through our Backend: which cases concern us, how they end, the page of them.

    python -m tests.onnx_suite            # run everything, compare with docs/onnx-support.md (two minutes)
    python -m tests.onnx_suite --write    # write the page anew

A case is in scope by the types and shapes of its tensors, never by its operators: see `out_of_scope`.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, numpy_helper, shape_inference
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner

from compactir.diagnostics import CompactError
from compactir.frontends.onnx.backend import CompactBackend
from compactir.frontends.onnx.reader import OPSETS

PAGE = Path(__file__).parent.parent / "docs" / "onnx-support.md"
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
KINDS = ("pytorch-converted", "pytorch-operator", "simple", "real", "node")
FLOORS = {"pytorch-converted": 65, "pytorch-operator": 28, "simple": 7, "real": 9, "node": 770}
"""Cases in scope at least, for the version of onnx that the page names."""
SHARE = 0.95
"""Of the cases in scope, so many pass at least."""
_SIDE = (TensorProto.INT32, TensorProto.INT64)


@dataclass
class Case:
    """A model, inputs and the outputs that it has to make of them."""

    name: str
    kind: str
    model: onnx.ModelProto
    data: list[tuple[list[Any], list[Any]]]
    rtol: float
    atol: float


@dataclass(frozen=True)
class Outcome:
    """How a case ended: "passed", "failed" or "out of scope", and why."""

    kind: str
    name: str
    word: str
    why: str = ""


# -- the cases -----------------------------------------------------------------------------------------------


def cases(kinds: Sequence[str] = KINDS, only_nodes_of: Sequence[str] = ()) -> Iterator[Case]:
    """The suite's cases; making all those of nodes takes ten seconds, `only_nodes_of` some files less."""
    for kind in kinds:
        if kind == "node" and only_nodes_of:
            for module in only_nodes_of:
                import_module(f"onnx.backend.test.case.node.{module}")
            from onnx.backend.test.case.node import _NodeTestCases

            found = list(_NodeTestCases)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it divides by zero to make some of its data
                found = load_model_tests(kind=kind)
        for it in sorted(found, key=lambda c: str(c.name)):
            yield _case(it, kind)


def _case(it: Any, kind: str) -> Case:
    if it.model is not None:
        return Case(it.name, kind, it.model, it.data_sets, it.rtol, it.atol)
    if it.model_dir is None:
        return _light(it)
    folder = Path(it.model_dir)
    data = [(_arrays(one, "input"), _arrays(one, "output")) for one in sorted(folder.glob("test_data_set_*"))]
    return Case(it.name, kind, onnx.load(folder / "model.onnx"), data, it.rtol, it.atol)


def _arrays(folder: Path, what: str) -> list[Any]:
    count = len(list(folder.glob(f"{what}_*.pb")))
    paths = [folder / f"{what}_{i}.pb" for i in range(count)]
    return [_tensor(path) for path in paths]


def _tensor(path: Path) -> Any:
    try:
        return numpy_helper.to_array(TensorProto.FromString(path.read_bytes()))
    except Exception:  # a sequence or an optional: out of scope anyway
        return None


def _light(it: Any) -> Case:
    """A real network with 0.02 in every weight; its input is made by the suite's own rule."""
    path = LIGHT / f"light_{it.model_name}.onnx"
    model = onnx.load(path)
    constants = {i.name for i in model.graph.initializer}
    inputs = [
        Runner.generate_dummy_data(i, seed=0, name=it.model_name, random=False)
        for i in model.graph.input
        if i.name not in constants
    ]
    output = _tensor(path.with_name(f"{path.stem}_output_0.pb"))
    return Case(it.name, "real", model, [(inputs, [output])], it.rtol, it.atol)


# -- scope ---------------------------------------------------------------------------------------------------


def out_of_scope(model: onnx.ModelProto) -> str | None:
    """Why a case does not concern a compiler of static float32 networks, by types and shapes alone.

    In scope: standard operators of the versions that are read; every tensor float32, whole numbers beside;
    results float32; inputs and results of static shapes, of at most four axes, none of them empty.
    """
    for opset in model.opset_import:
        if opset.domain not in ("", "ai.onnx"):
            return f"operators of `{opset.domain}`"
        if opset.version > OPSETS[-1]:
            return f"operators of version {opset.version}"
    graph = model.graph
    if any(a.type in _GRAPHS for n in graph.node for a in n.attribute):
        return "nodes inside of nodes"
    constants = {i.name for i in graph.initializer}
    inputs = [v for v in graph.input if v.name not in constants]
    values = [("input", v, _SIDE) for v in inputs] + [("output", v, ()) for v in graph.output]
    try:
        inner = shape_inference.infer_shapes(model, data_prop=True).graph.value_info
    except shape_inference.InferenceError:
        inner = []
    values += [("tensor", v, _SIDE) for v in inner]
    return next((f"{what} {why}" for what, v, side in values if (why := _odd(v, side, what))), None)


_GRAPHS = (AttributeProto.GRAPH, AttributeProto.GRAPHS)


def _elem(value: Any) -> int:
    return int(value.type.tensor_type.elem_type) if value.type.HasField("tensor_type") else 0


def _odd(value: Any, side: Sequence[int], what: str) -> str | None:
    elem = _elem(value)
    if elem not in (TensorProto.FLOAT, *side):
        return f"of type {TensorProto.DataType.Name(elem).lower() if elem else 'sequence or optional'}"
    extents = value.type.tensor_type.shape.dim
    if what == "tensor":
        return None
    if len(extents) > 4:
        return f"with {len(extents)} axes"
    if not all(d.HasField("dim_value") for d in extents):
        return "with an open extent"
    return "without elements" if any(d.dim_value < 1 for d in extents) else None


# -- running -------------------------------------------------------------------------------------------------


def judge(case: Case) -> Outcome:
    """Run a case and compare as the suite does."""
    if why := out_of_scope(case.model):
        return Outcome(case.kind, case.name, "out of scope", why)
    try:
        prepared = CompactBackend.prepare(case.model)
        for inputs, outputs in case.data:
            results = prepared.run(list(inputs))
            Runner.assert_similar_outputs(outputs, list(results), case.rtol, case.atol)
    except CompactError as error:
        return Outcome(case.kind, case.name, "failed", _reason(error))
    except AssertionError as error:
        return Outcome(case.kind, case.name, "failed", f"other results: {_first_line(error)}")
    return Outcome(case.kind, case.name, "passed")


def _reason(error: CompactError) -> str:
    return f"{error.code}: {error.notes[0] if error.notes else error.message}"


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), "")[:80]


def check(outcomes: Sequence[Outcome], floors: dict[str, int]) -> None:
    """Enough cases in scope, enough of them passed. Raises AssertionError."""
    for kind, floor in floors.items():
        ours = [o for o in outcomes if o.kind == kind and o.word != "out of scope"]
        assert len(ours) >= floor, f"{len(ours)} cases of {kind} are in scope, {floor} must be"
        passed = sum(o.word == "passed" for o in ours)
        assert passed >= SHARE * len(ours), f"{passed} of {len(ours)} cases of {kind} pass"


# -- the page ------------------------------------------------------------------------------------------------

HEAD = f"""# What of ONNX is read

Written by `make onnx-suite ARGS=--write`, which runs the backend suite of the package onnx {onnx.__version__}
through [our Backend](../compactir/frontends/onnx/backend.py); `make onnx-suite` compares.

{{doc}}

Shapes, axes and weights that a case passes as inputs are taken as constants. Results come from the reference.
What is read, how, and what becomes of it: [onnx.md](onnx.md).

"""


def page(outcomes: Sequence[Outcome]) -> str:
    """The page: a table of counts, then every case."""
    doc = (out_of_scope.__doc__ or "").strip().splitlines()
    text = [HEAD.format(doc=" ".join(line.strip() for line in doc[2:]))]
    text.append("| kind | in scope | passed | failed | out of scope |\n|---|---|---|---|---|\n")
    for kind in KINDS:
        count = {w: sum(o.kind == kind and o.word == w for o in outcomes) for w in _WORDS}
        text.append(
            f"| {kind} | {count['passed'] + count['failed']} | {count['passed']} | {count['failed']} "
            f"| {count['out of scope']} |\n"
        )
    for kind in KINDS:
        text.append(f"\n## {kind}\n\n| case | | why |\n|---|---|---|\n")
        ours = sorted((o for o in outcomes if o.kind == kind), key=lambda o: (_WORDS.index(o.word), o.name))
        text += [row(o) for o in ours]
    return "".join(text)


_WORDS = ("failed", "passed", "out of scope")


def row(outcome: Outcome) -> str:
    """The line of a case."""
    why = outcome.why.replace("|", "\\|")
    return f"| {outcome.name} | {outcome.word} | {why} |\n".replace("|  |", "| |")


def main(arguments: Iterable[str] | None = None) -> int:
    """Run everything."""
    parser = argparse.ArgumentParser(description="ONNX's backend suite through our Backend")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name} anew")
    args = parser.parse_args(None if arguments is None else list(arguments))
    with np.errstate(all="ignore"):
        outcomes = [judge(case) for case in cases()]
    for outcome in outcomes:
        if outcome.word == "failed":
            print(f"failed: {outcome.kind} {outcome.name}: {outcome.why}")
    check(outcomes, FLOORS)
    text = page(outcomes)
    if args.write:
        PAGE.write_text(text, encoding="utf-8")
    elif text != PAGE.read_text(encoding="utf-8"):
        print(f"{PAGE.name} says something else: `make onnx-suite ARGS=--write` writes it anew")
        return 1
    from tests.onnx_networks import EXAMPLES, NETWORKS, check_example, check_light

    for name in NETWORKS:
        check_light(name)
        print(f"{name}: with random weights as ONNX Runtime")
    for name in EXAMPLES:
        check_example(name)
        print(f"{name}: there and back as ONNX Runtime")
    ours = [o for o in outcomes if o.word != "out of scope"]
    print(f"{sum(o.word == 'passed' for o in ours)} of {len(ours)} cases in scope passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
