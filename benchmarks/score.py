"""Goals of a benchmark and how they were met: said at once, and kept for the last line. Measures nothing."""

from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

console = Console(stderr=True)


@dataclass(slots=True)
class Score:
    """Goals and how they were met; figures have none."""

    goals: dict[str, dict[str, Any]] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)

    def figure(self, name: str, value: float) -> None:
        self.figures[name] = round(value, 4)
        console.print(f"        {name} {value:.4f}", highlight=False)

    def at_most(self, name: str, value: float, goal: float) -> None:
        self._note(name, value, goal, ok=value <= goal)

    def at_least(self, name: str, value: float, goal: float) -> None:
        self._note(name, value, goal, ok=value >= goal)

    def _note(self, name: str, value: float, goal: float, *, ok: bool) -> None:
        self.goals[name] = {"value": round(value, 4), "goal": goal, "ok": ok}
        console.print(f"{'reached' if ok else 'MISSED '} {name} {value:.4f} (goal {goal:g})", highlight=False)
