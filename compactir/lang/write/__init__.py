"""Graph → `.arch`: the inverse of elaboration, with repeated pieces written once.

    written = write_arch(graph)
    written.text                   # as `compactc fmt` leaves it
    elaborate(parse(written.text)) # the same operations, whose weights are `written.weights`

`respell` takes apart what passes joined, `calls` spells one operation, `items` sorts, `blocks` finds what
repeats, `parameters` says in what repeats differ, `text` writes statements.
"""

from compactir.lang.write.arch import Written, write_arch

__all__ = ["Written", "write_arch"]
