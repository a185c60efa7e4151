"""What a fleet costs: pushes, poisoned releases, bytes, control on a slow line, and swaps under load.

    .venv/bin/python benchmarks/fleet.py             # goals as they are reached
    .venv/bin/python benchmarks/fleet.py --json      # and, last, one line with them
    .venv/bin/python benchmarks/fleet.py --only push,poison --devices 500

Broker (mosquitto with the shipped settings), manager, metadata, patches, downloads and swaps are real ones;
only the many devices are simulated, in this process, by one thread and one selector. Everything is on this
machine and shares its cores; SQLite is the database.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))

from fleet_bytes import measure_bytes  # noqa: E402
from fleet_link import measure_link  # noqa: E402
from fleet_rollouts import fleet, measure_poison, measure_push  # noqa: E402
from fleet_swaps import measure_swaps  # noqa: E402
from score import Score  # noqa: E402

from edge_runtime.contract.errors import EdgeRuntimeError  # noqa: E402

PARTS = ("push", "poison", "bytes", "link", "swaps")


def run(parts: list[str], devices: int, rounds: int, swaps: int) -> Score:
    """Measure parts, one after the other."""
    score = Score()
    if {"push", "poison"} & set(parts):
        with tempfile.TemporaryDirectory() as folder, fleet(Path(folder), devices) as one:
            if "push" in parts:
                measure_push(one, score, devices, rounds)
            if "poison" in parts:
                measure_poison(one, score, devices)
    if "bytes" in parts:
        measure_bytes(score)
    if "link" in parts:
        measure_link(score)
    if "swaps" in parts:
        measure_swaps(score, swaps)
    return score


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="last, one line with the goals")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas")
    parser.add_argument("--devices", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5, help="pushes")
    parser.add_argument("--swaps", type=int, default=100)
    asked = parser.parse_args()
    parts = asked.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"--only: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    try:
        score = run(parts, asked.devices, asked.rounds, asked.swaps)
    except EdgeRuntimeError as error:
        sys.exit(str(error))
    if asked.json:
        print(json.dumps({"goals": score.goals, "figures": score.figures}))
    sys.exit(not all(goal["ok"] for goal in score.goals.values()))


if __name__ == "__main__":
    main()
