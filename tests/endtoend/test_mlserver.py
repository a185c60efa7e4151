"""Our cloud client against a real MLServer, in an environment of its own: it takes JSON tensors only."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.contract.errors import InputError, UnknownModelError
from edge_runtime.contract.request import Request
from edge_runtime.contract.result import Values
from edge_runtime.routing.channel import Channel, ChannelOptions
from edge_runtime.routing.cloud_client import CloudClient
from edge_runtime.routing.gauge import CloudGauge
from edge_runtime.routing.outgoing import Outgoing, prepare
from tests.simulators.cloud import until

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "tests/simulators/mlserver_doubles.py"
WANTED = ("mlserver==1.7.1", "uvloop<0.22")


@pytest.mark.rivals
@pytest.mark.timeout(900)
def test_tensors_through_a_real_mlserver(tmp_path: Path) -> None:
    python = tmp_path / "venv/bin/python"
    subprocess.run([sys.executable, "-m", "uv", "venv", "--quiet", str(tmp_path / "venv")], check=True)
    install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(python), *WANTED]
    subprocess.run(install, check=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    left: list[str] = []

    def leaving(what: Outgoing, how: str, to: str) -> None:
        left.append(what.content_type)

    log = (tmp_path / "log").open("wb")
    server = subprocess.Popen([str(python), str(MODEL), str(port)], stdout=log, stderr=log)
    client = CloudClient(Channel(ChannelOptions(f"http://127.0.0.1:{port}")), CloudGauge(), leaving)
    try:
        until(lambda: client.probe(1.0), "MLServer", 120)
        x = np.arange(6, dtype=np.float32).reshape(2, 3)
        for _ in range(2):
            request = Request("id-1", "doubles", {"x": x})
            outgoing = prepare(request, "doubles", binary=client.binary)
            answer = client.predict(request, outgoing, time.monotonic() + 30)
            assert isinstance(answer.value, Values)
            np.testing.assert_array_equal(answer.value.tensors["y"], 2 * x)
        # One binary try, which it answers with 500; JSON from then on, again where it closed the connection.
        assert left[0] == "application/octet-stream"
        assert set(left[1:]) == {"application/json"}
        with pytest.raises((InputError, UnknownModelError), match=r"[Nn]ot found"):
            request = Request("id-2", "nobody", {"x": x})
            client.predict(request, prepare(request, "nobody", binary=False), time.monotonic() + 30)
    finally:
        client.close()
        server.terminate()
        server.wait(30)
        log.close()
