"""Events in a stream of a real Redis server."""

import builtins
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.contract.errors import ConfigError, RemoteError
from edge_runtime.sinks.redis_stream import RedisOptions, RedisStream
from edge_runtime.sinks.spool import Letter
from tests.simulators.broker import free_port
from tests.simulators.certificates import Authority
from tests.simulators.doings import numbered
from tests.simulators.redis_server import REDIS, RedisServer

redis = pytest.importorskip("redis")
pytestmark = pytest.mark.skipif(
    REDIS is None, reason="redis-server is not installed: apt install redis-server"
)


def letters(count: int) -> list[Letter]:
    events = numbered(count)
    return [Letter(n, event.camera, event.model_dump_json().encode()) for n, event in enumerate(events)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis").start()
    yield server
    server.stop()


def test_entries_have_the_camera_and_the_event(server: RedisServer) -> None:
    stream = RedisStream(RedisOptions("127.0.0.1", server.port, stream="shop", database=3))
    stream.send(letters(3))
    stream.close()
    with redis.Redis(port=server.port, db=3) as client:
        entries = client.xrange("shop")
    assert [entry[b"camera"] for _, entry in entries] == [b"door"] * 3
    assert [json.loads(entry[b"event"])["id"] for _, entry in entries] == ["door-0", "door-1", "door-2"]


def test_the_stream_keeps_about_so_many(server: RedisServer) -> None:
    bounded = RedisStream(RedisOptions("127.0.0.1", server.port, stream="bounded", longest=500))
    whole = RedisStream(RedisOptions("127.0.0.1", server.port, stream="whole", longest=None))
    for _ in range(20):
        bounded.send(letters(100))
        whole.send(letters(100))
    bounded.close()
    whole.close()
    with redis.Redis(port=server.port) as client:
        assert 500 <= client.xlen("bounded") < 700
        assert client.xlen("whole") == 2000


def test_the_right_to_add_is_enough_and_no_right_is_told(server: RedisServer) -> None:
    with redis.Redis(port=server.port) as client:
        client.execute_command("ACL", "SETUSER", "edge", "on", ">adding", "~shop", "+xadd", "+multi", "+exec")
    options = RedisOptions("127.0.0.1", server.port, stream="shop", username="edge", password="adding")
    stream = RedisStream(options)
    stream.send(letters(2))
    stream.close()
    assert "adding" not in repr(options)
    other = RedisStream(
        RedisOptions("127.0.0.1", server.port, stream="other", username="edge", password="adding")
    )
    with pytest.raises(RemoteError, match="does not let us in") as caught:
        other.send(letters(1))
    assert not caught.value.retryable
    other.close()


def test_a_server_that_is_not_there_is_told() -> None:
    stream = RedisStream(RedisOptions("127.0.0.1", free_port()))
    with pytest.raises(RemoteError, match="cannot be reached") as caught:
        stream.send(letters(1))
    assert caught.value.retryable
    stream.close()


def test_certificates_are_checked(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server")
    tls_port = free_port()
    server = RedisServer(
        tmp_path / "redis",
        *("--tls-port", str(tls_port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key)),
        *("--tls-ca-cert-file", str(authority.file), "--tls-auth-clients", "no"),
    ).start()
    trusting = RedisStream(RedisOptions("127.0.0.1", tls_port, tls=True, ca_file=authority.file))
    trusting.send(letters(2))
    trusting.close()
    stranger = RedisStream(RedisOptions("127.0.0.1", tls_port, tls=True))
    with pytest.raises(RemoteError, match="certificate is not trusted") as caught:
        stranger.send(letters(1))
    assert not caught.value.retryable
    stranger.close()
    server.stop()


def test_a_missing_library_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "redis":
            raise ImportError("No module named 'redis'")
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "redis", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"edge-runtime\[redis\]"):
        RedisStream(RedisOptions("localhost"))
