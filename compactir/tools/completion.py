"""`compactc completion SHELL`: scripts made from the verbs' declarations."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from compactir.targets import target_names
from compactir.tools.options import Option
from compactir.tools.verbs import BY_NAME, VERBS, Verb


def main(args: Namespace) -> int:
    """Print the script."""
    print({"bash": bash, "zsh": zsh, "fish": fish}[args.shell](), end="")
    return 0


def words(option: Option) -> Sequence[str]:
    """What can stand as the value of an option; empty where it is a file or free text."""
    if option.kind in ("target", "targets", "loaded"):
        return (*target_names(), "native")
    if option.kind in ("passes", "stage"):
        from compactir.passes import PASSES

        return (*(("all",) if option.kind == "stage" else ()), *sorted(PASSES))
    if option.kind == "init":
        return ("seed=0",)
    return option.choices


def _flags(verb: Verb) -> list[str]:
    return [flag for option in verb.options for flag in option.flags] + ["--help"]


def _valued(verb: Verb) -> list[Option]:
    return [option for option in verb.options if option.flags and option.kind != "flag"]


def _values(verb: Verb) -> list[str]:
    """The words for the positional arguments."""
    return [word for option in verb.options if not option.flags for word in words(option)]


# -- bash ----------------------------------------------------------------------------------------------------

_BASH = """\
# bash completion of compactc: eval "$(compactc completion bash)"
_compactc() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} verb=compile i
  for ((i = 1; i < COMP_CWORD; ++i)); do
    case ${{COMP_WORDS[i]}} in
      {verbs}) verb=${{COMP_WORDS[i]}}; break;;
    esac
  done
  local words= files=
  case $verb:$before in
{values}
    *)
      case $verb in
{flags}
      esac
      files=yes
      if ((COMP_CWORD == 1)); then words="$words {all_verbs}"; fi;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$word"))
  if [[ $files && $word != -* ]]; then COMPREPLY+=($(compgen -f -- "$word")); fi
}}
complete -o filenames -F _compactc compactc
"""


def bash() -> str:
    """The script for bash 4 and newer."""
    values, flags = [], []
    for verb in VERBS:
        for option in _valued(verb):
            patterns = "|".join(f"{verb.name}:{flag}" for flag in option.flags)
            answer = f'words="{" ".join(words(option))}"' if words(option) else "files=yes"
            values.append(f"    {patterns}) {answer};;")
        flags.append(f'        {verb.name}) words="{" ".join([*_flags(verb), *_values(verb)])}";;')
    names = [verb.name for verb in VERBS]
    return _BASH.format(
        verbs="|".join(names), values="\n".join(values), flags="\n".join(flags), all_verbs=" ".join(names)
    )


# -- zsh -----------------------------------------------------------------------------------------------------

_ZSH = """\
#compdef compactc
# zsh completion of compactc: eval "$(compactc completion zsh)" after compinit
_compactc() {{
  local -a verbs
  verbs=(
{verbs}
  )
  local verb=${{words[2]}}
  if (( CURRENT == 2 )); then
    _describe -t verbs verb verbs
    _files -g '*.(arch|cir|onnx)(-.)'
    return
  fi
  case $verb in
{cases}
    *) _arguments -S {compile};;
  esac
}}
if [[ $funcstack[1] == _compactc ]]; then _compactc "$@"; else compdef _compactc compactc; fi
"""


def zsh() -> str:
    """The script for zsh."""
    verbs = [f"    {_single(f'{verb.name}:{verb.summary}')}" for verb in VERBS]
    cases = [
        f"    {verb.name}) shift words; (( CURRENT-- )); _arguments -S {_zsh_arguments(verb)};;"
        for verb in VERBS
    ]
    return _ZSH.format(
        verbs="\n".join(verbs), cases="\n".join(cases), compile=_zsh_arguments(BY_NAME["compile"])
    )


def _zsh_arguments(verb: Verb) -> str:
    specs = ["'--help[explain the verb]'"]
    for option in verb.options:
        text = _plain(option.help)
        action = f"({' '.join(words(option))})" if words(option) else "_files"
        value = "" if option.kind == "flag" else f":{option.name}:{action}"
        if not option.flags:
            specs.append(_single(f"{'*' if option.count == '*' else ''}:{option.name}:{action}"))
        specs += [
            _single(f"{'*' if option.count == '+' else ''}{flag}[{text}]{value}") for flag in option.flags
        ]
    return " ".join(specs)


# -- fish ----------------------------------------------------------------------------------------------------


def fish() -> str:
    """The script for fish."""
    names = " ".join(verb.name for verb in VERBS)
    lines = [
        "# fish completion of compactc: compactc completion fish > ~/.config/fish/completions/compactc.fish",
        f"set -l verbs {names}",
    ]
    for verb in VERBS:
        start = f"complete -c compactc -n 'not __fish_seen_subcommand_from {names}'"
        lines.append(f"{start} -a {verb.name} -d {_single(verb.summary)}")
    lines += [_fish_option(verb, option, names) for verb in VERBS for option in verb.options if option.flags]
    for verb in VERBS:
        if _values(verb):
            seen = f"__fish_seen_subcommand_from {verb.name}"
            lines.append(f"complete -c compactc -n '{seen}' -f -a {_single(' '.join(_values(verb)))}")
    return "\n".join([*lines, ""])


def _fish_option(verb: Verb, option: Option, names: str) -> str:
    """One option; those of `compile` also where no verb was given."""
    seen = f"__fish_seen_subcommand_from {verb.name}"
    condition = f"{seen}; or not __fish_seen_subcommand_from {names}" if verb.name == "compile" else seen
    spelled = " ".join(f"-l {f[2:]}" if f.startswith("--") else f"-s {f[1:]}" for f in option.flags)
    value = "" if option.kind == "flag" else " -r"
    choice = f" -f -a {_single(' '.join(words(option)))}" if words(option) else ""
    return f"complete -c compactc -n '{condition}' {spelled}{value}{choice} -d {_single(option.help)}"


def _single(text: str) -> str:
    """A word in single quotes, as all three shells read it."""
    return "'" + text.replace("'", "") + "'"


def _plain(text: str) -> str:
    """Text without the characters that mean something to zsh's _arguments."""
    return text.replace("[", "(").replace("]", ")").replace(":", ";")
