"""`compactc explain`: what an error code means; what was done to a model, and why not more."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from compactir.diagnostics import CATALOGUE, CompactError, explain, spell_list
from compactir.driver import plan, read
from compactir.tools import terminal
from compactir.tools.source import source_of, target_of

if TYPE_CHECKING:
    from compactir.passes import Decision

_CODE = re.compile(r"(?:CIR)?\d+", re.IGNORECASE)


def main(args: Namespace) -> int:
    """Explain a code or a model."""
    if _CODE.fullmatch(args.what):
        return explain_code(args.what, args.json)
    with terminal.working(f"compiling {args.what}", quiet=args.json):
        authored = read(source_of(args, args.what), warn=False, stand_in=True)
        planned = plan(authored, target_of(args), also=args.also)
    decisions = [*planned.log.decisions, *planned.lowered.decisions]
    if args.json:
        terminal.print_json({"network": authored.graph.name, "decisions": [_json(d) for d in decisions]})
    else:
        print_decisions(authored.graph.name, decisions)
    return 0


def check(args: Namespace) -> None:
    """Errors: CIR664 for a code that does not exist."""
    if not _CODE.fullmatch(args.what):
        source_of(args, args.what)
    elif (code := _code(args.what)) not in CATALOGUE:
        room = [known for known in CATALOGUE if known[:4] == code[:4]]
        near = [known for known in room if known[:5] == code[:5]] or room
        rooms = "1xx language, 2xx shapes, 3xx IR, 4xx passes, 5xx targets, 6xx runtime and files"
        raise CompactError(
            "CIR664",
            f"there is no error code `{code}`",
            help=f"near it are {spell_list(near)}" if near else f"the rooms are {rooms}",
        )


def explain_code(word: str, as_json: bool = False) -> int:
    """Print a catalogue entry."""
    code = _code(word)
    if as_json:
        terminal.print_json(asdict(CATALOGUE[code]))
    else:
        print(explain(code), end="")
    return 0


def _code(word: str) -> str:
    return word.upper() if word.upper().startswith("CIR") else f"CIR{word}"


def print_decisions(network: str, decisions: Iterable[Decision]) -> None:
    """Done first, then what was considered and left, with the reason."""
    chosen = list(dict.fromkeys(decisions))
    for done, title in ((True, "done"), (False, "not done")):
        rows = [(d.rule, d.node, _where(d), d.why) for d in chosen if d.done is done]
        terminal.table(f"{network}: {title} ({len(rows)})", ("rule", "node", "where", "why"), rows)


def _where(decision: Decision) -> str:
    return f"{decision.span}" if decision.span else ""


def _json(decision: Decision) -> dict[str, Any]:
    return {
        "rule": decision.rule,
        "node": decision.node,
        "where": _where(decision),
        "done": decision.done,
        "why": decision.why,
    }
