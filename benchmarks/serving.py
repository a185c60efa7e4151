"""Our server against Triton, MLServer, LitServe, Ray Serve and the bare session, on the same three models.

    .venv/bin/python benchmarks/serving.py            # tables and goals
    .venv/bin/python benchmarks/serving.py --json     # and, last, one line with the goals
    .venv/bin/python benchmarks/serving.py --quick    # one short round, to see that everything runs

Servers run one after the other, several rounds of it, so that a noisy minute of the machine is everybody's;
the load comes from a process of its own, with binary tensors where a server takes them. A server that cannot
be installed or started here is left out, and said so.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import serving_nets
from serving_rivals import CACHE, HERE, PACKAGES, Running, Unavailable, running

MODELS, BUNDLES = CACHE / "models", CACHE / "bundles"
SERVERS = tuple(PACKAGES)
LEVELS = (1, 8, 32, 64)
"""Clients that ask at the same time."""
MANY = 32
DEADLINE_MS = 50
OVERLOADS = (1.0, 2.0, 4.0)
"""Offered load, times the peak."""
OVERLOADED = "deep"
CYCLES = 100
MIB = 2**20

Result = dict[str, float]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured.

    Args:
        servers: Which.
        models: Which.
        levels: Numbers of clients.
        rounds: Times that each server has its turn.
        seconds: Of each measurement.
        cycles: Loads and unloads.
    """

    servers: Sequence[str]
    models: Sequence[str]
    levels: Sequence[int]
    rounds: int
    seconds: float
    cycles: int


@dataclass(slots=True)
class Found:
    """What was measured: by server, model and clients, a result for each round."""

    closed: dict[tuple[str, str, int], list[Result]] = field(default_factory=dict)
    overload: dict[float, list[float]] = field(default_factory=dict)
    bare: dict[str, list[float]] = field(default_factory=dict)
    batched: dict[str, list[float]] = field(default_factory=dict)
    started_s: dict[str, list[float]] = field(default_factory=dict)
    rss_mib: dict[str, list[float]] = field(default_factory=dict)
    cycles_mib: tuple[float, float] | None = None
    left_out: dict[str, str] = field(default_factory=dict)

    def median(self, server: str, model: str, clients: int, what: str) -> float | None:
        """The median over the rounds; None where it was not measured."""
        results = self.closed.get((server, model, clients))
        return statistics.median(result[what] for result in results) if results else None


def measure(plan: Plan) -> Found:
    """Give every server its turns."""
    found = Found()
    serving_nets.make(MODELS, BUNDLES, serving_nets.COMPARED)
    for number in range(plan.rounds):
        for model in plan.models:
            found.bare.setdefault(model, []).append(bare_ms(model, plan.seconds))
            found.batched.setdefault(model, []).append(batched_per_s(model, plan.seconds))
        for server in plan.servers:
            if server in found.left_out:
                continue
            try:
                with running(server, MODELS, BUNDLES) as one:
                    tell(f"round {number + 1}/{plan.rounds}  {server}, up after {one.started_s:.1f} s")
                    turn(plan, one, found, last=number == plan.rounds - 1)
            except Unavailable as problem:
                found.left_out[server] = str(problem)
                tell(f"{server} is left out: {problem}")
    if "ours" in plan.servers and "ours" not in found.left_out:
        overload(plan, found)
        small(found)
    return found


def turn(plan: Plan, server: Running, found: Found, *, last: bool) -> None:
    """Measure one server once."""
    for model in plan.models:
        for clients in plan.levels:
            told = {"model": model, "clients": clients, "seconds": plan.seconds}
            result = load(server, told)
            found.closed.setdefault((server.name, model, clients), []).append(result)
            tell(
                f"    {model:5} {clients:3} clients  {result['per_s']:8.0f}/s"
                f"  p50 {result['p50_ms']:7.2f}  p99 {result['p99_ms']:7.2f} ms"
                f"  {result['failed']:.0f} failed"
            )
    if server.name != "ours":
        return
    if last:
        found.cycles_mib = cycles(server, plan.cycles)


def overload(plan: Plan, found: Found) -> None:
    """Offer ours what it can answer, twice and four times as much, and count what is answered in time.

    The model gets one core of two. Otherwise what refusals and the load itself cost is taken from the model,
    and the load, not the schedule, would be measured.
    """
    models, bundles = CACHE / "models-deep", CACHE / "bundles-deep"
    serving_nets.make(models, bundles, (OVERLOADED,))
    for _ in range(plan.rounds):
        with running("ours", models, bundles, ("--instances", "1", "--threads", "1")) as server:
            told = {"model": OVERLOADED, "clients": MANY, "seconds": plan.seconds}
            peak = load(server, told)["per_s"]
            tell(f"overload: {OVERLOADED} {peak:.0f}/s at its peak")
            for times in OVERLOADS:
                told = {"model": OVERLOADED, "rate": times * peak, "deadline_ms": DEADLINE_MS}
                result = load(server, {**told, "seconds": 2 * plan.seconds})
                found.overload.setdefault(times, []).append(result["good_per_s"] / peak)
                tell(f"    {times:.0f} times as much: {json.dumps(result)}")


def small(found: Found) -> None:
    """Start ours with nothing but the tiny model: how soon it answers, and what it takes then."""
    only = CACHE / "bundles-tiny"
    only.mkdir(exist_ok=True)
    link = only / "tiny"
    if not link.exists():
        link.symlink_to(BUNDLES / "tiny")
    for _ in range(3):
        with running("ours", MODELS, only) as server:
            load(server, {"model": "tiny", "clients": MANY, "seconds": 1})
            found.started_s.setdefault("ours", []).append(server.started_s)
            found.rss_mib.setdefault("ours", []).append(server.rss_bytes() / MIB)


def cycles(server: Running, count: int) -> tuple[float, float]:
    """Unload and load a model many times; gives MiB after a tenth of them and at the end.

    Each is a median of a tenth of the cycles: from one to the next the heap goes up and down by 8 MiB.
    """
    base = f"http://127.0.0.1:{server.port}/v2/repository/models/mlp"
    seen: list[float] = []
    for _ in range(count):
        for verb in ("unload", "load"):
            request = urllib.request.Request(f"{base}/{verb}", data=b"", method="POST")
            with urllib.request.urlopen(request, timeout=60) as answer:
                answer.read()
        seen.append(server.rss_bytes() / MIB)
    tenth = count // 10
    return statistics.median(seen[tenth : 2 * tenth]), statistics.median(seen[-tenth:])


def load(server: Running, told: dict[str, Any]) -> Result:
    """Run the load generator."""
    asked = json.dumps({"server": server.name, "port": server.port, **told})
    command = (sys.executable, str(HERE / "serving_load.py"), asked)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise Unavailable(f"{told}: {done.stderr.strip()[-300:]}")
    result: Result = json.loads(done.stdout)
    return result


def session_of(model: str, threads: int) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(str(MODELS / f"{model}.onnx"), options, ["CPUExecutionProvider"])


def bare_ms(model: str, seconds: float) -> float:
    """Median milliseconds of one row through a session and nothing else."""
    session = session_of(model, 1)
    x = np.random.default_rng(2).random((1, *serving_nets.SHAPES[model]), np.float32)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        session.run(None, {"x": x})
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e3


def batched_per_s(model: str, seconds: float) -> float:
    """Rows a second of the best batch through a session and nothing else, with all cores."""
    import os

    session = session_of(model, len(os.sched_getaffinity(0)))
    best = 0.0
    sizes = (1, 4, 16, 64)
    for size in sizes:
        x = np.random.default_rng(2).random((size, *serving_nets.SHAPES[model]), np.float32)
        count, began = 0, time.perf_counter()
        while time.perf_counter() < began + seconds / len(sizes):
            session.run(None, {"x": x})
            count += size
        best = max(best, count / (time.perf_counter() - began))
    return best


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def tables(plan: Plan, found: Found) -> None:
    """Print what was measured."""
    for model in plan.models:
        alone, batched = (statistics.median(of[model]) for of in (found.bare, found.batched))
        print(f"\n{model}: bare session {alone:.3f} ms a row, {batched:.0f} rows/s in batches")
        print(f"{'':10}" + "".join(f"{f'{clients} clients':>30}" for clients in plan.levels))
        for server in plan.servers:
            cells = [
                [found.median(server, model, clients, what) for what in ("per_s", "p50_ms", "p99_ms")]
                for clients in plan.levels
            ]
            shown = [
                f"{per_s:9.0f}/s {p50:7.2f} {p99:7.2f} ms" if None not in (per_s, p50, p99) else "-"
                for per_s, p50, p99 in cells
            ]
            print(f"{server:10}" + "".join(f"{cell:>30}" for cell in shown))
    for server, why in found.left_out.items():
        print(f"\n{server} was left out: {why}")


def goals_of(plan: Plan, found: Found) -> dict[str, dict[str, Any]]:
    """Compare with the goals; what was not measured has no value and is not reached."""
    goals: dict[str, dict[str, Any]] = {}

    def goal(name: str, value: float | None, bound: float, *, least: bool) -> None:
        ok = value is not None and (value >= bound if least else value <= bound)
        goals[name] = {"value": None if value is None else round(value, 4), "goal": bound, "ok": ok}

    def over(rival: str, model: str, what: str) -> float | None:
        mine, theirs = (found.median(server, model, MANY, what) for server in ("ours", rival))
        return mine / theirs if mine is not None and theirs else None

    for model in plan.models:
        goal(f"throughput_over_triton_{model}", over("triton", model, "per_s"), 1.2, least=True)
        goal(f"p99_over_triton_{model}", over("triton", model, "p99_ms"), 1.0, least=False)
        for rival in ("mlserver", "litserve"):
            goal(f"throughput_over_{rival}_{model}", over(rival, model, "per_s"), 4.0, least=True)
        alone = found.median("ours", model, 1, "p50_ms")
        bare = statistics.median(found.bare[model])
        goal(
            f"one_client_ms_over_bare_{model}", alone - bare if alone is not None else None, 0.5, least=False
        )
    for times in OVERLOADS[1:]:
        shares = found.overload.get(times)
        share = statistics.median(shares) if shares else None
        goal(f"goodput_at_{times:.0f}_times_the_peak", share, 0.8, least=True)
    if found.cycles_mib is not None:
        early, late = found.cycles_mib
        goal(f"rss_after_{plan.cycles}_loads_over_early", late / early, 1.05, least=False)
    for name, values, bound in (
        ("rss_mib_with_a_small_model", found.rss_mib.get("ours"), 150.0),
        ("start_s", found.started_s.get("ours"), 2.0),
    ):
        goal(name, statistics.median(values) if values else None, bound, least=False)
    return goals


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON: the goals")
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--servers", default=",".join(SERVERS), help="only these, with commas between")
    parser.add_argument("--out", type=Path, help="write every result there as JSON")
    options = parser.parse_args()
    servers = tuple(options.servers.split(","))
    full = Plan(servers, serving_nets.COMPARED, LEVELS, 3, 3.0, CYCLES)
    quick = Plan(servers, serving_nets.COMPARED, (1, MANY), 1, 1.0, 20)
    plan = quick if options.quick else full
    found = measure(plan)
    tables(plan, found)
    goals = goals_of(plan, found)
    print()
    for name, goal in goals.items():
        print(f"{'reached' if goal['ok'] else 'MISSED '} {name} {goal['value']} (goal {goal['goal']})")
    if options.out is not None:
        closed = [
            {"server": s, "model": m, "clients": c, "rounds": r} for (s, m, c), r in found.closed.items()
        ]
        rest = {"overload": found.overload, "bare_ms": found.bare, "batched_per_s": found.batched}
        options.out.write_text(json.dumps({"closed": closed, **rest, "goals": goals}, indent=1))
    if options.json:
        print(json.dumps({"goals": goals}))
    sys.exit(0 if all(goal["ok"] for goal in goals.values()) else 1)


if __name__ == "__main__":
    main()
