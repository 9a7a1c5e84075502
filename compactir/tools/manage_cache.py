"""`compactc cache`: what was built and kept."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict

from compactir.runtime.cache import open_cache, parse_size
from compactir.tools import terminal


def main(args: Namespace) -> int:
    """Show, clear or prune."""
    with terminal.working("opening the cache", quiet=args.json):  # it warns where its place cannot be written
        cache = open_cache()
    if args.action == "stats":
        stats = asdict(cache.stats()) | {"root": str(cache.root)}
        if args.json:
            terminal.print_json(stats)
        else:
            terminal.table(f"build cache {cache.root}", ("what", "amount>"), _rows(stats))
        return 0
    limit = parse_size(args.limit, "--limit") if args.limit else None
    freed = cache.clear() if args.action == "clear" else cache.prune(limit, grace_s=0 if args.limit else 60)
    if args.json:
        terminal.print_json({"root": str(cache.root), "freed_bytes": freed})
    else:
        print(f"{megabytes(freed)} freed in {cache.root}")
    return 0


def _rows(stats: dict[str, object]) -> list[tuple[str, object]]:
    used, limit = stats["bytes"], stats["limit_bytes"]
    assert isinstance(used, int)
    assert isinstance(limit, int)
    return [
        ("entries", stats["entries"]),
        ("size", megabytes(used)),
        ("limit", megabytes(limit)),
        ("unfinished", stats["unfinished"]),
    ]


def megabytes(count: int) -> str:
    """A number of bytes for people: MB are 10⁶."""
    return f"{count / 1e6:,.2f} MB" if count >= 10_000 else f"{count:,} bytes"
