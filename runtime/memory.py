"""The workspace of a compiled network as a plan: which value lies where, from which step to which."""

from __future__ import annotations

from typing import Any

from compactir.runtime.manifest import Buffer, Manifest

__all__ = ["MemoryPlan"]


class MemoryPlan:
    """Read from the manifest; prints as a table, the buffers that live at the peak marked with `*`."""

    def __init__(self, manifest: Manifest) -> None:
        self.network = manifest.network
        self.workspace_bytes = manifest.workspace_bytes
        self.weights_bytes = manifest.weights_bytes
        self.buffers: tuple[Buffer, ...] = manifest.memory
        self._step_names = [step.name for step in manifest.steps]

    def at(self, step: int) -> tuple[Buffer, ...]:
        """The buffers that live while a step runs."""
        return tuple(b for b in self.buffers if b.first <= step <= b.last)

    @property
    def peak_step(self) -> int:
        """The step with the most live bytes, the first of them; 0 where there are no buffers."""
        steps = sorted({b.first for b in self.buffers})  # live bytes only grow where a buffer begins
        return max(steps, key=self.live_bytes, default=0)

    @property
    def peak_bytes(self) -> int:
        """Live bytes at the peak; `workspace_bytes` is larger by what alignment and placement lose."""
        return self.live_bytes(self.peak_step)

    @property
    def at_peak(self) -> tuple[Buffer, ...]:
        """The buffers that live at the peak, largest first."""
        return tuple(sorted(self.at(self.peak_step), key=lambda b: (-b.bytes, b.offset)))

    def live_bytes(self, step: int) -> int:
        """Bytes in use while a step runs."""
        return sum(b.bytes for b in self.at(step))

    def step_name(self, step: int) -> str:
        """What the step is called."""
        return self._step_names[step] if 0 <= step < len(self._step_names) else f"step {step}"

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "network": self.network,
            "workspace_bytes": self.workspace_bytes,
            "weights_bytes": self.weights_bytes,
            "peak_bytes": self.peak_bytes,
            "peak_step": self.step_name(self.peak_step),
            "at_peak": [b.name for b in self.at_peak],
            "buffers": [vars(b) for b in self.buffers],
        }

    def __str__(self) -> str:
        peak = set(self.at_peak)
        rows = [
            f"{'*' if b in peak else ' '} {b.offset:>12,} {b.bytes:>12,}  {b.first:>4}–{b.last:<4}  {b.name}"
            for b in sorted(self.buffers, key=lambda b: (b.first, b.offset))
        ]
        return "\n".join(
            [
                f"{self.network}: workspace {self.workspace_bytes:,} bytes, weights {self.weights_bytes:,}",
                f"peak {self.peak_bytes:,} bytes at {self.step_name(self.peak_step)}",
                f"  {'offset':>12} {'bytes':>12}  {'steps':<9}  buffer (* lives at the peak)",
                *rows,
            ]
        )
