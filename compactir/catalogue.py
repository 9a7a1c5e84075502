"""The catalogue of error codes: what each means, why it is an error, an example, and what to do.

Rooms: 1xx syntax and language, 2xx shapes and types, 3xx IR rules, 4xx passes, 5xx targets and toolchain, 6xx runtime,
weights and files. Append in the right room and keep the codes sorted; `compactc explain CODE` prints an entry.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Code:
    """One kind of error. The texts are sentences; the example is a few lines that produce it."""

    code: str
    title: str
    what: str
    why: str
    example: str
    fix: str


_ENTRIES = [
    # ---------------------------------------------------------------- 1xx: syntax and language
    Code(
        "CIR101",
        "the file says nothing",
        "The file is empty, or holds only blanks and comments.",
        "A model file has to declare a network; an empty one is usually the wrong path or an interrupted copy.",
        "# only a comment",
        "Give the path of the model file, or write `network NAME { input ...  output ... }`.",
    ),
    # ---------------------------------------------------------------- 2xx: shapes and types
    Code(
        "CIR201",
        "unknown element type",
        "A tensor type names an element type that there is none of.",
        "Every value has one of the listed element types; arithmetic and memory follow from it.",
        "input image: float[3, 32, 32]",
        "Write one of the types that the help line lists: `f32[3, 32, 32]`.",
    ),
    Code(
        "CIR202",
        "an extent of a shape is below 1",
        "A shape has an axis without elements.",
        "A tensor with no elements is always a mistake in the arithmetic above it, and no kernel can be "
        "made for it.",
        "input image: f32[3, 0, 32]",
        "Look at the parameters that the extent is computed from.",
    ),
    Code(
        "CIR203",
        "channels do not split into the groups",
        "A channel count is not a multiple of the number of groups it is to be split into.",
        "Equal groups need equal channel counts on both sides. A width factor that breaks this is reported where it "
        "breaks, not as a shape mismatch ten layers later.",
        "y = x -> conv(60, kernel=1, groups=8)",
        "Use a number of groups that divides both channel counts (the help line lists them), change the channel count, "
        "or say uneven shares: `groups=[1/2, 1/4, 1/4]`.",
    ),
    Code(
        "CIR204",
        "the window does not fit",
        "A kernel or pooling window, dilation included, is larger than its padded input, or the blocks of "
        "one convolution make maps of different sizes.",
        "There is no output position at which the window lies on the map, or no single output shape.",
        "y = x -> conv(8, kernel=7, pad=0)      # x: f32[3, 5, 5]",
        "Use a smaller kernel or stride, more padding or a larger input; in a mixed convolution pad every "
        "kernel by dilation * (k - 1) / 2.",
    ),
    Code(
        "CIR205",
        "the operand has the wrong rank",
        "An operation that needs a feature map (N, C, H, W) got a vector, or the other way round.",
        "Convolutions and pools look at rows and columns; linear layers look at features.",
        "y = x -> flatten -> conv(8, kernel=1)",
        "Move the `flatten`, or put one before the linear layer.",
    ),
    Code(
        "CIR206",
        "a parameter or operand does not fit its operation",
        "The operation got the wrong number of operands, or a parameter whose shape is not the declared one.",
        "Parameters are declared by the operation from its operands; graphs edited by hand or raised from "
        "elsewhere can disagree.",
        "%y = bn(%x, @weight)",
        "Give the operands in the order and shapes that `docs/language.md` lists for the operation.",
    ),
    Code(
        "CIR207",
        "channels disagree",
        "A convolution connects another number of input channels than its operand has.",
        "Every block of a convolution names channels of its operand.",
        "%y = conv(%x, @w) {connect=dense(8->16, 1x1)}      // %x: f32[1,6,4,4]",
        "Change the connectivity or the operand; in the language the number of input channels is taken "
        "from the operand.",
    ),
    Code(
        "CIR208",
        "an attribute is out of its range",
        "An attribute has a value that the operation cannot mean.",
        "A stride of 0, an even kernel without a word about padding, a negative eps: each would be "
        "guessed differently by different readers.",
        "y = x -> conv(8, kernel=2)",
        "Give a value in the range that the message names.",
    ),
    Code(
        "CIR209",
        "a list of channels does not fit",
        "A table, `gather`, `permute`, `slice` or `split` names channels that do not exist, repeats one "
        "that it must not, or leaves one out.",
        "Channel lists are resolved when the network is compiled; a channel that is not there has no "
        "place in memory.",
        "y = x -> gather([0, 8])      # x has 8 channels: 0 to 7",
        "Name channels from 0 to C - 1; `permute` needs each once, `gather` may repeat and drop.",
    ),
    Code(
        "CIR210",
        "maps of different sizes cannot be joined",
        "The operands of a `concat` differ in batch, height or width.",
        "Channels are put one after the other; that needs equal maps.",
        "y = concat(a, b)      # a: f32[8, 14, 14], b: f32[8, 7, 7]",
        "Give the branches the same stride and padding, or pool the larger one.",
    ),
    Code(
        "CIR211",
        "shapes cannot be combined element by element",
        "The operands of `+` or `*` have different shapes, and neither is a (C, 1, 1) gate of the other.",
        "A residual sum needs equal shapes; only one number per channel is spread over a map.",
        "y = a + b      # a: f32[16, 8, 8], b: f32[24, 8, 8]",
        "Bring both to the same channels with a 1x1 convolution, and to the same size with the same stride.",
    ),
    # ---------------------------------------------------------------- 3xx: IR rules
    Code(
        "CIR301",
        "not the text of a graph",
        "A `.cir` text, or a part of one such as a type or a channel list, cannot be read.",
        "The text form is read back exactly as it is written; anything else is refused with its line and "
        "column.",
        "%y = relu(%x",
        "Correct the place that the message points at; `compactc MODEL --emit ir` shows how a graph is "
        "written.",
    ),
    Code(
        "CIR302",
        "not a list of channels",
        "A list of channels is negative, too long, or repeats a channel where it must not.",
        "Channels are numbered from 0, and a restriction keeps each channel at most once.",
        "[3, -1]",
        "Use numbers from 0 to C - 1.",
    ),
    Code(
        "CIR303",
        "not a connectivity",
        "The blocks of a convolution do not fit together.",
        "Equal blocks share their channels evenly, an output channel is made by one block, and every "
        "channel exists.",
        "blocks(4->4; 2 of [0..4]->[0..3], 1x1)",
        "Give every block of a family the same number of inputs and outputs, and every output to one block.",
    ),
    Code(
        "CIR304",
        "two parameters have the same name",
        "Two steps of a network would own a parameter of the same name.",
        "Weights are stored by name: each parameter needs its own.",
        "x -> conv(8, kernel=1) as a -> conv(8, kernel=1) as a",
        "Give the steps different labels.",
    ),
    Code(
        "CIR305",
        "the graph breaks a rule",
        "A graph does not keep one of the rules that all graphs keep; the message names the rule, the "
        "node and its source line.",
        "Passes and generators rely on these rules. In a `.cir` text they catch slips of the hand; after "
        "a pass they mean a bug of ours.",
        "%y: f32[1,8,4,4] = relu(%x)      // %x: f32[1,6,4,4]",
        "Correct the text. If the graph came out of `compactc`, please report it with the model.",
    ),
    # ---------------------------------------------------------------- 4xx: passes
    Code(
        "CIR401",
        "a pass needs weights",
        "A pass that computes with weights was given a network whose parameters have no arrays.",
        "Folding a batch norm or moving a shuffle into a filter changes the numbers of the weights, so they have to be there "
        "before; a graph read from `.cir` text has none.",
        'compactc opt net.cir --passes "fold-batchnorm"',
        "Bind trained weights with `--weights FILE.safetensors`, or draw some with `--init seed=0`.",
    ),
    Code(
        "CIR402",
        "a pass changed the result",
        "With `--verify-each`, the reference computed another result after a pass than before it.",
        "A pass may rewrite everything but the function that the network computes. The message names the first value that "
        "differs.",
        'compactc opt net.cir --passes "fold-shuffle" --verify-each',
        "This is a bug of ours: please report it with the graph that `--dump-ir before:PASS` prints.",
    ),
    Code(
        "CIR403",
        "unknown pass or pipeline",
        "A pipeline names a pass that does not exist, or is not a list of passes.",
        "Passes run by name, in the order given; a misspelt one left out silently would make slower code without a word.",
        'compactc opt net.cir --passes "fold-batchnrm"',
        "Write `pass,pass{option=value}` with the names that `compactc opt --help` lists.",
    ),
    Code(
        "CIR404",
        "wrong option of a pass",
        "A pass was given an option that it does not have, or a value of another type.",
        "Options are the fields of the pass; each has a type and a default.",
        'compactc opt net.cir --passes "merge-blocks{lanes=wide}"',
        "Use the options that the help line lists, with a value of their type.",
    ),
    # ---------------------------------------------------------------- 5xx: targets and toolchain
    Code(
        "CIR502",
        "unknown target",
        "The target that was asked for has no description.",
        "Instruction set, vector width, compilers and flags come from the target's description; without one nothing can be "
        "generated, and a near name may mean another processor.",
        "compactc lenet5.arch --target avx2",
        "Use a name that `compactc targets` lists, or `native` for the best one that this machine runs.",
    ),
    Code(
        "CIR510",
        "no C compiler",
        "A library was asked for, and there is no C compiler for the target on this machine.",
        "The generated C has to be compiled. Any C99 compiler will do; zig comes as a Python package and "
        "compiles for every target.",
        "compactc lenet5.arch --target arm      # on a machine without compilers",
        "`apt install gcc` (or the cross compiler that the help line names), or `pip install "
        "\"compactir[toolchain]\"`. `--emit c` writes the source and needs no compiler.",
    ),
    Code(
        "CIR511",
        "the C compiler failed",
        "The C compiler refused the generated source, or could not finish. The notes are its first messages.",
        "Usually a part of its installation is missing (headers, a static C library), it is too old for "
        "the target's flags, or the memory or the disk is full. Generated C that a good compiler refuses "
        "is a mistake of ours.",
        "compactc lenet5.arch --cc \"gcc -march=unheard-of\"",
        "Follow the help line; or try another compiler: `--cc clang`, `--cc zig`.",
    ),
    Code(
        "CIR512",
        "the compiler that was asked for does not run",
        "The program named by `--cc`, COMPACTIR_CC or CC is not there, or is not a C compiler.",
        "A compiler that is asked for by name is never replaced by another one in silence.",
        "compactc lenet5.arch --cc gcc-99",
        "Correct the name, install it, or leave it out: then a compiler is looked for.",
    ),
    Code(
        "CIR513",
        "the compiler makes code for another machine",
        "The compiler that was asked for makes code for another processor than the target's.",
        "gcc makes code for one processor only; for others there are cross compilers, or clang and zig, "
        "which know all.",
        "compactc lenet5.arch --target arm --cc gcc",
        "Use one that the help line lists.",
    ),
    Code(
        "CIR514",
        "no emulator",
        "Code for another processor was to run here, and the emulator for it is not installed.",
        "A library for another processor cannot be called directly; where there is an emulator, it is "
        "called through that.",
        "compactc run lenet5.arch digit.npy --target arm       # on x86, without qemu",
        "`apt install qemu-user`, or compile for this machine: `--target native`.",
    ),
    Code(
        "CIR515",
        "the emulated program ended",
        "The program that runs the network under an emulator ended before it had answered.",
        "It crashed, was killed, or the emulator does not know an instruction. The notes are what it said.",
        "compactir.load(\"out-arm\")(image)",
        "`compactc verify MODEL --per-layer` finds the layer; if the generated code is at fault, report it.",
    ),
    # ---------------------------------------------------------------- 6xx: runtime, weights and files
    Code(
        "CIR601",
        "the network has no weights",
        "A graph is to be run, or lowered, and some of its parameters have no arrays.",
        "A network computes nothing without weights, and made-up ones are used only where the user is "
        "told so.",
        "compactc run lenet5.cir digit.npy",
        "Give weights with `--weights FILE`, or draw seeded ones with `--init seed=0`.",
    ),
    Code(
        "CIR602",
        "an input is missing or has another shape",
        "The arrays given to a network are not the ones its inputs declare.",
        "Everything is compiled for fixed shapes; another size is another program.",
        "module(np.zeros((1, 3, 32, 32), np.float32))      # the input is f32[1,1,32,32]",
        "Resize or reshape the array, or compile the model for that size (`-D size=...`, `--batch N`).",
    ),
    Code(
        "CIR611",
        "not an output folder",
        "There is no folder of that name, or it holds no manifest.json.",
        "The manifest is written last; without it the folder is something else, or writing it was "
        "interrupted.",
        "compactir.load(\"no-such-folder\")",
        "Give the folder that `compactc MODEL.arch -o DIR` wrote.",
    ),
    Code(
        "CIR612",
        "the manifest is damaged",
        "manifest.json is not JSON, or lacks a field, or a field has the wrong type.",
        "It says how large inputs, weights and workspace are; guessing any of that would mean calling code "
        "with the wrong memory.",
        "compactir.load(\"out\")        # after manifest.json was edited by hand",
        "Compile the network again.",
    ),
    Code(
        "CIR613",
        "written by a newer version",
        "The folder, or its weights file, has a newer format than this version of compactir can read.",
        "Formats carry a number, so that an old reader refuses what it would misunderstand.",
        "compactir.load(\"out\")        # made by a later compactir",
        "Update compactir, or compile the network again with this version.",
    ),
    Code(
        "CIR614",
        "a built file is missing",
        "The library (or, for an emulated target, the C source) that the manifest names is not in the "
        "folder.",
        "It was deleted, or not copied along.",
        "rm out/liblenet5.so",
        "Compile the network again, or copy the whole folder.",
    ),
    Code(
        "CIR615",
        "compiled for another processor",
        "The library is for another architecture, or uses instructions that this CPU does not have.",
        "Calling it would end the process with an illegal instruction, so it is refused before it is loaded.",
        "compactir.load(\"out\")        # compiled with --target x86-avx512, on a CPU without AVX-512",
        "Compile with `--target native` on this machine, or with `--target c` for any.",
    ),
    Code(
        "CIR616",
        "the files do not belong together",
        "Library, declarations, weights and manifest of the folder are not from one build, or one of them "
        "is damaged.",
        "They are written by one command and checked against each other when loaded, because a library "
        "that is called with other sizes than it was compiled for destroys memory.",
        "cp old/liblenet5.so out/",
        "Compile the network again into an empty folder.",
    ),
    Code(
        "CIR617",
        "the packed weights are missing",
        "The file NAME.weights cannot be opened.",
        "Weights above 256 KB are a file of their own that is mapped into memory beside the library.",
        "rm out/mobilenet_v2.weights",
        "Put the file back beside the library, or compile again; `--weights-inline` puts them into the "
        "library.",
    ),
    Code(
        "CIR618",
        "the packed weights have the wrong size",
        "The file NAME.weights is shorter or longer than what was packed.",
        "It was probably copied incompletely, or the disk was full.",
        "truncate -s 1000 out/mobilenet_v2.weights",
        "Copy it again, or compile again.",
    ),
    Code(
        "CIR619",
        "foreign weights",
        "The file is not a file of packed weights, or its weights were packed for another network or target.",
        "Packed weights lie in the order in which one library's kernels read them; another library would "
        "read nonsense.",
        "cp other/mobilenet_v2.weights out/",
        "Copy library and weights from the same output folder, or compile again.",
    ),
    Code(
        "CIR620",
        "the inputs do not match the network's",
        "A call gives too many or too few inputs, one of them twice, or one that the network does not have.",
        "Inputs are given in the order of the network, or by name.",
        "m(image=x, imge=y)",
        "The help line says what the network takes; `m.inputs` lists names and shapes.",
    ),
    Code(
        "CIR621",
        "wrong input shape",
        "An input does not have the shape that the network was compiled for.",
        "Everything is static: shapes are fixed when a network is compiled. Only the batch axis may be "
        "left out, where the batch is 1.",
        "m(np.zeros((224, 224, 3), np.float32))",
        "Transpose, resize or stack the input as the help line says, or compile for another size or "
        "`--batch`.",
    ),
    Code(
        "CIR622",
        "wrong element type",
        "An input has another element type than the network takes.",
        "Converting silently would hide both a loss of precision and a forgotten scaling of 8-bit images.",
        "m(np.zeros((1, 3, 224, 224)))         # float64",
        "Convert it: `x.astype(np.float32)`, or `x.float()` for a torch tensor.",
    ),
    Code(
        "CIR623",
        "not an array",
        "An input is not a numpy array, a torch tensor on the CPU or anything else that lends its memory "
        "as an array.",
        "Modules work on memory in place and never guess how to convert a list or fetch a tensor from "
        "another device.",
        "m([[0.0, 1.0]])",
        "`np.asarray(x, np.float32)` for lists, `x.cpu()` for tensors on another device.",
    ),
    Code(
        "CIR624",
        "an unfit `out`",
        "The array given as `out` has another shape or type, cannot be written in place, or overlaps an "
        "input.",
        "The network writes into it directly, while it still reads its inputs.",
        "m(x, out=x)",
        "Make it with `np.empty(shape, np.float32)`, apart from the inputs.",
    ),
    Code(
        "CIR625",
        "the module was closed",
        "A module was called after `close()`, or after the `with` block that opened it.",
        "Library and weights have been given back.",
        "m.close(); m(x)",
        "Load it again.",
    ),
    Code(
        "CIR626",
        "the network reports an error",
        "The generated code returned an error number although its arguments had been checked.",
        "That does not happen with a folder as it was written.",
        "m(x)",
        "Compile the network again; if it happens again, report it.",
    ),
    Code(
        "CIR627",
        "the steps cannot be timed",
        "`profile()` was asked of a module that runs in an emulator, or that was compiled without a list "
        "of steps.",
        "Times under an emulator say nothing about the processor that it emulates.",
        "compactir.load(\"out-arm\").profile()      # on x86",
        "Time it on the machine it is for; `compactc count` counts instructions under the emulator.",
    ),
    Code(
        "CIR630",
        "not a size",
        "COMPACTIR_CACHE_LIMIT, or a size on the command line, is not a number of bytes.",
        "The cache must not grow, or be emptied, because of a typing error.",
        "COMPACTIR_CACHE_LIMIT=lots compactc lenet5.arch",
        "Write a number, with K, M, G or T behind it if you like: `500M`.",
    ),
    Code(
        "CIR631",
        "the build cache cannot be written",
        "Building needs a place for its results, and writing there failed.",
        "The disk is full, or the folder was removed or protected while it was in use.",
        "COMPACTIR_CACHE=/full/disk compactc lenet5.arch",
        "Free some space (`compactc cache clear`), or set COMPACTIR_CACHE to another folder.",
    ),
    Code(
        "CIR632",
        "the output cannot be written",
        "A file of the output folder could not be written or renamed into place.",
        "The disk is full, or the folder is protected. What was there before is unchanged, or has lost its "
        "manifest.",
        "compactc lenet5.arch -o /proc/out",
        "Free some space, or give another folder with `-o`.",
    ),
    Code(
        "CIR640",
        "the weights cannot be read",
        "The file with the network's weights is missing or cannot be opened.",
        "A file that is named has to be there; random weights are drawn only where none is named.",
        "compactc lenet5.arch --weights lenet.safetensors",
        "Correct the path; a `weights \"…\"` line is relative to the model file that holds it.",
    ),
    Code(
        "CIR641",
        "unknown kind of weights file",
        "The name of the file ends in none of the endings that compactir reads.",
        "The ending decides how a file is read; guessing could mean executing what a stranger wrote.",
        "compactc lenet5.arch --weights weights.h5",
        "Save the weights as .safetensors (best), .npz, or as a PyTorch state dictionary (.pt, .pth).",
    ),
    Code(
        "CIR642",
        "the weights file is damaged",
        "The file does not follow its own format: it is truncated, or something else under that name.",
        "Nothing of a damaged file is used.",
        "truncate -s 1000 lenet5.safetensors",
        "Copy or save it again.",
    ),
    Code(
        "CIR643",
        "the weights do not fit the network",
        "Names, shapes or values of the file do not match the network's parameters. All differences are "
        "listed.",
        "A network computes something else with a parameter missing, another one's values, or a NaN in it.",
        "compactc lenet5.arch -D classes=100 --weights lenet5.safetensors",
        "Check the network's parameters (`-D`) and where the file comes from; parameter names are those of "
        "the emitted PyTorch module's `state_dict`.",
    ),
    Code(
        "CIR644",
        "the file would execute code",
        "The PyTorch file holds more than tensors: reading it would run code that stands in it.",
        "A pickle is a program. compactir never executes what comes in a weights file.",
        "torch.save(model, \"model.pt\")         # the whole model instead of its state_dict",
        "`torch.save(model.state_dict(), \"model.pt\")`, or better: safetensors.",
    ),
    Code(
        "CIR645",
        "PyTorch is needed",
        "The weights are in PyTorch's own format, and PyTorch is not installed.",
        "Its format is a pickle inside a zip file; only PyTorch's own restricted reader is used for it.",
        "compactc lenet5.arch --weights lenet5.pt",
        "`pip install torch`, or convert the file to .safetensors where PyTorch is.",
    ),
]

CATALOGUE: dict[str, Code] = {entry.code: entry for entry in _ENTRIES}
