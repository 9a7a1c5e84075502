"""`compactc bench`: the harness, and that models mean the same to every engine. Times belong to machines."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.performance_page import page
from compactir import cli, reference
from compactir.driver import Source, read
from compactir.ir.graph import Graph
from compactir.lang import elaborate, parse_file
from compactir.ops.arrange import Gather
from compactir.ops.conv import Conv
from compactir.runtime.peak import CHAINS, Loop, build_loop, open_loop, read_speed
from compactir.targets import load_target
from compactir.tools.bench import case as cases
from compactir.tools.bench import command
from compactir.tools.bench.command import bench
from compactir.tools.bench.engines import ENGINES, OURS, engine
from compactir.tools.bench.figures import Circumstances, Entry, FormTimes, Peak, Result, Times
from compactir.tools.bench.forms import forms_of
from compactir.tools.bench.known import _MS, known_share
from compactir.tools.bench.race import Settings
from compactir.tools.bench.tables import _startup, print_result, remarks
from compactir.tools.bench.worker import Start, Turn, take_turn
from compactir.tools.verbs import RIVALS
from compactir.weights.init import draw

EXAMPLES = Path(__file__).parent.parent / "examples"
SHORT = Settings(rounds=1, turn_s=0.001, starts=1)

TINY = """\
network tiny {
  input image: f32[3, 16, 16]
  x = image -> conv(8, kernel=3, stride=2) -> bn -> relu6
  y = x -> depthwise(kernel=3) -> bn -> relu6 -> conv(8, kernel=1, bias=true)
  output scores = x + y -> global_avg_pool -> linear(3)
}
"""
BRANCHES = """\
network branches {
  input image: f32[3, 10, 8]
  x = image -> conv(8, kernel=3, stride=2) -> bn -> relu -> max_pool(3, stride=2, pad=1)
  (a, b) = x -> split([4, 4])
  y = concat(a, b -> conv(4, kernel=1, bias=true) -> relu6) -> shuffle(2) -> depthwise(kernel=3) -> swish
  z = y + x -> gather([0, 3, 5, 2]) -> bn -> avg_pool(3, stride=1, pad=1)
  output scores = z -> flatten -> linear(3)
}
"""
MIXED = """\
network mixed {
  input image: f32[6, 9, 9]
  x = image -> depthwise(kernel=[3, 5]) -> bn -> relu
  y = x -> conv(6, kernel=3, groups=[1/3, 2/3]) -> relu
  output map = y -> gather([5, 0, 3, 1, 2, 4]) -> conv(4, kernel=1, groups=2)
}
"""
COMPILER = pytest.mark.compiler


def quietly(what: str) -> None:
    """Nobody listens to progress."""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A small model that every engine can run."""
    path = tmp_path / "tiny.arch"
    path.write_text(TINY, encoding="utf-8")
    return path


def graph_of(text: str, folder: Path) -> Graph:
    """A network with random weights."""
    path = folder / "net.arch"
    path.write_text(text, encoding="utf-8")
    return read(Source(path, seed=0)).graph


# -- the whole -----------------------------------------------------------------------------------------------


@COMPILER
@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.slow
def test_every_engine_takes_part_and_is_right(name: str, tiny: Path) -> None:
    if missing := engine(name).missing():
        pytest.skip(f"{name} is not installed: pip install {' '.join(missing)}")
    result = bench(Source(tiny, seed=0), load_target("native"), [name], SHORT, None, quietly)
    assert [(e.engine, e.state, e.note) for e in result.entries] == [(OURS, "timed", ""), (name, "timed", "")]
    for entry in result.entries:
        assert entry.error is not None
        assert entry.error <= 1e-4
        assert entry.times
        assert entry.times.minimum_ms > 0
        assert entry.start
        assert entry.start.peak_bytes > entry.start.baseline_bytes > 0
        assert entry.library_bytes > 1000
    assert result.peak.best > 0


@COMPILER
@pytest.mark.slow
def test_the_verb_prints_tables_and_json(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = [name for name in ENGINES if not engine(name).missing()][:1]
    words = ["bench", str(tiny), "--init", "1", "--rounds", "1", "--against", ",".join(known or ["ncnn"])]
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    assert OURS in said
    assert "of peak" in said
    assert "GFLOP/s" in said
    assert cli.main([*words, "--json"]) == 0
    [data] = json.loads(capsys.readouterr().out)["races"]
    ours = data["entries"][0]
    assert ours["engine"] == OURS
    assert ours["ratio"] == {"minimum": 1.0, "median": 1.0}
    assert data["circumstances"]["pinned"] == list(Settings().pinned())


def test_the_verb_knows_the_engines() -> None:
    assert set(RIVALS) == set(ENGINES)
    assert cli.main(["bench", "net.arch", "--against", "tensorflow"]) == 2


@COMPILER
def test_a_race_for_every_number_of_threads(
    tiny: Path, fake: Callable[..., str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = [2, 1] if len(os.sched_getaffinity(0)) > 1 else [1]
    monkeypatch.setattr(command, "ENGINES", (fake(),))
    words = ["bench", str(tiny), "--init", "1", "--rounds", "1", "--threads", ",".join(map(str, counts))]
    assert cli.main([*words, "--json"]) == 0
    races = json.loads(capsys.readouterr().out)["races"]
    assert [race["threads"] for race in races] == counts
    assert [len(race["circumstances"]["pinned"]) for race in races] == counts
    assert {e["threads"] for race in races for e in race["entries"]} == set(counts)
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    assert [line.split("MACs: ")[1].split()[0] for line in said.splitlines() if "MACs" in line] == [
        str(count) for count in counts
    ]


def test_more_threads_than_cores_are_refused(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads = len(os.sched_getaffinity(0)) + 1
    assert cli.main(["bench", str(tiny), "--threads", f"1,{threads}"]) == 1
    said = capsys.readouterr()
    assert "CIR677" in said.err
    assert not said.out  # before the first race


# -- who is refused ------------------------------------------------------------------------------------------

ENGINE = """\
import os
from compactir.tools.bench.engines.base import Engine

class Session:
    def __init__(self, case):
        self.expected, self.asked = case.expected(), 0

    def run(self):
        pass

    def results(self):
        self.asked += 1
        factor = {factor}
        return [y * factor for y in self.expected]

class Fake(Engine):
    name = "fake:Fake"
    held = {held}
    packages = ("{package}",)
    modules = ("{module}",)

    def convert(self, case, form):
        print("converting", flush=True)
        {convert}

    def beyond(self, session, isa):
        return "" if os.environ.get("FAKE_MAX") == isa else "kernels of tomorrow"

    def bring(self):
        os.write(1, b"what engines like to say on standard output\\n")

    def load(self, case, form, threads):
        {load}
        return Session(case)
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Write an engine of our own, with what goes wrong in it; returns its name."""

    def make(
        factor: str = "1",
        convert: str = "pass",
        load: str = "pass",
        module: str = "numpy",
        held: object = None,
        package: str = "numpy",
    ) -> str:
        faults = {"factor": factor, "convert": convert, "load": load, "module": module, "package": package}
        text = ENGINE.format(**faults, held=held or {})
        (tmp_path / "fake.py").write_text(text, encoding="utf-8")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "fake", raising=False)
        return "fake:Fake"

    return make


WRONGS = {
    "right": ({}, "timed", ""),
    "talkative and slightly off": ({"factor": "1.00005"}, "timed", ""),
    "wrong": ({"factor": "1.001"}, "wrong", "differs from the reference by 1.0e-03"),
    "NaN": ({"factor": "float('nan')"}, "wrong", "differs from the reference by inf"),
    "wrong later": ({"factor": "1 if self.asked < 5 else 2"}, "wrong", "after the race"),
    "breaks": ({"load": "raise ValueError('no such layer')"}, "failed", "ValueError: no such layer"),
    "dies": ({"load": "os.kill(os.getpid(), 9)"}, "failed", "ended by signal 9"),
    "dies later": ({"factor": "1 if self.asked < 5 else os._exit(3)"}, "failed", "during the race"),
    "converts badly": ({"convert": "raise RuntimeError('no such operator')"}, "failed", "no such operator"),
    "not installed": ({"module": "no_such_module"}, "missing", "not installed: pip install numpy"),
}


@COMPILER
@pytest.mark.parametrize("why", WRONGS)
def test_who_is_wrong_is_not_timed(why: str, tiny: Path, fake: Callable[..., str]) -> None:
    faults, state, note = WRONGS[why]
    result = bench(Source(tiny, seed=0), load_target("native"), [fake(**faults)], SHORT, None, quietly)
    ours, other = result.entries
    assert (ours.state, other.state) == ("timed", state)
    assert note in other.note
    assert (other.times is None) == (state != "timed")
    assert (result.ratio(other) is None) == (state != "timed")
    assert (result.best is None) == (state != "timed")
    assert [line for line in remarks(result) if line.startswith(f"fake:Fake: {other.note}")] or not note


@COMPILER
@pytest.mark.parametrize(
    ("held", "state", "note"),
    [
        ({"avx2": {"FAKE_MAX": "avx2"}}, "timed", ""),
        ({"avx2": {"FAKE_MAX": "neon"}}, "failed", "held to avx2, and ran kernels of tomorrow"),
        ({}, "unfit", "nothing holds it to avx2"),
    ],
)
def test_engines_are_held_to_an_instruction_set(
    held: object, state: str, note: str, tiny: Path, fake: Callable[..., str]
) -> None:
    name = fake(held=held)
    result = bench(
        Source(tiny, seed=0), load_target("x86"), [name], replace(SHORT, isa="avx2"), None, quietly
    )
    ours, other = result.entries
    assert (ours.state, other.state) == ("timed", state)
    assert note in other.note
    assert result.peak.isa == result.held == "avx2"


def test_every_engine_that_is_held_says_how() -> None:
    assert [name for name in ENGINES if "avx2" in engine(name).held] == ["openvino", "mnn", "torch"]
    assert set(command.LEVELS) == {"avx2"}


@COMPILER
def test_every_form_takes_turns_and_the_fastest_is_the_time(tmp_path: Path, fake: Callable[..., str]) -> None:
    path = tmp_path / "mixed.arch"
    path.write_text(MIXED, encoding="utf-8")
    slow = "import time; Session.run = lambda self: time.sleep(0.03 if form == 'written' else 1e-3)"
    name = fake(load=f"assert form != 'padded', 'no zeros'; {slow}")
    result = bench(Source(path, seed=0), load_target("native"), [name], SHORT, None, quietly)
    ours, other = result.entries
    assert not ours.forms
    assert [(it.form, it.state, bool(it.times)) for it in other.forms] == [
        ("written", "timed", True),
        ("slices", "timed", True),
        ("padded", "failed", False),
    ]
    assert other.form == "slices"
    assert other.times == other.forms[1].times
    assert any("padded: AssertionError: no zeros" in line for line in remarks(result))
    print_result(result)


@COMPILER
def test_a_wrong_output_is_an_exit_code(
    tiny: Path, fake: Callable[..., str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "ENGINES", (fake(factor="1.001"),))
    assert cli.main(["bench", str(tiny), "--init", "1", "--rounds", "1"]) == 1
    assert "refused: its output differs" in capsys.readouterr().out


@COMPILER
def test_who_does_not_start_again_keeps_its_times(tiny: Path, fake: Callable[..., str]) -> None:
    name = fake(load="open('begun', 'x')")  # in the folder of the case: only the first process gets there
    settings = replace(SHORT, starts=2)
    result = bench(Source(tiny, seed=0), load_target("native"), [name], settings, None, quietly)
    other = result.entries[1]
    assert other.times
    assert other.start
    assert result.ratio(other)
    assert other.state == "timed"
    assert any("did not start again: FileExistsError" in line for line in remarks(result))
    print_result(result)


@COMPILER
def test_an_engine_that_pip_does_not_know(tiny: Path, fake: Callable[..., str]) -> None:
    name = fake(module="fake", package="no-such-package")
    assert not engine(name).missing()
    assert engine(name).version() == ""
    result = bench(Source(tiny, seed=0), load_target("native"), [name], SHORT, None, quietly)
    assert (result.entries[1].state, result.entries[1].library_bytes) == ("timed", 0)


def test_an_engine_under_another_name(fake: Callable[..., str]) -> None:
    assert engine(fake(module="numpy", package="numpy-of-somebody")).version() == np.__version__


# -- forms ---------------------------------------------------------------------------------------------------


def same(a: Graph, b: Graph) -> None:
    """Both compute the same."""
    inputs = reference.random_inputs(a)
    expected, found = reference.run(a, inputs), reference.run(b, inputs)
    assert list(found) == list(expected)
    for name, y in expected.items():
        assert found[name].shape == y.shape
        assert np.abs(found[name] - y).max() <= 1e-5 * np.abs(y).max()


def test_the_forms_of_irregular_networks_compute_the_same(tmp_path: Path) -> None:
    written = graph_of(MIXED, tmp_path)
    forms = forms_of(written)
    assert list(forms) == ["written", "slices", "padded"]
    for graph in forms.values():
        same(written, graph)
    picked = [n.op for n in forms["slices"].nodes if isinstance(n.op, Gather)]
    assert picked
    assert all(len(op.channels.runs) == 1 for op in picked)
    convs = [n.op for n in forms["padded"].nodes if isinstance(n.op, Conv)]
    assert all(conv.connect.groups is not None for conv in convs)
    assert convs[0].connect.is_depthwise
    assert convs[0].connect.kernel == (5, 5)


def test_regular_networks_have_one_form(tiny: Path) -> None:
    path = EXAMPLES / "shufflenet_v2.arch"
    assert list(forms_of(elaborate(parse_file(path)))) == ["written"]


@pytest.mark.parametrize("name", ["condensenet74", "mixnet", "lenet5"])
def test_examples_have_a_padded_form(name: str) -> None:
    defines = {"lenet5": {"output": "linear"}}.get(name, {"size": "32"})
    graph = elaborate(parse_file(EXAMPLES / f"{name}.arch"), defines=defines)
    graph.weights = draw(graph)
    forms = forms_of(graph)
    assert set(forms) == {"written", "padded"} | ({"slices"} if name == "lenet5" else set())
    for form in forms.values():
        same(graph, form)


@pytest.mark.parametrize("table", ["[[0, 1, 3], [2, 3, 5], [4]]", "[[4], [5, 0], [2], [1, 3]]"])
def test_a_table_is_sliced_part_by_part(table: str, tmp_path: Path) -> None:
    outs = table.count("[") - 1
    graph = graph_of(
        "network t {\n  input image: f32[6, 9, 9]\n"
        f"  output y = image -> conv({outs}, kernel=3, connect={table}, bias=true)\n}}\n",
        tmp_path,
    )
    sliced = forms_of(graph)["slices"]
    same(graph, sliced)
    convs = [n.op for n in sliced.nodes if isinstance(n.op, Conv)]
    assert len(convs) > 1
    assert all(conv.connect.groups is not None for conv in convs)
    assert all(len(n.op.channels.runs) == 1 for n in sliced.nodes if isinstance(n.op, Gather))


# -- LiteRT's models -----------------------------------------------------------------------------------------

OPERATIONS = """\
network operations {
  input image: f32[6, 16, 16]
  a = image -> conv(8, kernel=3, stride=2, bias=true) -> hard_swish
  b = image -> conv(8, kernel=3, stride=2, dilation=2, pad=2) -> bn -> tanh(scale=1.7159, slope=2/3)
  c = a + b -> relu -> max_pool(3, stride=2, ceil=true)
  d = a * (b -> global_avg_pool -> sigmoid) -> bn -> max_pool(3, stride=2, pad=1)
  e = concat(c, d -> leaky_relu(0.1)) -> avg_pool(2, divisor=1) -> conv(16, kernel=1, groups=4)
  f = e -> lrn -> shuffle(4) -> gather([i * 5 % 16 for i in 0..16]) -> depthwise(kernel=[3, 5], multiplier=2)
  output map = f -> hard_sigmoid
  output scores = f -> flatten -> linear(5) -> softmax
}
"""


@pytest.mark.parametrize("text", [BRANCHES, MIXED, OPERATIONS])
def test_models_for_litert_compute_the_same(text: str, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="no litert here: pip install ai-edge-litert")
    from compactir.tools.bench.engines.with_litert import LiteRt

    graph = graph_of(text, tmp_path)
    case = cases.write_case(tmp_path, "c", graph, {"written": graph}, onnx=False)
    runner = LiteRt()
    runner.convert(case, "written")
    session = runner.load(case, "written", 1)
    session.run()
    for found, expected in zip(session.results(), case.expected(), strict=True):
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def litert_operators(graph: Graph) -> list[str]:
    """The operators of our file, in order."""
    schema = pytest.importorskip(
        "ai_edge_litert.schema_py_generated", reason="no litert here: pip install ai-edge-litert"
    )
    from compactir.tools.bench.tflite import write_tflite

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(write_tflite(graph), 0))
    names = {number: name for name, number in vars(schema.BuiltinOperator).items()}
    codes = [names[code.builtinCode] for code in model.operatorCodes]
    return [codes[operator.opcodeIndex] for operator in model.subgraphs[0].operators]


SHUFFLES = """\
network shuffles {
  input image: f32[48, 5, 3]
  output few = image -> shuffle(2) -> conv(48, kernel=1, groups=3) -> shuffle(3) -> shuffle(4)
  output many = image -> shuffle(8) -> conv(48, kernel=1, groups=8) -> shuffle(16)
  output one = image -> global_avg_pool -> shuffle(3)
}
"""
PADS = """\
network pads {
  input image: f32[5, 8, 12]
  x = image -> hard_swish -> conv(6, kernel=3, stride=2)
  output top = image -> max_pool(3, stride=2, pad=1)
  output low = image -> conv(4, kernel=1, bias=true) -> max_pool([2, 3], stride=1, pad=[1, 1])
  output same = x -> max_pool(3, stride=1, pad=1)
  output mean = image -> avg_pool(3, stride=2, pad=1)
  output wide = image -> conv(130, kernel=1) -> avg_pool(3, stride=2, pad=1)
  output zeros = image -> depthwise(kernel=5, stride=2)
}
"""


@pytest.mark.parametrize("text", [SHUFFLES, PADS])
def test_shuffles_and_pads_for_litert_compute_the_same(text: str, tmp_path: Path) -> None:
    test_models_for_litert_compute_the_same(text, tmp_path)


def test_shuffles_of_few_groups_are_two_transpositions_for_litert(tmp_path: Path) -> None:
    def shuffled(groups: int) -> list[str]:
        text = f"network s {{\n  input x: f32[16, 6, 6]\n  output y = x -> shuffle({groups})\n}}\n"
        return litert_operators(graph_of(text, tmp_path))

    for groups in (2, 4):
        assert shuffled(groups) == ["RESHAPE", "TRANSPOSE", "RESHAPE", "TRANSPOSE"]
    assert shuffled(8) == ["RESHAPE", "TRANSPOSE", "RESHAPE"]


def test_pools_of_few_channels_are_padded_without_xnnpack(tmp_path: Path) -> None:
    def written(step: str, channels: int = 4) -> list[str]:
        text = f"network s {{\n  input x: f32[{channels}, 8, 8]\n  output y = x -> {step}\n}}\n"
        return litert_operators(graph_of(text, tmp_path))

    assert written("conv(4, kernel=3, stride=2)") == ["PAD", "CONV_2D"]
    assert written("depthwise(kernel=3, stride=2)") == ["PAD", "DEPTHWISE_CONV_2D"]
    assert written("max_pool(3, stride=2, pad=1)") == ["PADV2", "MAX_POOL_2D"]
    assert written("max_pool(3, stride=1, pad=1)") == ["MAX_POOL_2D"]
    assert written("relu -> max_pool(3, stride=2, pad=1)") == ["RELU", "PADV2", "MAX_POOL_2D"]
    assert written("max_pool(3, stride=2, pad=1)", channels=256) == ["PADV2", "MAX_POOL_2D"]
    assert written("avg_pool(3, stride=2, pad=1)")[:2] == ["PADV2", "AVERAGE_POOL_2D"]
    assert written("avg_pool(3, stride=2, pad=1)", channels=256)[:2] == ["PAD", "AVERAGE_POOL_2D"]


# -- figures -------------------------------------------------------------------------------------------------


def turn(*clean: float, disturbed: tuple[float, ...] = ()) -> Turn:
    """A turn from milliseconds."""
    return Turn([int(t * 1e6) for t in clean], [int(t * 1e6) for t in disturbed], 0)


def test_times_leave_disturbed_runs_out_while_there_are_others() -> None:
    times = Times.of([turn(3, 1, 2), turn(5, 4, disturbed=(0.5, 9))], [1e6, 1e6])
    assert (times.minimum_ms, times.median_ms, times.runs, times.disturbed) == (1, 3, 5, 2)
    assert times.trusted
    times = Times.of([turn(4, 2, disturbed=(9, 7))], [1e6])
    assert (times.minimum_ms, times.median_ms, times.trusted) == (2, 5.5, False)


def test_the_share_of_the_peak_is_that_of_the_clock_beside_a_turn() -> None:
    """Half the clock in the second of three rounds, for the network and for the loop."""
    turns = [turn(2, 2, 2.5), turn(4, 4.2), turn(disturbed=(2.2, 3))]
    times = Times.of(turns, [1e6, 2e6, 1e6])
    assert times.in_loops == 2
    result = result_of(2.0)
    entry = replace(result.entries[0], times=times)
    assert result.share(entry) == pytest.approx(2 * 300_774_272 / (2 * 242e6))


def result_of(ours_ms: float, **others_ms: float) -> Result:
    """A race on MobileNetV2 with these times."""
    start = Start(1, 1, 1, 1, 2)
    entries = tuple(
        Entry(name, "1", "timed", start=start, times=Times.of([turn(*[ms] * 5)], [1e6]))
        for name, ms in ({OURS: ours_ms} | others_ms).items()
    )
    seen = Circumstances("2026-11-22", "a CPU", 2, (1,), 0.1, 0.0, "gcc", (), "3.11", 1)
    peak = Peak(242.0, 240.0, "avx512", 242e6)
    return Result("mobilenet_v2", "x86-avx512", 1, 300_774_272, 60_000_000, 1, peak, entries, seen)


def test_ratios_shares_and_flags() -> None:
    result = result_of(2.8, openvino=3.65, onnxruntime=5.0)
    ours, openvino, slow = result.timed
    assert (ours.engine, openvino.engine, slow.engine) == (OURS, "openvino", "onnxruntime")
    assert result.best is openvino
    assert result.ratio(openvino) == pytest.approx(3.65 / 2.8)
    assert result.share(ours) == pytest.approx(2e-6 * 300_774_272 / 2.8 / 242)
    assert result.off(ours) is None
    assert result.off(openvino) == pytest.approx(0, abs=1e-9)
    assert [result.is_far(e) for e in result.timed] == [False, False, True]
    assert any(line.startswith("onnxruntime: 18% slower") for line in remarks(result))
    json.dumps(result.to_json(), allow_nan=False)


def test_a_wrong_output_of_any_form_is_one() -> None:
    *_, litert = result_of(2.0, litert=3.0).entries
    assert not litert.wrong
    assert replace(litert, state="wrong").wrong
    assert replace(litert, forms=(FormTimes("written", "wrong"), FormTimes("padded", "timed"))).wrong


@pytest.mark.parametrize("state", ["failed", "timed"])
def test_a_race_without_us_is_an_exit_code(
    state: str, tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = result_of(2.0, litert=3.0)
    ours, litert = result.entries
    if state == "failed":
        ours = replace(ours, state=state, note="its process was ended by signal 4", times=None)
    monkeypatch.setattr(command, "bench", lambda *_: replace(result, entries=(ours, litert)))
    assert cli.main(["bench", str(tiny)]) == (state == "failed")
    assert ("ended by signal 4" in capsys.readouterr().out) == (state == "failed")


def test_a_library_of_kilobytes_has_a_size() -> None:
    result = result_of(2.0, litert=3.0)
    ours, litert = (
        replace(e, library_bytes=n) for e, n in zip(result.entries, (27_300, 60_000_000), strict=True)
    )
    columns, rows = _startup(replace(result, entries=(ours, litert)))
    assert columns[-1].startswith("library KB")
    assert [row[-1] for row in rows] == ["27", "60,000"]


def drawn(result: Result) -> str:
    """docs/performance.md with this race alone."""
    return page({"races": {"net": result.to_json()}}, {"net": "Net"}, [])


def test_the_page_says_which_races_count() -> None:
    text = drawn(result_of(2.8, openvino=3.65, litert=2.9))
    assert "| Net | 301 |" in text
    assert " !+26% |" in text  # an engine that is faster than known: our ratio is not in doubt
    assert "geometric mean 1.04 (of 1)\nof all races, 1.04 (of 1) of those that count" in text
    slow = result_of(2.8, openvino=3.65, onnxruntime=5.0)
    busy = replace(slow, circumstances=replace(slow.circumstances, others=0.5), entries=slow.entries[:2])
    for result in (slow, busy):
        text = drawn(result)
        assert "| Net † | 301 |" in text
        assert "geometric mean 1.30 (of 1)\nof all races, none of those that count" in text
    assert " !-18% |" in drawn(slow)


def test_a_race_with_a_disturbed_peak_does_not_count() -> None:
    fine = result_of(2.8, openvino=3.65)
    low = replace(fine, peak=Peak(180.0, 178.0, "avx512", 242e6))
    races = {"a": fine.to_json(), "b": low.to_json()}
    text = page({"races": races}, {"a": "A", "b": "B"}, [])
    assert "| A | 301 |" in text
    assert "| B † | 301 |" in text


def test_the_page_says_where_nothing_is_known_of_the_engines() -> None:
    known = result_of(2.8, openvino=3.65)
    narrow = replace(known, peak=Peak(121.0, 120.0, "avx2", 121e6))
    assert "wrote down" not in drawn(known)
    assert "wrote down" in drawn(narrow)


def test_the_page_has_every_form() -> None:
    result = result_of(2.0, litert=3.0, mnn=4.0)
    ours, litert, mnn = result.entries
    slow = Times.of([turn(*[9.0] * 5)], [1e6])
    forms = (FormTimes("written", "timed", times=slow), FormTimes("padded", "timed", times=litert.times))
    failed = (FormTimes("written", "timed", times=mnn.times), FormTimes("padded", "failed", "no zeros"))
    entries = (ours, replace(litert, form="padded", forms=forms), replace(mnn, form="written", forms=failed))
    text = drawn(replace(result, entries=entries))
    assert "| network, engine | written | padded |" in text
    assert "| Net, litert | 9 (4.50) | 3 (1.50) |" in text
    assert "| Net, mnn | 4 (2.00) | failed |" in text
    assert "without zeros takes 2.00 times as long as ours (mnn); the best engine padded with zeros" in text
    assert "* Net, mnn, form `padded`: no zeros" in text


def test_a_busy_machine_is_said() -> None:
    result = result_of(2.8)
    assert not any(line.startswith("preliminary") for line in remarks(result))
    busy = replace(result.circumstances, others=0.5)
    assert any(line.startswith("preliminary") for line in remarks(replace(result, circumstances=busy)))


@pytest.mark.slow
def test_known_shares_are_of_our_examples() -> None:
    """A network that changes would lose its guard without a word."""
    variants = {
        ("shufflenet_v2", 40_476_448): {"width": "0.5"},
        ("shufflenet_v1", 138_365_952): {"groups": "8"},
        ("googlenet", 1_498_376_192): {"form": "bn"},
        ("lenet5", 416_520): {"output": "linear", "modern": "true"},
    }
    for network, macs in _MS:
        defines = variants.get((network, macs), {})
        assert elaborate(parse_file(EXAMPLES / f"{network}.arch"), defines=defines).macs == macs
    assert known_share("mobilenet_v2", 300_774_272, "openvino", 1, "avx512") == pytest.approx(0.681, abs=1e-3)
    assert known_share("mobilenet_v2", 300_774_272, "openvino", 1, "avx2") is None
    assert known_share("mobilenet_v2", 100_000_000, "openvino", 1, "avx512") is None
    assert known_share("lenet5", 416_520, "torch", 1, "avx512") is None


@COMPILER
def test_the_loops_run(tmp_path: Path) -> None:
    library = build_loop(load_target("native"))
    assert open_loop(library)(3, 0.5, 0.5) != 0
    assert read_speed(library, 0.1, seconds=0.001) > 0
    portable = build_loop(load_target("c"))
    assert open_loop(portable)(0, 0.5, 0.5) == 4 * sum(range(CHAINS))  # lanes times the sums' first values


def test_every_thread_of_the_peak_has_a_core_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool of two gave both halves to one thread, or both threads one core: half the peak."""
    calls: list[int] = []
    pinned: dict[int, set[int]] = {}

    def loop(rounds: int, w: float, x: float) -> float:
        calls.append(threading.get_ident())
        time.sleep(1e-6 * rounds)  # as the library's: others run meanwhile
        return 0.0

    monkeypatch.setattr("compactir.runtime.peak.open_loop", lambda library: loop)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {4, 6}, raising=False)

    def pin(pid: int, cores: set[int]) -> None:
        pinned[threading.get_ident()] = cores

    monkeypatch.setattr(os, "sched_setaffinity", pin, raising=False)
    peak = Loop(Path("libpeak.so"), 2)
    calls.clear()
    peak.run()
    peak.rounds = 0  # the first thread is done before the second one wakes
    for _ in range(20):
        peak.run()
    assert sorted(pinned.values(), key=min) == [{4}, {6}]
    assert {thread: calls.count(thread) for thread in set(calls)} == dict.fromkeys(pinned, 21)


def test_a_turn_runs_three_times_at_least() -> None:
    calls: list[int] = []
    taken = take_turn(lambda: calls.append(1), 0.0, 0.0)
    assert len(taken.clean) + len(taken.disturbed) >= 3
    assert len(calls) == len(taken.clean) + len(taken.disturbed) + 1
