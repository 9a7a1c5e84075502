"""The pipelines: each a list that a reader sees whole, in the order in which it runs."""

from __future__ import annotations

from compactir.diagnostics import CompactError, did_you_mean
from compactir.passes._base import Pass, parse_pipeline
from compactir.targets import Target

CLEAN = ["drop-identity", "dead-code", "common-subexpressions", "constant-folding"]

PIPELINES: dict[str, list[str]] = {
    "none": [],
    "clean": CLEAN,
    "c": [
        *CLEAN,
        "linear-to-conv",  # one kernel for both, and epilogues for linear layers
        "fold-batchnorm",  # before anything looks at weights
        "collapse-sparse",
        "prune-channels",  # takes out what collapse-sparse left without links
        "multiply-out",  # before layers are joined: a product is one of them
        "merge-sums",  # makes the concats that merge-branches looks for
        "merge-branches",
        "fold-shuffle",  # after all passes that make views
        "raise-activation",
        "fuse-epilogue",
        "fuse-separable",
    ],
}


def pipeline(name: str, target: Target | None = None) -> list[Pass]:
    """The passes of a named pipeline, with the options that the target asks for. Errors: CIR403."""
    if name not in PIPELINES:
        raise CompactError(
            "CIR403",
            f"there is no pipeline `{name}`",
            help=did_you_mean(name, PIPELINES) or " ".join(PIPELINES),
        )
    options = {}
    if target:
        filters = str(target.winograd).lower()
        options["fuse-separable"] = f"{{cache={target.l2_bytes},winograd={filters}}}"
    return parse_pipeline(",".join(p + options.get(p, "") for p in PIPELINES[name]))
