"""`edge-runtime serve` as a process: what it prints, drains and refuses; real clients against it."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http

from tests.simulators.served_bundles import WIDTH, bundle, scaling

PATIENCE_S = 60.0
ROW = np.arange(WIDTH, dtype=np.float32)[None]


class Process:
    """A server that runs, and what it said when it was ready."""

    def __init__(self, process: "subprocess.Popen[str]", said: dict[str, Any]) -> None:
        self.process = process
        self.url: str = said["url"]
        self.grpc: str = said["grpc"]
        self.models: list[dict[str, Any]] = said["models"]

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


def command(bundles: Path | str, *more: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "edge_runtime", "serve", "--bundles", str(bundles), *more)


@contextmanager
def serving(bundles: Path | str, *more: str, port: int = 0) -> Generator[Process, None, None]:
    asked = command(bundles, "--port", str(port), "--grpc-port", "0", "--json", *more)
    with subprocess.Popen(asked, stdout=subprocess.PIPE, text=True, env={**os.environ}) as process:
        assert process.stdout is not None
        lines: list[str] = []
        try:
            for line in process.stdout:  # one document, indented
                lines.append(line)
                if line == "}\n":
                    break
            yield Process(process, json.loads("".join(lines)))
        finally:
            if process.poll() is None:
                process.kill()


def refused(bundles: Path, *more: str) -> tuple[int, dict[str, Any]]:
    """Run it where it must not start; gives its exit code and its error."""
    done = subprocess.run(
        command(bundles, "--port", "0", "--json", *more),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    return done.returncode, json.loads(done.stdout)["error"]


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    for number, factor in ((1, 2.0), (2, 3.0)):
        bundle(tmp_path / "bundles" / f"scale-{number}", scaling(factor), version=f"{number}.0.0")
    return tmp_path / "bundles"


def test_real_clients_are_answered_over_both_protocols(bundles: Path) -> None:
    broken = bundles / "broken"
    broken.mkdir()
    (broken / "bundle.json").write_text("{}")
    with serving(bundles) as server:
        assert {(one["model"], one["version"], one["state"]) for one in server.models} >= {
            ("scale", "1.0.0", "READY"),
            ("scale", "2.0.0", "READY"),
        }
        assert any(one["state"] == "UNAVAILABLE" and one["reason"] for one in server.models)
        for kind, address in ((tritonclient.http, server.url[7:]), (tritonclient.grpc, server.grpc)):
            with kind.InferenceServerClient(address) as client:
                asked = kind.InferInput("x", ROW.shape, "FP32")
                asked.set_data_from_numpy(ROW)
                for version, factor in (("1.0.0", 2), ("2.0.0", 3), ("", 3)):
                    answer = client.infer("scale", [asked], model_version=version)
                    np.testing.assert_allclose(answer.as_numpy("y"), ROW * factor)
        assert server.stop() == 0


def test_a_canary_reaches_both_protocols(bundles: Path) -> None:
    with serving(bundles) as server:
        httpx.put(
            f"{server.url}/v1/control/traffic/scale", json={"weights": {"1.0.0": 100}, "shadow": "2.0.0"}
        ).raise_for_status()
        with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
            asked = tritonclient.grpc.InferInput("x", ROW.shape, "FP32")
            asked.set_data_from_numpy(ROW)
            answer = client.infer("scale", [asked])
        np.testing.assert_allclose(answer.as_numpy("y"), ROW * 2)
        end = time.monotonic() + PATIENCE_S
        while not (told := httpx.get(f"{server.url}/v1/control/shadows").json()):
            assert time.monotonic() < end
        assert told == [{"model": "scale", "version": "2.0.0", "outcome": "differed", "count": 1}]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_under_way_is_answered_before_the_end(bundles: Path, number: int) -> None:
    with serving(bundles) as server:
        host, port = server.url[7:].split(":")
        body = json.dumps(
            {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, WIDTH], "data": ROW[0].tolist()}]}
        ).encode()
        length = f"host: {host}:{port}\r\ncontent-length: {len(body)}"
        head = f"POST /v2/models/scale/infer HTTP/1.1\r\n{length}\r\n\r\n"
        with socket.create_connection((host, int(port)), PATIENCE_S) as connection:
            connection.sendall(head.encode() + body[:10])
            _until_in_flight(server.url, 2)  # the half request, beside the one that asks for it
            server.process.send_signal(number)
            _until_closed(host, int(port))
            connection.sendall(body[10:])
            answer = b""
            while part := connection.recv(65536):
                answer += part
        assert answer.startswith(b"HTTP/1.1 200") and b'"outputs"' in answer
        assert server.process.wait(PATIENCE_S) == 0


def _until_in_flight(url: str, count: int) -> None:
    end = time.monotonic() + PATIENCE_S
    while f"edge_requests_in_flight {count}.0" not in httpx.get(f"{url}/metrics").text:
        assert time.monotonic() < end


def _until_closed(host: str, port: int) -> None:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            socket.create_connection((host, port), 1).close()
        except OSError:
            return
    raise AssertionError("it still takes new connections")


def test_many_threads_of_repetitions_run_once_and_a_restart_forgets_nothing(
    bundles: Path, tmp_path: Path
) -> None:
    asked = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, WIDTH], "data": ROW[0].tolist()}]}
    state = ("--state", str(tmp_path / "state"))
    with serving(bundles, *state) as server:
        answers: list[Any] = []

        def ask() -> None:
            url = f"{server.url}/v2/models/scale/infer"
            answers.append(httpx.post(url, json=asked, headers={"x-request-id": "a"}).json())

        threads = [threading.Thread(target=ask) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 16 and all(answer == answers[0] for answer in answers)
        page = httpx.get(f"{server.url}/metrics").text
        assert 'edge_rows_total{model="scale",version="2.0.0"} 1.0' in page
        assert "edge_requests_repeated_total 15.0" in page
        server.process.kill()
        server.process.wait()
    with serving(bundles, *state) as server:
        url = f"{server.url}/v2/models/scale/infer"
        again = httpx.post(url, json=asked, headers={"x-request-id": "a"})
        assert again.json() == answers[0]
        assert "edge_rows_total{" not in httpx.get(f"{server.url}/metrics").text


def test_keys_are_made_and_asked_for(bundles: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    made = subprocess.run(
        command(bundles, "--keys", str(file), "--new-key", "shop", "--json"),
        capture_output=True,
        text=True,
        check=True,
    )
    secret = json.loads(made.stdout)["key"]
    assert secret not in file.read_text()
    with serving(bundles, "--host", "0.0.0.0", "--keys", str(file)) as server:
        url = server.url.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{url}/v2/models/scale").status_code == 401
        allowed = httpx.get(f"{url}/v2/models/scale", headers={"authorization": f"Bearer {secret}"})
        assert allowed.status_code == 200


def test_it_refuses_to_start_for_good_reasons(bundles: Path, tmp_path: Path) -> None:
    code, error = refused(bundles, "--host", "0.0.0.0")
    assert code == 3 and "others can reach it" in error["message"]
    code, error = refused(tmp_path / "nothing")
    assert code in {5, 8} and "nothing" in error["message"]
    (tmp_path / "empty").mkdir()
    code, error = refused(tmp_path / "empty")
    assert code == 5 and "no model there can be served" in error["message"]
    code, error = refused(bundles, "--keys", str(tmp_path / "missing.json"))
    assert code == 3 and "--new-key" in error["message"]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(command(bundles, "--port", port), capture_output=True, text=True, check=False)
        assert done.returncode == 7 and "--port" in done.stderr
        code, error = refused(bundles, "--grpc-port", port)
        assert code == 7 and "--grpc-port" in error["message"]


def test_the_table_is_calm(bundles: Path) -> None:
    asked = command(bundles, "--port", "0")
    with subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        said: Sequence[str] = []
        for line in process.stdout:
            said = [*said, line]
            if line.startswith("Serving at"):
                break
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
        assert process.stderr.read() == ""
    assert said[0].split() == ["model", "version", "state", "task", "runs", "as"]
    assert said[1].split() == ["scale", "1.0.0", "ready", "tensors", "onnx_onnxruntime"]


WITHOUT = """
import sys

for name in ("fastapi", "grpc", "uvicorn", "opentelemetry", "prometheus_client"):
    sys.modules[name] = None

from typer.testing import CliRunner

from edge_runtime.cli.app import app

for arguments, code in ((["serve", "--help"], 0), (["serve", "--bundles", "x"], 3)):
    ran = CliRunner().invoke(app, arguments)
    assert ran.exit_code == code, ran.output
    print(ran.output)
"""


def test_help_needs_none_of_its_libraries(repository: Path) -> None:
    done = subprocess.run(
        (sys.executable, "-c", WITHOUT), capture_output=True, text=True, check=False, cwd=repository
    )
    assert done.returncode == 0, done.stderr
    assert "pip install 'edge-runtime[cloud]'" in done.stdout + done.stderr
