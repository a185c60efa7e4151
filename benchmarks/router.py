"""What the router costs, and what a second request beside a slow one wins.

    .venv/bin/python benchmarks/router.py            # a table
    .venv/bin/python benchmarks/router.py --json     # and, last, one line with the goals

Costs are CPU time, in turns with the bare thing in the same process: a decision on its own; the same text by
the bare predictor and through the router, under `local_only` and under a `cascade` that keeps its answer. For
the link a server in a process of its own, on this machine, stalls a share of the requests; two clients ask it
in turns, one of which may hedge within the budget of 5 % more requests.
"""

import argparse
import asyncio
import gc
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))

from edge_runtime.contract.errors import EdgeRuntimeError  # noqa: E402
from edge_runtime.contract.request import Request  # noqa: E402
from edge_runtime.contract.route import DataClass  # noqa: E402
from edge_runtime.routing.channel import Channel, ChannelOptions  # noqa: E402
from edge_runtime.routing.cloud_client import CloudClient  # noqa: E402
from edge_runtime.routing.gauge import CloudGauge  # noqa: E402
from edge_runtime.routing.hardness import measure  # noqa: E402
from edge_runtime.routing.outgoing import Outgoing, prepare  # noqa: E402
from edge_runtime.routing.policy import choose, judge  # noqa: E402
from edge_runtime.runtime.runtime import Runtime  # noqa: E402

GOALS = {"decision_us": 20.0, "router_over_bare_us": 50.0, "hedged_p99_over_plain": 0.5}
TEXT = "good staff and a short queue"
TURN = 200
STALL_SHARE, STALL_S, USUAL_S = 0.05, 0.2, 0.002
WARM_UP_CALLS = 500
"""Until a p95 is known and the budget of second requests, which begins empty, has been earned."""

STORE = """
version: 1
site: bench
state_dir: {state}
models:
  local: {{bundle: small, route: {{policy: local_only}}}}
  cascade: {{bundle: small, route: {{policy: cascade, threshold: 0.85, never_leave: [faces]}}}}
cloud: {{url: "http://127.0.0.1:9", bytes_per_hour: 1000000, probe_every_s: 3600}}
door: {{}}
"""


# --- costs --------------------------------------------------------------------------------------------------


def costs(rounds: int) -> dict[str, float]:
    """Microseconds of a decision, and of an answer through the router over the bare predictor."""
    from tests.simulators.sentiment import sentiment_bundle

    with tempfile.TemporaryDirectory(prefix="edge-bench-router-") as folder:
        root = Path(folder)
        sentiment_bundle(root / "small")
        (root / "store.yaml").write_text(STORE.format(state=root / "state"))
        with Runtime(root / "store.yaml") as runtime:
            return _costs(runtime, rounds)


def _costs(runtime: Runtime, rounds: int) -> dict[str, float]:
    router = runtime.router
    local = runtime.local("cascade")
    assert local is not None
    assert local.opened is not None
    bare = local.opened.predictor.predict
    policy = router.model("cascade").policy
    requests = {
        name: Request("1", name, TEXT, data=frozenset({DataClass.TEXT})) for name in ("local", "cascade")
    }
    answer = bare(TEXT)

    def decide() -> None:
        facts = router.facts(requests["cascade"])
        chosen = choose(policy, facts)
        judge(policy, facts, measure(answer, 0.95, chosen))

    ways = {
        "decision": decide,
        "bare": lambda: bare(TEXT),
        "local_only": lambda: router.predict(requests["local"]),
        "cascade": lambda: router.predict(requests["cascade"]),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            # CPU time of this thread, which runs all of it: another process's turn is not the router's cost.
            began = time.thread_time_ns()
            for _ in range(TURN):
                run()
            taken[name].append((time.thread_time_ns() - began) / TURN / 1000)
    over = {
        name: statistics.median(
            with_it - without for with_it, without in zip(taken[name], taken["bare"], strict=True)
        )
        for name in ("local_only", "cascade")
    }
    return {
        "decision_us": statistics.median(taken["decision"]),
        "bare_us": statistics.median(taken["bare"]),
        "local_only_over_bare_us": over["local_only"],
        "cascade_over_bare_us": over["cascade"],
    }


# --- the link -----------------------------------------------------------------------------------------------

ANSWER = json.dumps(
    {
        **{"id": "1", "model": "m", "version": "1", "variant": "v", "route": "local", "reason": "policy"},
        **{"detail": "", "latency_ms": 1.0, "confidence": 0.9},
        "result": {
            **{"kind": "text-classification", "classes": [], "tokens": 1, "truncated": False, "windows": 1}
        },
    }
).encode()


async def stalling_server(share: float, seed: int) -> None:
    """Answer after the usual time, a share of the requests much later; print the port."""
    dice = random.Random(seed)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                length = (
                    int(head.split("content-length:")[1].split("\r\n")[0]) if "content-length:" in head else 0
                )
                await reader.readexactly(length)
                await asyncio.sleep(STALL_S if dice.random() < share else USUAL_S)
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
                    % len(ANSWER)
                    + ANSWER
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def link(calls: int, seed: int) -> dict[str, float]:
    """Milliseconds of calls over a stalling link, with hedging and without, in turns."""
    server = subprocess.Popen(
        [sys.executable, __file__, "--serve", str(STALL_SHARE), "--seed", str(seed)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    url = f"http://127.0.0.1:{int(server.stdout.readline())}"
    sides = {name: (CloudGauge(), list[float]()) for name in ("plain", "hedged")}
    clients = {
        name: CloudClient(Channel(ChannelOptions(url)), gauge, _free) for name, (gauge, _) in sides.items()
    }
    try:
        request = Request("1", "m", TEXT)
        outgoing = prepare(request, "m")
        for number in range(WARM_UP_CALLS + calls):
            for name, client in clients.items():
                gauge, taken = sides[name]
                p95_ms = gauge.facts("m").p95_ms
                after_s = p95_ms / 1000 if name == "hedged" and p95_ms is not None else None
                began = time.perf_counter()
                client.predict(request, outgoing, time.monotonic() + 5, hedge_after_s=after_s)
                if number >= WARM_UP_CALLS:
                    taken.append((time.perf_counter() - began) * 1000)
    finally:
        for client in clients.values():
            client.close()
        server.terminate()
        server.wait()
        server.stdout.close()
    hedges = sides["hedged"][0].status().hedges
    return {
        **{
            f"{name}_{key}": value
            for name, (_, taken) in sides.items()
            for key, value in _spread(taken).items()
        },
        "extra_requests": hedges / (WARM_UP_CALLS + calls),
    }


def _free(what: Outgoing, how: str, to: str) -> None:
    """Nothing is written down here."""


def _spread(taken: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(taken, n=1000, method="inclusive")
    return {"p50_ms": cuts[499], "p95_ms": cuts[949], "p99_ms": cuts[989]}


# --- report -------------------------------------------------------------------------------------------------


def run(rounds: int, calls: int, seed: int) -> dict[str, Any]:
    """Measure everything."""
    gc.collect()
    cost = costs(rounds)
    wire = link(calls, seed)
    found = {
        "decision_us": cost["decision_us"],
        "router_over_bare_us": max(cost["local_only_over_bare_us"], cost["cascade_over_bare_us"]),
        "hedged_p99_over_plain": wire["hedged_p99_ms"] / wire["plain_p99_ms"],
    }
    goals = {
        name: {"value": found[name], "goal": goal, "ok": found[name] <= goal} for name, goal in GOALS.items()
    }
    return {"costs": cost, "link": wire, "goals": goals}


def show(report: dict[str, Any]) -> None:
    for part in ("costs", "link"):
        print(part)
        for name, value in report[part].items():
            print(f"  {name:28} {value:10.3f}")
    print("goals")
    for name, goal in report["goals"].items():
        print(f"  {name:28} {goal['value']:10.3f}  <= {goal['goal']:g}: {'met' if goal['ok'] else 'MISSED'}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one line with everything, last")
    parser.add_argument("--rounds", type=int, default=40, help="turns of each way to answer")
    parser.add_argument("--calls", type=int, default=4000, help="over the link, of each client")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--serve", type=float, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve is not None:
        asyncio.run(stalling_server(asked.serve, asked.seed))
        return
    try:
        report = run(asked.rounds, asked.calls, asked.seed)
    except EdgeRuntimeError as error:
        sys.exit(str(error))
    show(report)
    if asked.json:
        print(json.dumps(report))
    sys.exit(not all(goal["ok"] for goal in report["goals"].values()))


if __name__ == "__main__":
    main()
