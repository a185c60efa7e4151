"""Load for the serving benchmark, in a process of its own: many connections, requests prepared beforehand.

    serving_load.py '{"server": "ours", "port": 8009, "model": "mlp", "clients": 32, "seconds": 3}'
    serving_load.py '{…, "rate": 4000, "deadline_ms": 50}'

Closed loop: each client asks again when it is answered. Open loop (`rate`): requests come by a Poisson
process whether or not earlier ones were answered, and count when they are answered within their deadline.
Prints one line of JSON.
"""

import asyncio
import base64
import collections
import json
import random
import sys
import time
from typing import Any

import numpy as np
from serving_nets import SHAPES

try:
    import uvloop
except ImportError:
    uvloop = None

OCTETS = b"application/octet-stream"


def request_of(server: str, model: str, deadline_ms: int = 0) -> bytes:
    """The bytes of one request, in the fastest form that a server takes."""
    row = np.random.default_rng(2).random(SHAPES[model], np.float32)
    raw, extra = row.tobytes(), b""
    if server in {"ours", "triton"}:
        size = {"binary_data_size": len(raw)}
        x = {"name": "x", "datatype": "FP32", "shape": [1, *row.shape], "parameters": size}
        asked = {"inputs": [x], "outputs": [{"name": "y", "parameters": {"binary_data": True}}]}
        head = json.dumps(asked).encode()
        head += b" " * (-len(head) % 8)
        body, path = head + raw, f"/v2/models/{model}/infer"
        extra = b"Inference-Header-Content-Length: %d\r\n" % len(head)
    elif server == "mlserver":
        entry = {"name": "x", "datatype": "FP32", "shape": [1, *row.shape], "data": row.ravel().tolist()}
        body, path = json.dumps({"inputs": [entry]}).encode(), f"/v2/models/{model}/infer"
    elif server == "litserve":
        body, path = json.dumps({"x": base64.b64encode(raw).decode()}).encode(), f"/{model}"
    else:
        body, path = raw, f"/{model}"
    kind = b"application/json" if server in {"mlserver", "litserve"} else OCTETS
    if deadline_ms:
        extra += b"X-Deadline-Ms: %d\r\n" % deadline_ms
    start = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: ".encode()
    return start + kind + b"\r\n" + extra + b"Content-Length: %d\r\n\r\n" % len(body) + body


class Client(asyncio.Protocol):
    """One connection: sends a request, and tells when its answer is whole."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.answered: asyncio.Future[int] | None = None
        self.need = 0
        self.status = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self.answered is not None and not self.answered.done():
            self.answered.set_exception(exc or ConnectionError("closed"))

    def ask(self, request: bytes) -> "asyncio.Future[int]":
        self.answered = asyncio.get_running_loop().create_future()
        self.buffer.clear()
        self.need = 0
        self.transport.write(request)
        return self.answered

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.need:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self.buffer[:end]).lower()
            self.status = int(head[9:12])
            at = head.find(b"content-length:")
            if at < 0:  # chunked
                if not self.buffer.endswith(b"0\r\n\r\n"):
                    return
                self.need = len(self.buffer)
            else:
                self.need = end + 4 + int(head[at + 15 :].split(b"\r\n", 1)[0])
        if len(self.buffer) >= self.need and self.answered is not None and not self.answered.done():
            self.answered.set_result(self.status)


async def connect(port: int, count: int) -> list[Client]:
    loop = asyncio.get_running_loop()
    return [(await loop.create_connection(Client, "127.0.0.1", port))[1] for _ in range(count)]


async def closed(told: dict[str, Any]) -> dict[str, float]:
    """As many clients as asked for, each with one request under way."""
    clients = await connect(told["port"], told["clients"])
    request = request_of(told["server"], told["model"])
    warm_s, seconds = told.get("warm_s", 0.5), told["seconds"]
    begin = time.perf_counter() + warm_s
    end = begin + seconds
    times: list[float] = []
    failed: collections.Counter[int] = collections.Counter()

    async def client(one: Client) -> None:
        while (asked := time.perf_counter()) < end:
            status = await one.ask(request)
            now = time.perf_counter()
            if status != 200:
                failed[status] += 1
            elif asked >= begin and now <= end:
                times.append(now - asked)

    await asyncio.gather(*(client(one) for one in clients))
    if not times:
        raise SystemExit(f"no answer: {dict(failed)}")
    p50, p99 = (float(np.percentile(times, q)) * 1e3 for q in (50, 99))
    return {"per_s": len(times) / seconds, "p50_ms": p50, "p99_ms": p99, "failed": sum(failed.values())}


async def opened(told: dict[str, Any]) -> dict[str, float]:
    """Requests at a rate; a client that is free takes the oldest that can still be answered in time."""
    deadline_s, seconds, rate = told["deadline_ms"] / 1e3, told["seconds"], told["rate"]
    clients = await connect(told["port"], told.get("connections", 256))
    request = request_of(told["server"], told["model"], told["deadline_ms"])
    dice = random.Random(0)
    waiting: collections.deque[float] = collections.deque()
    idle = collections.deque(clients)
    counts: collections.Counter[str] = collections.Counter()
    busy: set[asyncio.Task[None]] = set()

    async def ask(one: Client, due: float) -> None:
        try:
            status = await one.ask(request)
            late = time.perf_counter() > due + deadline_s
            counts["good" if status == 200 and not late else "late" if status == 200 else "shed"] += 1
            idle.append(one)
        except ConnectionError:
            counts["lost"] += 1

    begin = time.perf_counter()
    due = begin
    while (now := time.perf_counter()) < begin + seconds:
        while due <= now:
            waiting.append(due)
            due += dice.expovariate(rate)
        while waiting and waiting[0] + deadline_s < now:
            waiting.popleft()
            counts["never sent"] += 1
        while waiting and idle:
            task = asyncio.create_task(ask(idle.popleft(), waiting.popleft()))
            busy.add(task)
            task.add_done_callback(busy.discard)
        await asyncio.sleep(min(max(due - time.perf_counter(), 0), 0.001))
    await asyncio.gather(*busy)
    offered = sum(counts.values()) + len(waiting)
    return {"good_per_s": counts["good"] / seconds, "offered_per_s": offered / seconds, **counts}


def main() -> None:
    told = json.loads(sys.argv[1])
    work = opened(told) if "rate" in told else closed(told)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if uvloop is not None else None) as runner:
        print(json.dumps(runner.run(work)))


if __name__ == "__main__":
    main()
