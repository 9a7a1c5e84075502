"""The catalogue of error codes: what each means, why it is an error, an example, and what to do.

Rooms: 1xx syntax and language, 2xx shapes and types, 3xx IR rules, 4xx passes, 5xx targets and toolchain,
6xx runtime, weights and files. Append in the right room and keep the codes sorted; `compactc explain CODE`
prints an entry.
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
        "The file is empty, or holds only blanks, comments and a docstring.",
        "A model file has to declare a network; an empty one is usually the wrong path or an interrupted "
        "copy.",
        "# only a comment",
        "Give the path of the model file, or write `network NAME { input ...  output ... }`.",
    ),
    Code(
        "CIR102",
        "not UTF-8 text",
        "The file holds bytes that are not UTF-8. The place is the first such byte.",
        "Model files are UTF-8 text. Other bytes mean another encoding, or another kind of file altogether.",
        "$ compactc weights.safetensors",
        "Save the file as UTF-8, or give the path of the model file.",
    ),
    Code(
        "CIR103",
        "a character without meaning",
        "A character stands where no word, number or sign of the language can begin with it.",
        "Names are ASCII, so that they can be names in C and Python too; strings stand in double quotes.",
        "network n { input x: f32[4]\n  output y = x -> relu & relu\n}",
        "Follow the help line: it names the language's own spelling where there is one.",
    ),
    Code(
        "CIR104",
        "syntax error",
        "A word or sign cannot stand where it stands. Where the mistake is a usual one, the message "
        "names it.",
        "The file cannot be read beyond this place.",
        "network n { input x: f32[4]\n  output y = x relu\n}",
        "Follow the help line; `docs/language.md` shows every construct with an example.",
    ),
    Code(
        "CIR105",
        "a bracket without its partner",
        "A bracket is never closed, closes nothing, or is closed by one of another kind.",
        "Brackets nest. The place is the bracket that is left over, the note the one it was taken to close.",
        "network n { input x: f32[4, 8, 8)\n}",
        "Add the missing bracket, or remove the extra one.",
    ),
    Code(
        "CIR106",
        "nested too deeply",
        "Brackets, an expression or blocks are nested deeper than the compiler follows.",
        "No network needs it; a bound keeps every file, however odd, from exhausting the stack.",
        "network n { a = " + "(" * 70 + "1" + ")" * 70 + " }",
        "Give inner parts names. Repeat with `for` instead of writing a thousand terms.",
    ),
    Code(
        "CIR107",
        "a number too long",
        "A number is written with more than 40 digits, or with an exponent beyond 40.",
        "float32 holds 7 digits and exponents up to 38: nothing longer can be meant.",
        "network n { a = 1e400 }",
        "Shorten the number.",
    ),
    Code(
        "CIR108",
        "a string without end",
        'A string is not closed on its line, or a docstring (`"""`) is never closed.',
        "The rest of the file would be part of it.",
        'network n { weights "lenet5.safetensors\n}',
        'Close the string with `"`, the docstring with `"""`.',
    ),
    Code(
        "CIR109",
        "the file is too large",
        "The file has more than a million characters, or more than 100,000 words and signs.",
        "A network is a page of text. Numbers by the thousand (weights, masks) belong in a weights file.",
        "$ compactc generated.arch",
        "Write loops instead of unrolled text; move tables into the weights.",
    ),
    Code(
        "CIR110",
        "unknown name",
        "A name is used that nothing has given a value, or a type that does not exist.",
        "Names come from assignments, parameters, inputs, loops and imports. A name that is assigned "
        "only inside an "
        "`if` that was not taken has no value.",
        "network n(width: int = 8) { input x: f32[4, 8, 8]\n  output y = x -> conv(widht, kernel=1)\n}",
        "Correct the spelling (the help line offers near names), or give the name a value first.",
    ),
    Code(
        "CIR111",
        "unknown operation or block",
        "What follows an arrow, or is called, is no operation, block, choice or function.",
        "A step is looked up among the choices, the blocks of this file and its imports, and the operations.",
        "network n { input x: f32[4, 8, 8]\n  output y = x -> batchnorm\n}",
        "Correct the spelling, import the block, or declare it.",
    ),
    Code(
        "CIR112",
        "declared twice",
        "A block, function, network, constant, parameter, input, output or alternative takes a name that "
        "is taken.",
        "Each name means one thing in its file, and the names of operations always mean the operation.",
        "block unit(x) { return x }\nblock unit(x) { return x -> relu }",
        "Rename one of the two.",
    ),
    Code(
        "CIR113",
        "a model file that cannot be read",
        "There is no such file, it is a folder, or this user may not read it.",
        "Paths of imports are relative to the file that imports; `std/` is the standard library.",
        'import fire from "std/fires.arch"',
        "Correct the path; the help line lists what is there.",
    ),
    Code(
        "CIR114",
        "imports in a circle",
        "A file imports, directly or through others, itself.",
        "Constants are evaluated when a file is loaded, so one of the two files has to come first.",
        "$ compactc a.arch      # a.arch imports b.arch, b.arch imports a.arch",
        "Move what both files need into a third one.",
    ),
    Code(
        "CIR115",
        "the import does not exist",
        "The file is there, but it declares no block, function or constant of this name.",
        "Networks cannot be imported: they have inputs and outputs of their own.",
        'import round_chanels from "std/rounding.arch"',
        "Correct the spelling; move a network's body into a block that both files use.",
    ),
    Code(
        "CIR116",
        "recursion",
        "A block or function uses itself, directly or through others.",
        "Networks are finite: everything is unrolled when the file is compiled, and recursion might not end.",
        "block unit(x) { return x -> unit }\nnetwork n { input x: f32[4]\n  output y = x -> unit\n}",
        "Repeat with `for`.",
    ),
    Code(
        "CIR117",
        "which network?",
        "The file declares no network, several, or not the one that was asked for.",
        "Exactly one network is compiled.",
        "network a { input x: f32[4]\n  output y = x -> relu\n}\n"
        "network b { input x: f32[4]\n  output y = x -> relu\n}",
        "Name the network, or keep one per file.",
    ),
    Code(
        "CIR118",
        "a parameter without value, a value without parameter",
        "`-D name=value` names nothing in the network, or a parameter has neither a default nor a `-D`.",
        "A misspelt `-D` would otherwise compile another network than the one that was meant.",
        "network n(width: int) { input x: f32[4]\n  output y = x -> relu\n}",
        "Correct the name (the help line lists what there is), or give the parameter a default.",
    ),
    Code(
        "CIR119",
        "a choice that is not fixed",
        "The network declares a `choice`, and no `-D` says which alternative to take.",
        "A choice spans a search space; what is compiled is one network.",
        "network n { input x: f32[4]\n  choice act { a: relu  b: relu6 }\n  output y = x -> act\n}",
        "Fix it: `-D act=a`; in a block, `-D unit3.act=a` for one use alone. Or give it a default:\n"
        '`choice act = "a" { … }`.',
    ),
    Code(
        "CIR120",
        "no such alternative",
        "A choice has not the alternative that a `-D`, or its default, names.",
        "See CIR119.",
        "$ compactc model.arch -D mixer=k9",
        "Take one of the alternatives that the help line lists.",
    ),
    Code(
        "CIR121",
        "too much to evaluate",
        "The file asks for more steps, operations or list elements than any network has.",
        "Everything is evaluated when the file is compiled; a bound keeps a slip in a loop from running "
        "for hours.",
        "network n { input x: f32[4]\n  for i in 0..100000000 { }\n  output y = x -> relu\n}",
        "Look at the bounds of the loops.",
    ),
    Code(
        "CIR122",
        "a number too large",
        "An arithmetic result is larger than anything a network can use.",
        "Numbers are exact and would grow without limit.",
        "network n { a = 9 ** 9 ** 9 }",
        "Look at the exponents and products.",
    ),
    Code(
        "CIR130",
        "wrong arguments",
        "Too many arguments, too few, one that does not exist, one given twice, or the wrong number of "
        "tensors.",
        "Operations and blocks declare their arguments; `docs/language.md` lists those of the operations.",
        "network n { input x: f32[4, 8, 8]\n  output y = x -> conv(8, kernel=1, strides=2)\n}",
        "Follow the help line; it names what is missing, or what the argument is called.",
    ),
    Code(
        "CIR131",
        "the wrong kind of value",
        "A number where a tensor is needed, a string where a number is needed, and so on.",
        "Parameters have types, and only tensors go through arrows.",
        'network n { input x: f32[4, 8, 8]\n  output y = x -> conv("8", kernel=1)\n}',
        "Give a value of the kind that the message names.",
    ),
    Code(
        "CIR132",
        "not a whole number",
        "A whole number is needed, and the value has a fraction.",
        "Arithmetic is exact: 100 / 8 is 12.5, and nothing rounds in secret. A channel count that "
        "silently became 12 "
        "would be another network.",
        "network n(width: float = 0.3) { input x: f32[4, 8, 8]\n  output y = x -> conv(32 * width, "
        "kernel=1)\n}",
        "Round by name: `floor`, `ceil`, `round`, or `round_channels` of `std/rounding.arch`.",
    ),
    Code(
        "CIR133",
        "division by zero",
        "The divisor of `/`, `//` or `%` is zero, or zero is raised to a negative power.",
        "There is no such number.",
        "network n { a = 8 / (4 - 4) }",
        "Guard the division with an `if`.",
    ),
    Code(
        "CIR134",
        "an operator that does not apply",
        "The two sides of an operator do not go together: a tensor and a number, a string and a list.",
        "Numbers compute and compare; tensors of one shape are added and multiplied; lists are joined "
        "with `+`.",
        "network n { input x: f32[4]\n  output y = x + 1\n}",
        "Use a property (`x.channels`) where the tensor's size is meant, an operation where its content is.",
    ),
    Code(
        "CIR135",
        "index out of range",
        "A list has no element at this index.",
        "Indices count from 0; negative ones count from the end.",
        "network n { widths = [8, 16]\n  a = widths[2]\n}",
        "Use an index that the help line allows.",
    ),
    Code(
        "CIR136",
        "names and values differ in number",
        "Several names on the left of `=`, or in a loop, meet a list of another length.",
        "Each name takes one value.",
        "network n { (a, b) = [1, 2, 3] }",
        "Give as many names as there are values; a split has as many parts as its list.",
    ),
    Code(
        "CIR137",
        "not a condition",
        "What follows `if`, `and`, `or`, `not` or `assert` is not true or false.",
        "Numbers and tensors are not conditions: `if stride` could mean several things.",
        "network n(stride: int = 2) { if stride { } }",
        "Compare: `if stride != 1`.",
    ),
    Code(
        "CIR138",
        "nothing is returned",
        "A block or function comes to its end without `return`, or returns not what its use needs.",
        "The step after it would have nothing to work on.",
        "block unit(x) { y = x -> relu }\nnetwork n { input x: f32[4]\n  output y = x -> unit\n}",
        "End the body with `return y`, on every way through it.",
    ),
    Code(
        "CIR139",
        "no such property",
        "A value has no property of this name.",
        "A feature map has `.channels`, `.height`, `.width`, `.size` (the side of a square map) and "
        "`.shape`; "
        "a feature vector has `.channels` and `.shape`; other values have none.",
        "network n { input x: f32[4, 8, 8]\n  a = x.chanels\n}",
        "Correct the spelling. The length of a list is `len(list)`.",
    ),
    Code(
        "CIR140",
        "not in this place",
        "A statement stands where it has no meaning: `return` in a network, `input` in a block, an "
        "operation in a "
        "function.",
        "Networks have inputs and outputs, blocks take and return tensors, functions compute numbers.",
        "network n { input x: f32[4]\n  return x -> relu\n}",
        "Follow the help line.",
    ),
    Code(
        "CIR141",
        "a network without inputs or outputs",
        "The network declares no input or no output.",
        "The compiled function would have nothing to read or nothing to return.",
        "network n { input x: f32[4]\n  y = x -> relu\n}",
        "Add `input name: f32[3, 224, 224]` or `output name = value`.",
    ),
    Code(
        "CIR142",
        "a label that cannot be used",
        "A label is taken in its scope, names something that is no step, or is no name.",
        "Labels become the names of parameters: `expand.weight`. Two steps cannot share them.",
        "network n { input x: f32[4]\n  output y = x -> relu as act -> relu as act\n}",
        'Take another label; in a loop, `as "unit{i}"` makes one from the loop\'s variable.',
    ),
    Code(
        "CIR144",
        "an assertion does not hold",
        "An `assert` of the file is false for these parameters.",
        "Whoever wrote the block knows what it needs, and says so before something less clear goes wrong.",
        'network n(width: int = 3) { assert width % 2 == 0, "the width must be even" }',
        "Choose other parameters.",
    ),
    # ---------------------------------------------------------------- 2xx: shapes and types
    Code(
        "CIR201",
        "unknown element type",
        "A tensor type names an element type that does not exist.",
        "Tensors hold `f32`; the other types belong to intermediate and quantized values.",
        "network n { input x: float[4]\n  output y = x -> relu\n}",
        "Write `f32`.",
    ),
    Code(
        "CIR202",
        "an empty or a huge shape",
        "An extent of a tensor is zero or negative, or the tensor has more than 2,147,483,647 elements.",
        "Every tensor has at least one element, and generated code finds it by a 32-bit offset.",
        "network n(size: int = 0) { input x: f32[3, size, size]\n  output y = x -> relu\n}",
        "Correct the extent; the note says where it comes from.",
    ),
    Code(
        "CIR203",
        "channels do not split into the groups",
        "A channel count is not a multiple of the number of groups it is to be split into, or shares do "
        "not add up "
        "to it.",
        "Equal groups need equal channel counts on both sides. A width factor that breaks this is "
        "reported where it "
        "breaks, not as a shape mismatch ten layers later.",
        "network n { input x: f32[60, 8, 8]\n  output y = x -> conv(60, kernel=1, groups=8)\n}",
        "Use a number of groups that divides both channel counts (the help line lists them), change the "
        "channel "
        "count, or say uneven shares: `groups=[1/2, 1/4, 1/4]`.",
    ),
    Code(
        "CIR204",
        "the kernel does not fit",
        "A kernel, with its dilation, is larger than the padded map.",
        "There would be no output. Often the input is too small for the number of halvings before this "
        "layer.",
        "network n { input x: f32[3, 4, 4]\n  output y = x -> conv(8, kernel=7, pad=0)\n}",
        "Use a smaller kernel, more padding, fewer strides or a larger input.",
    ),
    Code(
        "CIR205",
        "map or vector",
        "An operation on feature maps (N, C, H, W) meets a feature vector (N, F), or the other way round.",
        "Convolutions and pools need maps, `linear` needs a vector.",
        "network n { input x: f32[3, 8, 8]\n  output y = x -> linear(10)\n}",
        "Put `flatten` or `global_avg_pool` before `linear`; keep convolutions before them.",
    ),
    Code(
        "CIR206",
        "a parameter of the wrong shape",
        "A parameter in the text form of a graph has not the shape that its operation declares.",
        "Parameters follow from the operation and its operands. Files in .arch cannot make this mistake.",
        "$ compactc opt broken.cir",
        "Correct the parameter's type, or the operation's attributes.",
    ),
    Code(
        "CIR207",
        "connectivity and operand disagree",
        "A convolution's connectivity in the text form of a graph is for another number of channels.",
        "The channel lists would name channels that are not there. Files in .arch cannot make this mistake.",
        "$ compactc opt broken.cir",
        "Correct the connectivity, or what comes before the convolution.",
    ),
    Code(
        "CIR208",
        "an attribute out of its range",
        "A kernel, stride, padding, count or probability has a value that makes no sense, or an even "
        "kernel has no "
        "padding.",
        "Each attribute has its range; an even kernel has no symmetric padding that keeps the size, so "
        "it has no "
        "default.",
        "network n { input x: f32[3, 8, 8]\n  output y = x -> conv(8, kernel=4)\n}",
        "Follow the message; for an even kernel say `pad=...`.",
    ),
    Code(
        "CIR209",
        "a channel that does not exist",
        "A list of channels or connections names some that are not there, or leaves some out.",
        "Channel lists are checked against the tensor that they pick from.",
        "network n { input x: f32[4, 8, 8]\n  output y = x -> gather([0, 2, 4])\n}",
        "Channels count from 0; the message says how many there are.",
    ),
    Code(
        "CIR210",
        "`concat` of different maps",
        "The operands of a `concat` differ in height, width or rank.",
        "Concatenation is along the channels; everything else must be equal.",
        "network n { input x: f32[4, 8, 8]\n  output y = (x, x -> max_pool(2)) -> concat\n}",
        "Give the branches the same stride and padding.",
    ),
    Code(
        "CIR211",
        "`+` or `*` of different shapes",
        "Two tensors that are added or multiplied differ in shape, and neither is a gate (N, C, 1, 1).",
        "A residual connection needs equal shapes.",
        "network n { input x: f32[4, 8, 8]\n  output y = x + (x -> conv(8, kernel=1))\n}",
        "Bring both to one shape with a 1x1 convolution, or equal strides.",
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
    Code(
        "CIR306",
        "the plan breaks a rule",
        "A plan would touch memory that is not its own, or read what was not written; the message names "
        "the rule, the step and the source line of its node.",
        "The C code is written from the plan as it stands: what breaks a rule here would be a wrong result "
        "or a wild access there.",
        "Buffer(name='conv1', …, offset=8)      // buffers start on cache lines of 16 floats",
        "Plans are made by lowering and checked before any C is written, so this is a bug of ours, and the "
        "exit code 70: please report it with the command and the model.",
    ),
    # ---------------------------------------------------------------- 4xx: passes
    Code(
        "CIR401",
        "a pass needs weights",
        "A pass that computes with weights was given a network whose parameters have no arrays.",
        "Folding a batch norm or moving a shuffle into a filter changes the numbers of the weights, so "
        "they have to be there "
        "before; a graph read from `.cir` text has none.",
        'compactc opt net.cir --passes "fold-batchnorm"',
        "Bind trained weights with `--weights FILE.safetensors`, or draw some with `--init seed=0`.",
    ),
    Code(
        "CIR402",
        "a pass changed the result",
        "With `--verify-each`, the reference computed another result after a pass than before it.",
        "A pass may rewrite everything but the function that the network computes. The message names the "
        "first value that "
        "differs.",
        'compactc opt net.cir --passes "fold-shuffle" --verify-each',
        "This is a bug of ours: please report it with the graph that `--dump-ir before:PASS` prints.",
    ),
    Code(
        "CIR403",
        "unknown pass or pipeline",
        "A pipeline names a pass that does not exist, or is not a list of passes.",
        "Passes run by name, in the order given; a misspelt one left out silently would make slower code "
        "without a word.",
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
        "CIR501",
        "the target has no kernel for an operation",
        "An operation of the network has a meaning, but the target that was asked for cannot compute it.",
        "An operation is whole without kernels: it parses, counts and runs on the reference. Every target "
        "grows its kernels separately, and none of them computes something else instead.",
        "$ compactc model.arch --target arm",
        "Use another target (the reference and the PyTorch module run every operation), or write the "
        "operation "
        "with others.",
    ),
    Code(
        "CIR502",
        "unknown target",
        "The target that was asked for has no description.",
        "Instruction set, vector width, compilers and flags come from the target's description; without "
        "one nothing can be "
        "generated, and a near name may mean another processor.",
        "compactc lenet5.arch --target avx2",
        "Use a name that `compactc targets` lists, or `native` for the best one that this machine runs.",
    ),
    Code(
        "CIR503",
        "no kernel slides this window",
        "The blocks of a convolution cannot share a kernel: their taps miss each other, or none is left.",
        "Blocks of one convolution run as panels of one kernel, whose taps are those of all blocks; with a "
        "dilation they meet only where paddings differ by whole steps of it.",
        "blocks(8->8; 1 of [0..4]->[0..4], 3x3, pad 2; 1 of [4..8]->[4..8], 3x3, pad 1), dilation 2",
        "Pad each block by a multiple of the dilation, or write the blocks as convolutions and a `concat`.",
    ),
    Code(
        "CIR504",
        "not a number of threads",
        "`--threads` (`threads=` in Python) is below 1 or above 64.",
        "Every thread gets memory of its own when the network is compiled; a compact network has no work for "
        "so many.",
        "compactc lenet5.arch --threads 0",
        "Give the number of cores that a call will have.",
    ),
    Code(
        "CIR505",
        "not levels of one processor",
        "`--target` names several targets of which none has all instructions of the other, or portable code "
        "(`c`), which is compiled for this machine, together with a target for another machine.",
        "Of several levels the loader takes the best that the CPU has: they must be in order, and all for "
        "one kind of processor.",
        "compactc lenet5.arch --target x86,arm",
        "Give one target, or levels of one processor: `--target x86,x86-avx512`.",
    ),
    Code(
        "CIR506",
        "it takes an operating system",
        "Threads or a shared library were asked for where there is no operating system.",
        "Only a system starts threads and loads libraries. Freestanding C runs on the bare machine: it is "
        "linked into the program, and runs on the thread that calls it.",
        "compactc lenet5.arch --target cortex-m4 --emit c,lib",
        "Leave `--threads` out; write C and a static library with `--emit c,archive,project`.",
    ),
    Code(
        "CIR510",
        "no C compiler",
        "A library was asked for, and there is no C compiler for the target on this machine.",
        "The generated C has to be compiled. Any C99 compiler will do; zig comes as a Python package and "
        "compiles for every target.",
        "compactc lenet5.arch --target arm      # on a machine without compilers",
        "`apt install gcc`, or `pip install "
        '"compactir[toolchain]"`, which compiles for Arm too. `--emit c` writes the source and needs no '
        "compiler.",
    ),
    Code(
        "CIR511",
        "the C compiler failed",
        "The C compiler refused the generated source, or could not finish. The notes are its first messages.",
        "Usually a part of its installation is missing (headers, a static C library), it is too old for "
        "the target's flags, or the memory or the disk is full. Generated C that a good compiler refuses "
        "is a mistake of ours.",
        'compactc lenet5.arch --cc "gcc -march=unheard-of"',
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
        'compactir.load("out-arm")(image)',
        "`compactc verify MODEL --per-layer` finds the layer; if the generated code is at fault, report it.",
    ),
    Code(
        "CIR516",
        "a tool for counting is missing",
        "Estimating the cycles of Arm code takes LLVM's disassembler and, for some cores, a new enough "
        "llvm-mca.",
        "A model of a core is its tables; an older version would answer with another core's numbers.",
        "python -m compactir.tools.count --target arm-a76 ./program      # where only LLVM 14 is installed",
        "Install the version that the help line names; counting instructions alone works without it.",
    ),
    Code(
        "CIR517",
        "the board cannot be reached",
        "A network was to run on another machine, and ssh or scp is missing, is refused, or gets no answer.",
        "The program is copied and started by ssh, which must not ask for a password: its input and output "
        "are those of the network.",
        "compactc verify lenet5.arch --target arm --host user@board",
        "Follow the help line; the notes are what ssh says. A folder with everything for doing it by hand is "
        "written, and the notes end with its commands.",
    ),
    Code(
        "CIR518",
        "the answers of a board do not fit",
        "A folder that was carried to a board and back holds no answers, half of them, or answers to other "
        "questions than those that are compared now.",
        "`requests` and `answers` belong together: what is compared has to be what was asked.",
        "compactc verify lenet5.arch --runs 5 --answers board       # written with --runs 3",
        "Give the options with which the folder was written (the command was printed then), or copy "
        "`answers` from the board again.",
    ),
    # ---------------------------------------------------------------- 6xx: runtime, weights and files
    Code(
        "CIR600",
        "the command line makes no sense",
        "A verb or option does not exist, lacks its value, is given twice, or changes nothing here.",
        "A word that is passed over in silence would do something else than what was meant.",
        "compactc report lenet5.arch --jason",
        "`compactc VERB --help` lists the options of a verb.",
    ),
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
        "CIR605",
        "an optional package is missing",
        "What was asked for needs a Python package that compactir does not bring along.",
        "PyTorch and ONNX are large, and most of what compactir does needs neither: they are extras.",
        "compactir.codegen.torch.load_torch(source, graph)      # without PyTorch",
        'Install the extra that the help line names: `pip install "compactir[torch]"` or '
        '`pip install "compactir[onnx]"`.',
    ),
    Code(
        "CIR606",
        "not a module of this network",
        "An emitted PyTorch file was loaded with a graph whose parameters have other names or shapes.",
        "Weights that do not fit would be left out or guessed, and the module would compute something else.",
        "load_torch(emit_torch(graph_a), graph_b)",
        "Emit the file again from the graph whose weights are to be used.",
    ),
    Code(
        "CIR611",
        "not an output folder",
        "There is no folder of that name, or it holds no manifest.json.",
        "The manifest is written last; without it the folder is something else, or writing it was "
        "interrupted.",
        'compactir.load("no-such-folder")',
        "Give the folder that `compactc MODEL.arch -o DIR` wrote.",
    ),
    Code(
        "CIR612",
        "the manifest is damaged",
        "manifest.json is not JSON, or lacks a field, or a field has the wrong type.",
        "It says how large inputs, weights and workspace are; guessing any of that would mean calling code "
        "with the wrong memory.",
        'compactir.load("out")        # after manifest.json was edited by hand',
        "Compile the network again.",
    ),
    Code(
        "CIR613",
        "written by a newer version",
        "The folder, or its weights file, has a newer format than this version of compactir can read.",
        "Formats carry a number, so that an old reader refuses what it would misunderstand.",
        'compactir.load("out")        # made by a later compactir',
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
        'compactir.load("out")        # compiled with --target x86-avx512, on a CPU without AVX-512',
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
        'compactir.load("out-arm").profile()      # on x86',
        "Time it on the machine it is for; `compactc count` counts instructions under the emulator.",
    ),
    Code(
        "CIR628",
        "more threads than it was compiled for",
        "`threads=` of a call is below 1, no whole number, or more than the network was compiled for.",
        "How the work is cut, and the memory for it, are settled when the network is compiled.",
        'compactir.compile("lenet5.arch")(image, threads=2)',
        "Compile with `--threads N` (`threads=N` in Python); a call may then ask for 1 to N.",
    ),
    Code(
        "CIR630",
        "not an ONNX model",
        "The file cannot be read as an ONNX model: it is truncated, empty, too large, or something else.",
        "Nothing of such a file can be trusted, and guessing would make another network of it.",
        "compactc half_a_download.onnx",
        "Give the path of a complete .onnx file; `python -m onnx.checker` tells more about a damaged one.",
    ),
    Code(
        "CIR631",
        "the model breaks ONNX's own rules",
        "A node reads a tensor that nothing before it makes, two nodes make the same one, an attribute or a "
        "constant does not have the form that the operator declares, functions call each other in a circle.",
        "The file does not say what is computed, or says it twice.",
        "compactc edited_by_hand.onnx",
        "Follow the list: it names the nodes. `onnx.checker.check_model` says the same in ONNX's words.",
    ),
    Code(
        "CIR632",
        "weights beside the model cannot be used",
        "A constant lies in another file that is missing, too short, or outside of the model's folder.",
        "A model must not read files that it does not own, and part of a weight is no weight.",
        "compactc model.onnx      # a constant's location is ../../secret.bin",
        "Put the data file beside the model, or save the model in one file: "
        "`onnx.save(model, path, save_as_external_data=False)`.",
    ),
    Code(
        "CIR633",
        "operators that cannot be imported",
        "Some nodes have operators, or forms of operators, that compactir does not read. All are listed.",
        "A network without these nodes is another network. docs/onnx-support.md lists what is read.",
        "compactc recurrent.onnx",
        "Export the network without these operators; shapes and weights that are computed must be constants: "
        "a simplifier such as onnxsim makes them so.",
    ),
    Code(
        "CIR634",
        "an input without a static shape",
        "An input of the model has an extent that the file leaves open, or elements that are not float32.",
        "Everything about a compiled network is fixed: memory, loops, weights.",
        "compactc dynamic.onnx",
        "Give open extents by name: `-D height=224`; the first one is the batch, `--batch` gives it.",
    ),
    Code(
        "CIR635",
        "a constant of absurd size",
        "A constant, or what is computed from constants, would have more elements than any network has.",
        "A few bytes can claim terabytes; memory must stay bounded whatever a file says.",
        "compactc hostile.onnx",
        "If the network is real, store the constant instead of computing it, or compile its parts.",
    ),
    Code(
        "CIR636",
        "PyTorch cannot record the module",
        "`compactir.from_torch` records a module by `torch.export`, which could not run it on the example, "
        "or found that its way depends on values. Or what was given is no module.",
        "A network that is compiled has one way through it; PyTorch has to see it to say what it is.",
        "compactir.from_torch(module, torch.zeros(1, 1, 8, 8))   # for a module that reads three channels",
        "Give an example of the right shape, batch included; take conditions on values out of `forward`.",
    ),
    Code(
        "CIR637",
        "operations of a PyTorch module cannot be read",
        "`compactir.from_torch` lists every recorded operation that has no counterpart here, with the module "
        "that it is in.",
        "A network with a hole in it would compute something else.",
        "compactir.from_torch(module, example)   # with torch.sort in it",
        "Write that part with convolutions, pools and rearrangements, or leave it to the caller.",
    ),
    Code(
        "CIR638",
        "a quantized network is read as a float network",
        "A warning. The model rounds values to integers and back (QuantizeLinear, DequantizeLinear). We "
        "compute in float32: constants become the numbers that they stand for, values of the network are "
        "clamped to the range of the integers, which is part of what the network computes, and not rounded.",
        "It is none. Each rounding that is left out would change a value by up to half of its step; outputs "
        "differ from those of the quantized network by what follows from that, mostly towards those of the "
        "float network that it was made of.",
        "compactc mobilenet_v2_int8.onnx",
        "Compare once, on real images: `compactc verify MODEL --against onnxruntime --inputs images/`. Where "
        "there is a float network that was not quantized, compile that one.",
    ),
    Code(
        "CIR640",
        "the weights cannot be read",
        "The file with the network's weights is missing or cannot be opened.",
        "A file that is named has to be there; random weights are drawn only where none is named.",
        "compactc lenet5.arch --weights lenet.safetensors",
        'Correct the path; a `weights "…"` line is relative to the model file that holds it.',
    ),
    Code(
        "CIR641",
        "unknown kind of weights file",
        "The name of the file ends in none of the endings that compactir reads.",
        "The ending decides how a file is read; guessing could mean executing what a stranger wrote.",
        "compactc lenet5.arch --weights weights.h5",
        "Save the weights as .safetensors (best), .npz, or as a PyTorch state dictionary (.pt, .pth); the "
        "constants of an .onnx model can be read too.",
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
        'torch.save(model, "model.pt")         # the whole model instead of its state_dict',
        '`torch.save(model.state_dict(), "model.pt")`, or better: safetensors.',
    ),
    Code(
        "CIR645",
        "PyTorch is needed",
        "The weights are in PyTorch's own format, and PyTorch is not installed.",
        "Its format is a pickle inside a zip file; only PyTorch's own restricted reader is used for it.",
        "compactc lenet5.arch --weights lenet5.pt",
        "`pip install torch`, or convert the file to .safetensors where PyTorch is.",
    ),
    Code(
        "CIR646",
        "the weights cannot be laid onto the network",
        "`--map auto` found no way to give every layer its tensors: the modules of the file, in the order of "
        "their numbers, have other shapes or roles than the layers of the network.",
        "Names of another program say nothing by themselves; order and shape do, if they are those of this "
        "network. A mapping that leaves something over, or out, would compute something else.",
        "compactc mobilenet_v2.arch -D width=0.5 --weights mobilenet_v2_full_width.pt --map auto",
        "Give the parameters that the weights were trained with (`-D`), or write the names into a file and "
        "give it as `--map FILE`.",
    ),
    Code(
        "CIR647",
        "the weights fit in more than one way",
        "`--map auto` found two mappings: layers of equal shapes whose names do not say which comes first.",
        "Guessing would be right half of the time, and nothing would notice the other half.",
        "compactc twins.arch --weights twins.safetensors --map auto",
        "Write the names into a file and give it as `--map FILE`; lines are `THEIRS -> OURS`.",
    ),
    Code(
        "CIR648",
        "a line of a file of names makes no sense",
        "A line of the file that `--map` names is not `THEIRS -> OURS`, uses a name on the right that the "
        "left does not have, or shifts what is no number; or no line of it fits any name.",
        "A line that is skipped would leave weights where they do not belong.",
        "features.{i}.conv.{p} -> block{j}.conv1.{p}",
        "Write `{name}` for a word between dots on both sides, `*` for anything, `{i+1}` for the next one; "
        "`-` on the right leaves tensors out.",
    ),
    Code(
        "CIR649",
        "infinite weights",
        "A warning. Some weights are infinite. They are taken as they are, and what is multiplied by them "
        "becomes infinite or NaN.",
        "It is none: a bias of minus infinity rules a class out. Nearly always, though, a training has "
        "diverged, or numbers too large for float16 were stored as such.",
        "compactc lenet5.arch --weights diverged.safetensors",
        "Look at the training; store weights as float32.",
    ),
    Code(
        "CIR650",
        "not a size",
        "COMPACTIR_CACHE_LIMIT, or a size on the command line, is not a number of bytes.",
        "The cache must not grow, or be emptied, because of a typing error.",
        "COMPACTIR_CACHE_LIMIT=lots compactc lenet5.arch",
        "Write a number, with K, M, G or T behind it if you like: `500M`.",
    ),
    Code(
        "CIR651",
        "the build cache cannot be written",
        "Building needs a place for its results, and writing there failed.",
        "The disk is full, or the folder was removed or protected while it was in use.",
        "COMPACTIR_CACHE=/full/disk compactc lenet5.arch",
        "Free some space (`compactc cache clear`), or set COMPACTIR_CACHE to another folder.",
    ),
    Code(
        "CIR652",
        "the output cannot be written",
        "A file of the output folder could not be written or renamed into place.",
        "The disk is full, or the folder is protected. What was there before is unchanged, or has lost its "
        "manifest.",
        "compactc lenet5.arch -o /proc/out",
        "Free some space, or give another folder with `-o`.",
    ),
    Code(
        "CIR660",
        "an option that does not apply to a .cir file",
        "`-D`, `--batch` or `--network` was given for a graph in text form.",
        "A .cir file holds one graph with all its shapes; nothing in it is left to choose.",
        "compactc net.opt.cir --batch 8",
        "Give the option where the .arch file is compiled, and write the graph anew with `--emit ir`.",
    ),
    Code(
        "CIR661",
        "the weights are given twice",
        "Both `--weights FILE` and `--init seed=N` were given.",
        "Only one of them can be meant.",
        "compactc lenet5.arch --weights lenet5.safetensors --init seed=1",
        "Leave one of them out.",
    ),
    Code(
        "CIR662",
        "a dump of a pass that did not run",
        "`--dump-ir` names a pass that is not in the pipeline.",
        "Writing nothing would look as if the pass had been there and had changed nothing.",
        "compactc lenet5.arch --dump-ir fold-batchnorms",
        "Use a name that the note lists, or `--dump-ir all`.",
    ),
    Code(
        "CIR663",
        "a baseline is three numbers",
        "`--baseline` is not an accuracy, a number of MACs and a number of parameters.",
        "TCA and TSA compare all three.",
        "compactc report net.arch --top1 70 --baseline 70.6",
        "Write `--baseline TOP1,MACS,PARAMS`.",
    ),
    Code(
        "CIR664",
        "there is no such error code",
        "`compactc explain` was asked about a code that does not exist.",
        "The catalogue has an entry for every code that compactir prints.",
        "compactc explain CIR999",
        "Use the code in the brackets of the message, such as CIR203.",
    ),
    Code(
        "CIR665",
        "it cannot be written there",
        "What was asked for does not fit the place: a library on standard output, two outputs in one .npy.",
        "The file would not be what its name says.",
        "compactc lenet5.arch -o -",
        "Say what to print (`--emit c`), or give a folder or a file of the right kind.",
    ),
    Code(
        "CIR666",
        "an input file cannot be read",
        "A file for `compactc run` is missing, damaged, or holds something else than its name says.",
        "Arrays of Python objects are refused, because reading them executes code.",
        "compactc run lenet5.arch digit.npy       # written by pickle",
        "Write arrays with `np.save`, images as PNG or JPEG.",
    ),
    Code(
        "CIR667",
        "an input file of the wrong shape",
        "The array or image does not have the shape of the input, whole batches of it allowed.",
        "Nothing is cut or filled up; only images are resized, with a note.",
        "compactc run lenet5.arch rgb.npy         # (1, 32, 32, 3)",
        "Reshape or transpose the array; channels come first.",
    ),
    Code(
        "CIR668",
        "mean or deviation do not match the channels",
        "`--mean` or `--std` has another number of values than there are channels, or `--std` has a zero.",
        "Each channel is normalized as y = (x - mean) / std.",
        "compactc run net.arch cat.png --mean 0.485,0.456",
        "Give one number, or one per channel.",
    ),
    Code(
        "CIR669",
        "reading images needs pillow",
        "An image was given, and the package that reads images is not installed.",
        "It is an extra, because .npy files do without it.",
        "compactc run lenet5.arch digit.png",
        '`pip install "compactir[image]"`.',
    ),
    Code(
        "CIR670",
        "module and model do not belong together",
        "`compactc verify --module DIR` was given a folder that was compiled from another model, or with "
        "others of its parameters.",
        "The comparison would say nothing.",
        "compactc verify mobilenet_v2.arch --module out/lenet5",
        "Give the model, `-D` and `--batch` that the folder was compiled with.",
    ),
    Code(
        "CIR671",
        "steps are compared for one image, with the reference",
        "`--per-layer` was given together with a batch of several images, or with another judge than the "
        "reference.",
        "The images of a batch share one workspace, so that only the last one's values are there; of PyTorch "
        "and ONNX Runtime only the outputs are known.",
        "compactc verify net.arch --batch 4 --per-layer",
        "Leave `--batch` out, the kernels are the same; leave `--against` out, the reference has all values.",
    ),
    Code(
        "CIR672",
        "there is no graph",
        "`compactc opt` was called without a file.",
        "Passes work on a graph.",
        'compactc opt --passes "dead-code"',
        "Give a .cir or .arch file; `compactc opt --list` shows the passes.",
    ),
    Code(
        "CIR673",
        "the memory is full",
        "The system had no memory left for what was asked.",
        "Counting and comparing run the reference, which keeps every value of the network.",
        "compactc report net.arch --batch 100000",
        "Take a smaller batch or input, or a machine with more memory.",
    ),
    Code(
        "CIR674",
        "the system refuses",
        "Reading, writing or starting something failed, in a place where no verb expects it.",
        "The reason is the system's own: a full disk, missing permission, too many open files.",
        "TMPDIR=/full/disk compactc lenet5.arch",
        "Mend what the message names; TMPDIR says where temporary files go.",
    ),
    Code(
        "CIR675",
        "no such stage",
        "An operand of `compactc diff` names no file, or a stage or target that does not exist.",
        "Stages are the passes of the pipeline in the order in which they run.",
        "compactc diff net.arch@folding @last",
        "Write FILE@STAGE with a stage that the note lists, or FILE@TARGET.",
    ),
    Code(
        "CIR676",
        "graphs that cannot be compared",
        "The two graphs of `compactc diff` take other inputs, or return other outputs.",
        "Numbers can only be compared where both get the same inputs.",
        "compactc diff lenet5.arch mobilenet_v2.arch",
        "Compare graphs of one network.",
    ),
    Code(
        "CIR677",
        "more threads than cores",
        "`compactc bench --threads` asks for more threads than this process has cores.",
        "Threads that take turns on a core measure the scheduler.",
        "taskset -c 0 compactc bench lenet5.arch --threads 2",
        "Ask for fewer threads, or give the process more cores.",
    ),
    Code(
        "CIR678",
        "an argument that means nothing",
        "`compactir.compile`, `compactir.load` or a method of a module got a value of another kind than it "
        "takes.",
        "A path, a name or a number was expected; the help says which.",
        "compactir.load(None)",
        "Give what the help names.",
    ),
    Code(
        "CIR680",
        "a graph that the language cannot say",
        "`compactc import` found operations that no word of the language makes: results of passes, such as a "
        "convolution with fused activations.",
        "A model file that says something else than the model would be worse than none.",
        "compactc import net.opt.cir",
        "Import the graph as it was before the passes, or keep it as text (`--emit ir`).",
    ),
    Code(
        "CIR681",
        "it cannot be imported into that file",
        "`compactc import` would replace the model that it reads, or write a model file whose ending says "
        "that it is something else.",
        "The ending says how a model is read, and a model should not be lost to a mistake in one word.",
        "compactc import net.arch -o net.arch",
        "Give another name that ends in .arch, or `-o -` to look at the text.",
    ),
    Code(
        "CIR682",
        "it does not say what to export",
        "The ending of the file that `compactc export` is to write is none of those that it knows, or the "
        "file is the model itself.",
        "The ending says for which program the model is written.",
        "compactc export net.arch -o net.tflite",
        "Give a file that ends in .onnx, .py, .safetensors or .cir.",
    ),
    Code(
        "CIR683",
        "the judge broke down",
        "The process that `compactc verify` asks for right outputs ended without an answer.",
        "Without outputs to compare with, nothing is verified.",
        "compactc verify net.arch --against onnxruntime   # killed for want of memory",
        "The note has the judge's last words; another one may manage: `--against reference`.",
    ),
]

CATALOGUE: dict[str, Code] = {entry.code: entry for entry in _ENTRIES}
