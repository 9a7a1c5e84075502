"""The command line as data: verbs, options, examples. `cli` parses by it, help and completion print it.

To add a verb: an entry here, and a module in `compactir/tools` with its function `main(args) -> int`. Where
the words can be wrong together, whatever the files hold, `check(args)` beside it says so (see `usage`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from compactir.tools.options import (
    ALSO,
    CC,
    DUMP,
    JSON,
    LOADED,
    MODEL,
    NO_WINOGRAD,
    TARGET,
    TARGETS,
    THREADS,
    VERIFY_EACH,
    WHICH,
    Option,
    out_option,
)

EMITS = ("ir", "c", "lib", "archive", "project", "py", "dot", "report", "html")
SHELLS = ("bash", "zsh", "fish")
RIVALS = ("onnxruntime", "openvino", "ncnn", "litert", "mnn", "torch")


@dataclass(frozen=True)
class Verb:
    """One thing that `compactc` does. `run` is `module:function` in `compactir.tools`."""

    name: str
    summary: str
    about: str
    examples: tuple[tuple[str, str], ...]
    options: tuple[Option, ...]
    run: str


VERBS = (
    Verb(
        "compile",
        "compile a network to C, a library, PyTorch",
        "Compile a network. A first argument that is a model does the same: `compactc MODEL.arch`.\n\n"
        "The output folder holds the generated C and its header, the library, the weights as\n"
        "the kernels want them, and manifest.json; `compactir.load(DIR)` loads it in Python. It\n"
        "is written aside and put into place when complete. `-o -` prints what --emit names.",
        (
            ("compactc lenet5.arch", "for this machine, into out/lenet5"),
            ("compactc mobilenet_v2.arch -D width=0.5 --target arm -o out/", "half as wide, for 64-bit Arm"),
            ("compactc model.onnx --target arm", "a network from elsewhere, with its weights"),
            ("compactc lenet5.arch --emit ir,c,lib,py", "with IR dumps and a PyTorch module beside the C"),
            ("compactc lenet5.arch --dump-ir before:fold-batchnorm -o -", "show the graph before a pass"),
        ),
        (
            MODEL,
            *WHICH,
            TARGETS,
            out_option("the output folder (default: out/NETWORK); - prints to the terminal", "DIR", "outdir"),
            Option(
                "emit",
                "what to write, a list of ir c lib archive project py dot report html (default: c,lib; for "
                "another machine c,lib,archive,project, without a system c,archive,project)",
                ("--emit",),
                metavar="LIST",
                kind="list",
                choices=EMITS,
            ),
            ALSO,
            THREADS,
            Option(
                "tune",
                "measure the best tiles of every layer on this machine, for so many seconds (default 30), "
                "which several levels share; what was measured before is kept",
                ("--tune",),
                metavar="SECONDS",
                kind="number",
                count="?",
                alone=30,
            ),
            NO_WINOGRAD,
            DUMP,
            VERIFY_EACH,
            Option(
                "inline",
                "where the weights go: auto (into the C up to 256 KB, else a file), inline, object (linked "
                "into library and program), file",
                ("--pack",),
                metavar="WHERE",
                kind="choice",
                choices=("auto", "inline", "object", "file"),
                default="auto",
            ),
            Option(
                "freestanding",
                "C that needs no operating system and no library: memcpy and its like are part of it "
                "(always so for cortex-m4 and cortex-m7)",
                ("--freestanding",),
                kind="flag",
            ),
            CC,
            JSON,
        ),
        "compile:main",
    ),
    Verb(
        "run",
        "run a network on .npy files or images",
        "Run a network on a file: an array (.npy, .npz; it may hold several batches) or an image\n"
        "(PNG, JPEG: scaled to 0…1, channels first, resized to the input with a note).\n"
        "MODEL is a model file or an output folder.",
        (
            (
                "compactc run out/lenet5 digit.png --mean 0.0784 --std 0.7843",
                "one image, in the range of the training",
            ),
            ("compactc run lenet5.arch digits.npy --output scores.npy", "compile, run, keep the result"),
            ("compactc run two.arch --input left=a.npy --input right=b.npy", "several inputs by name"),
        ),
        (
            Option("model", "a model file or an output folder", metavar="MODEL|DIR", kind="model"),
            Option("files", "one file per input, in order", metavar="FILE", kind="file", count="*"),
            Option(
                "input",
                "a file for the input of that name; may be repeated",
                ("--input",),
                metavar="NAME=FILE",
                kind="define",
                count="+",
            ),
            Option(
                "out",
                "write the outputs: .npy, or .npz where there are several",
                ("-o", "--output"),
                metavar="FILE",
                kind="out",
            ),
            Option(
                "mean", "subtract from an image's channels (0…1)", ("--mean",), metavar="R,G,B", kind="floats"
            ),
            Option("std", "then divide by", ("--std",), metavar="R,G,B", kind="floats"),
            Option(
                "top",
                "how many classes to show (default 5)",
                ("--top",),
                metavar="N",
                kind="number",
                default=5,
            ),
            *WHICH,
            LOADED,
            CC,
            JSON,
        ),
        "run:main",
    ),
    Verb(
        "profile",
        "time every step of a network on this machine",
        "Time every step of a compiled network, the median of several runs, with the share of what\n"
        "this machine's multipliers could do: a loop of multiply-adds timed before and after.\n"
        "MODEL is a model file or an output folder.",
        (
            ("compactc profile mobilenet_v2.arch", "where does the time go?"),
            ("compactc profile out/lenet5 --threads 1 --json", "a folder, for programs"),
        ),
        (
            Option("model", "a model file or an output folder", metavar="MODEL|DIR", kind="model"),
            Option(
                "threads",
                "on how many threads (default: one, or what a folder was compiled for)",
                ("--threads",),
                metavar="N",
                kind="threads",
            ),
            Option(
                "repeats",
                "how many runs (default 20)",
                ("--repeats",),
                metavar="N",
                kind="number",
                default=20,
                most=100_000,
            ),
            *WHICH,
            LOADED,
            CC,
            JSON,
        ),
        "profile:main",
    ),
    Verb(
        "report",
        "parameters, MACs, memory, and what the ShuffleNetV2 guidelines say",
        "Count a network, three times over: parameters from its arrays, multiply-accumulates in\n"
        "the loops of the reference, both again by closed formulas. Memory and kernels are\n"
        "those of the plan for the target.",
        (
            ("compactc report mobilenet_v2.arch", "the tables"),
            ("compactc report shufflenet_v2.arch -D width=2 --json", "for programs"),
            ("compactc report igcv3.arch --top1 72.2", "with BUnit-Net's TCA and TSA against MobileNetV1"),
        ),
        (
            MODEL,
            *WHICH,
            TARGET,
            ALSO,
            Option(
                "top1",
                "the network's accuracy in percent: adds TCA and TSA",
                ("--top1",),
                "PERCENT",
                "percent",
            ),
            Option(
                "baseline",
                "what TCA and TSA compare with (default: MobileNetV1, 70.6,568740352,4231976)",
                ("--baseline",),
                metavar="TOP1,MACS,PARAMS",
                kind="floats",
            ),
            Option("layers", "list every layer", ("--layers",), kind="flag"),
            JSON,
        ),
        "report:main",
    ),
    Verb(
        "explain",
        "an error code, or what the passes did to a model and why not more",
        "With a code (CIR203): what it means, why it is an error, an example, what to do.\n"
        "With a model: every fold and fusion that was done, and every one that was not, with\n"
        "rule, node and line.",
        (
            ("compactc explain CIR203", "about an error"),
            ("compactc explain shufflenet_v1.arch --target arm", "about a model"),
        ),
        (
            Option("what", "a code or a model", metavar="CODE|MODEL", kind="model"),
            *WHICH,
            TARGET,
            ALSO,
            JSON,
        ),
        "explain:main",
    ),
    Verb(
        "verify",
        "compare the compiled network with the reference",
        "Compile a network (or take an output folder with --module) and compare it with the\n"
        "reference executor on the graph as authored: max|a - b| <= 1e-4 * max|reference| for\n"
        "every output, NaN and infinities in the same places. --per-layer compares what every\n"
        "step leaves in memory, and names the first that is wrong and what of the model it computes.\n"
        "--inputs takes arrays from a folder: NAME.npy and, beside it, NAME.expected.npy, what another\n"
        "program makes of it; where that differs, usual preparations of images are tried.",
        (
            ("compactc verify lenet5.arch", "on this machine"),
            ("compactc verify mobilenet_v2.arch --target arm --runs 1", "under an emulator"),
            ("compactc verify lenet5.arch --target arm-a53 --host pi@raspberry", "on a board, by ssh"),
            ("compactc verify lenet5.arch --target arm-a53 --by-hand board", "on a board without ssh"),
            ("compactc verify net.arch --per-layer", "where does it go wrong?"),
            (
                "compactc verify model.onnx --against onnxruntime --inputs images/",
                "with a file's own runtime",
            ),
        ),
        (
            MODEL,
            *WHICH,
            LOADED,
            THREADS,
            NO_WINOGRAD,
            Option(
                "module",
                "an output folder to test, instead of a new build",
                ("--module",),
                "DIR",
                "folder",
            ),
            Option(
                "against",
                "the judge: reference (the default), torch, onnxruntime (on the .onnx file itself, or the "
                "exported network)",
                ("--against",),
                metavar="JUDGE",
                kind="choice",
                choices=("reference", "onnxruntime", "torch"),
                default="reference",
            ),
            Option(
                "inputs",
                "a folder of .npy (or .npz) files, instead of random inputs",
                ("--inputs",),
                metavar="DIR",
                kind="folder",
            ),
            Option(
                "host",
                "run it on this machine, which ssh reaches without a password, such as user@board",
                ("--host",),
                metavar="HOST",
                kind="host",
            ),
            Option(
                "by_hand",
                "write a folder for a board that ssh does not reach, print the commands that run it there "
                "and bring its answers back",
                ("--by-hand",),
                metavar="DIR",
                kind="outdir",
            ),
            Option(
                "answers",
                "compare what a board has answered, in such a folder, instead of running anything",
                ("--answers",),
                metavar="DIR",
                kind="folder",
            ),
            Option(
                "per_layer",
                "compare every step too: with the reference only (no other --against), for one image (no "
                "--batch); with --module, --host, --by-hand and --answers too",
                ("--per-layer",),
                kind="flag",
            ),
            Option(
                "runs",
                "how many random inputs (default 3), where --inputs gives no others",
                ("--runs",),
                metavar="N",
                kind="number",
                default=3,
                most=1_000,
            ),
            CC,
            JSON,
        ),
        "verify:main",
    ),
    Verb(
        "count",
        "count what a network executes on an Arm core, layer by layer",
        "Run one inference under an emulator and count its instructions by class, exactly; then\n"
        "estimate cycles with a model of the core. Estimates are lower bounds, for comparing only:\n"
        "on devices, time was 1.3 to 1.9 times as much. Needs qemu-user; estimates need LLVM's\n"
        "tools. What is missing is said, with the command that installs it.",
        (
            ("compactc count mobilenet_v2.arch --target arm-a55", "one core"),
            ("compactc count mobilenet_v2.arch --target arm-a76 --cc zig", "another compiler"),
        ),
        (
            MODEL,
            *WHICH,
            replace(TARGET, default="arm-a76", help=TARGET.help.replace("native, this CPU", "arm-a76")),
            Option(
                "model_of_core",
                "estimate with this model of a core (default: what fits the target); may be repeated",
                ("--model",),
                metavar="CORE",
                kind="choice",
                choices=("a53", "a53-one-move", "a55", "a57", "a76"),
                count="+",
            ),
            Option("caches", "also model the data caches (several times slower)", ("--caches",), kind="flag"),
            NO_WINOGRAD,
            CC,
            JSON,
        ),
        "count_network:main",
    ),
    Verb(
        "bench",
        "race the compiled network against other engines",
        "Run our library and every engine that is installed in turns on the same cores: float32, the same\n"
        "inputs and weights, each engine with its best settings and model. Outputs are compared with\n"
        "the reference first: one that is wrong is refused, and the exit code is 1. Each engine has a\n"
        "process of its own. The share of the peak is that of a loop of multiply-adds in the same race.",
        (
            ("compactc bench mobilenet_v2.arch", "against what is installed"),
            ("compactc bench lenet5.arch -D output=linear --against onnxruntime,litert", "against two"),
            ("compactc bench mobilenet_v2.arch --threads 1,2", "on one core, then on two"),
            ("compactc bench shufflenet_v2.arch --rounds 50 --json", "longer, for programs"),
            ("compactc bench mobilenet_v2.arch --isa avx2", "as on a processor without AVX-512"),
        ),
        (
            MODEL,
            *WHICH,
            LOADED,
            Option(
                "against",
                "engines, a list of onnxruntime openvino ncnn litert mnn torch (default: all of them)",
                ("--against",),
                metavar="LIST",
                kind="list",
                choices=RIVALS,
            ),
            Option(
                "threads",
                "threads of every engine, ours included, a list: a race for each number, on as many cores "
                "(default 1)",
                ("--threads",),
                metavar="LIST",
                kind="counts",
                default=(1,),
            ),
            Option(
                "isa",
                "hold the engines to this instruction set, those that can be (the others do not take part); "
                "ours is compiled for it too, unless --target says otherwise",
                ("--isa",),
                metavar="SET",
                kind="choice",
                choices=("avx2",),
            ),
            Option(
                "rounds",
                "how many turns everybody gets (default 20)",
                ("--rounds",),
                metavar="N",
                kind="number",
                default=20,
                most=100_000,
            ),
            CC,
            JSON,
        ),
        "bench.command:main",
    ),
    Verb(
        "diff",
        "compare two graphs, stages or targets, as text and in numbers",
        "Compare two graphs. An operand is a model file, or FILE@WHAT: a stage (authored, PASS,\n"
        "before:PASS, last) or a target, whose compiled code then counts. Without a file it is\n"
        "that of the first. Exits with 1 where outputs differ; the texts may. Where a .cir file lacks the\n"
        "arrays that passes computed, only the texts are compared: 1 where they differ.",
        (
            ("compactc diff net.arch@authored @fold-batchnorm", "what did the passes up to this one do?"),
            ("compactc diff net.arch@c @arm", "compiled for two targets"),
            ("compactc diff old.cir new.cir", "two files"),
        ),
        (
            Option("a", "the first", metavar="A", kind="model"),
            Option("b", "the second", metavar="B", kind="model"),
            *WHICH,
            TARGET,
            CC,
            JSON,
        ),
        "diff:main",
    ),
    Verb(
        "opt",
        "run passes on a graph, print the result",
        "Run chosen passes on a graph in text form; without --passes, those of compiling to C.\n"
        "An option of a pass stands in braces: a,b{key=1}.",
        (
            ('compactc opt net.cir --passes "fold-batchnorm,dead-code"', "two passes"),
            ("compactc opt net.arch --dump-ir all", "the whole pipeline, with every step on stderr"),
            ("compactc opt --list", "the passes there are"),
        ),
        (
            Option("model", "a .cir, .arch or .onnx file", metavar="FILE", kind="model", count="?"),
            Option("passes", "which passes, in order", ("--passes",), metavar="LIST", kind="passes"),
            Option("list", "list the passes there are", ("--list",), kind="flag"),
            out_option("write the graph here (default: print it)"),
            Option(
                "save_weights",
                "write the weights of the result (.safetensors)",
                ("--save-weights",),
                metavar="FILE",
                kind="out",
            ),
            DUMP,
            VERIFY_EACH,
            *WHICH,
            TARGET,
        ),
        "opt:main",
    ),
    Verb(
        "import",
        "write a model as a readable .arch file",
        "Write any model as a .arch file in the layout of `compactc fmt`, and its weights beside it as a\n"
        ".safetensors file. What repeats becomes a block with parameters, rows of blocks become loops.\n"
        "The text is elaborated again and compared with the model before it is written.",
        (
            ("compactc import model.onnx", "model.arch and model.safetensors"),
            ("compactc import model.onnx -o net.arch", "under another name"),
            ("compactc import model.cir -o -", "to look at"),
        ),
        (
            MODEL,
            *WHICH,
            out_option("the model file to write (default: MODEL with .arch); - prints it"),
        ),
        "import_model:main",
    ),
    Verb(
        "export",
        "write a model for other programs: ONNX, PyTorch, safetensors",
        "Write a model for other programs. The ending of FILE says what: .onnx (checked by ONNX's own\n"
        "checker, weights inside), .py (a PyTorch module, its weights beside it), .safetensors (the\n"
        "weights alone), .cir (the graph as text, its weights beside it).",
        (
            ("compactc export shufflenet_v2.arch -o net.onnx", "for ONNX Runtime and others"),
            ("compactc export model.onnx -o weights.safetensors", "the weights, under our names"),
            ("compactc export net.arch -D width=0.5 -o net.py", "a module to train"),
        ),
        (
            MODEL,
            *WHICH,
            out_option("what to write (default: MODEL with .onnx, here)"),
        ),
        "export_model:main",
    ),
    Verb(
        "fmt",
        "format .arch files",
        "Format model files in place; without a file, from standard input to standard output. Comments stay.",
        (
            ("compactc fmt *.arch", "in place"),
            ("compactc fmt --check *.arch", "exit with 1 where a file would change"),
            ("compactc fmt < net.arch", "standard input to standard output"),
        ),
        (
            Option("files", ".arch files; - for standard input", metavar="FILE", kind="file", count="*"),
            Option("check", "change nothing, show what would change", ("--check",), kind="flag"),
        ),
        "fmt:main",
    ),
    Verb(
        "targets",
        "list the machines to compile for",
        "List the targets, which of them this machine runs itself, and how it could run the others.",
        (("compactc targets", ""), ("compactc targets --json", "for programs")),
        (JSON,),
        "list_targets:main",
    ),
    Verb(
        "cache",
        "look at the build cache, clear or prune it",
        "What was built is kept under the hash of all that went into it. COMPACTIR_CACHE says\n"
        "where, COMPACTIR_CACHE_LIMIT how much.",
        (
            ("compactc cache", "how much is there"),
            ("compactc cache clear", "remove everything"),
            ("compactc cache prune --limit 100M", "remove what was not used for longest"),
        ),
        (
            Option(
                "action",
                "stats, clear or prune",
                metavar="ACTION",
                kind="choice",
                choices=("stats", "clear", "prune"),
                default="stats",
                count="?",
            ),
            Option(
                "limit",
                "what prune leaves (default: the cache's limit)",
                ("--limit",),
                metavar="SIZE",
                kind="size",
            ),
            JSON,
        ),
        "manage_cache:main",
    ),
    Verb(
        "completion",
        "print a completion script for bash, zsh or fish",
        "Print a script that completes verbs, options, targets and files.",
        (
            ('eval "$(compactc completion bash)"', "in ~/.bashrc"),
            ('eval "$(compactc completion zsh)"', "in ~/.zshrc, after compinit"),
            ("compactc completion fish > ~/.config/fish/completions/compactc.fish", ""),
        ),
        (Option("shell", "bash, zsh or fish", metavar="SHELL", kind="choice", choices=SHELLS),),
        "completion:main",
    ),
)

BY_NAME = {verb.name: verb for verb in VERBS}
