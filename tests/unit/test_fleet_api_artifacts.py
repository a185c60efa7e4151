"""Bytes of versions over the API: put, parts of them, object stores, and the device's own downloader."""

import hashlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec
import httpx
import pytest
from fsspec.implementations.local import LocalFileSystem
from starlette.testclient import TestClient

from cloud_fallback.fleet.api.app import make_app
from cloud_fallback.fleet.api.artifacts import StoreArtifacts, artifacts_for
from cloud_fallback.fleet.api.ranges import Slice, wanted
from cloud_fallback.fleet.settings import ArtifactSettings
from edge_runtime.contract.errors import ConfigError, StorageError, TooLargeError
from edge_runtime.contract.update import Failure, UpdateFailedError
from edge_runtime.update.download import Downloader, DownloadOptions
from edge_runtime.update.store import Part
from tests.simulators.fleet_api import Site, content_digest, enrol, error_of, listening, site_in

CONTENT = bytes(range(256)) * 8192
DIGEST = hashlib.sha256(CONTENT).hexdigest()
ETAG = f'"{DIGEST}"'


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with site_in(tmp_path / "fleet") as made:
        yield made


@pytest.fixture
def path(site: Site) -> str:
    return site.publish("people", 1, CONTENT)


def put(site: Site, path: str, content: bytes = CONTENT, **headers: str) -> Any:
    return site.client("operator").put(f"/v1/artifacts/{path}", content=content, headers=headers)


def test_what_is_put_is_given_and_never_changes(site: Site, path: str) -> None:
    answer = put(site, path, **{"content-digest": content_digest(CONTENT)})
    assert answer.status_code == 200
    assert answer.json()["size_bytes"] == len(CONTENT)
    assert put(site, path).status_code == 200
    got = site.client("viewer").get(f"/artifacts/{path}")
    assert got.content == CONTENT
    assert (got.headers["etag"], got.headers["accept-ranges"]) == (ETAG, "bytes")
    assert "immutable" in got.headers["cache-control"]
    other = put(site, path, CONTENT[:-1])
    assert (other.status_code, error_of(other)["code"]) == (409, "other-bytes")
    assert site.client("viewer").get(f"/artifacts/{path}").content == CONTENT
    written = [each["action"] for each in site.client().get("/v1/audit").json()["audit"]]
    assert written.count("artifact.put") == 1


@pytest.mark.parametrize(
    ("headers", "status", "start", "end"),
    [
        ({"range": "bytes=0-"}, 206, 0, len(CONTENT)),
        ({"range": "bytes=10-19"}, 206, 10, 20),
        ({"range": "bytes=10-99999999"}, 206, 10, len(CONTENT)),
        ({"range": "bytes=-5"}, 206, len(CONTENT) - 5, len(CONTENT)),
        ({"range": "bytes=0-1,4-5"}, 200, 0, len(CONTENT)),
        ({"range": "bytes=5-2"}, 200, 0, len(CONTENT)),
        ({"range": "lines=1-2"}, 200, 0, len(CONTENT)),
        ({"range": "bytes=10-", "if-range": ETAG}, 206, 10, len(CONTENT)),
        ({"range": "bytes=10-", "if-range": '"other"'}, 200, 0, len(CONTENT)),
        ({"range": "bytes=10-", "if-range": f"W/{ETAG}"}, 200, 0, len(CONTENT)),
        ({"range": f"bytes={len(CONTENT)}-"}, 416, 0, 0),
        ({"range": "bytes=-0"}, 416, 0, 0),
        ({"if-none-match": ETAG}, 304, 0, 0),
        ({"if-none-match": '"other"'}, 200, 0, len(CONTENT)),
    ],
)
def test_parts(site: Site, path: str, headers: dict[str, str], status: int, start: int, end: int) -> None:
    put(site, path)
    got = site.client("viewer").get(f"/artifacts/{path}", headers=headers)
    assert (got.status_code, got.content) == (status, CONTENT[start:end])
    if status == 206:
        assert got.headers["content-range"] == f"bytes {start}-{end - 1}/{len(CONTENT)}"
    if status == 416:
        assert got.headers["content-range"] == f"bytes */{len(CONTENT)}"


def test_a_head_has_no_body(site: Site, path: str) -> None:
    put(site, path)
    got = site.client("viewer").head(f"/artifacts/{path}")
    assert (got.status_code, got.content, got.headers["content-length"]) == (200, b"", str(len(CONTENT)))


def test_an_empty_file_has_no_part() -> None:
    assert wanted({"range": "bytes=0-"}, 0, '"e"') == Slice(416, 0, 0)
    assert wanted({}, 0, '"e"') == Slice(200, 0, 0)


def test_damaged_and_foreign_bytes_are_refused(site: Site, path: str) -> None:
    damaged = put(site, "model/other/1-1.zip", CONTENT[:-1], **{"content-digest": content_digest(CONTENT)})
    assert (damaged.status_code, error_of(damaged)["code"]) == (400, "input")
    for wrong in ("sha-256=:AAAA:", "md5=:AAAA:", "sha-256=:%s:" % ("*" * 44)):
        assert put(site, path, **{"content-digest": wrong}).status_code == 400
    assert put(site, "..%2f..%2fetc/passwd").status_code in {400, 404}
    missing = site.client("viewer").get(f"/artifacts/{path}")
    assert (missing.status_code, error_of(missing)["code"]) == (404, "bytes-missing")
    unknown = site.client("viewer").get("/artifacts/model/people/9-9.zip")
    assert (unknown.status_code, error_of(unknown)["code"]) == (404, "target-unknown")
    assert not list((site.folder / "artifacts").rglob("*.part"))


def test_a_file_that_is_too_large_leaves_nothing(tmp_path: Path) -> None:
    store = artifacts_for(ArtifactSettings(folder=tmp_path, max_bytes=10))
    incoming = store.incoming()
    incoming.write(b"12345")
    with pytest.raises(TooLargeError, match="10 bytes"):
        incoming.write(b"678901")
    incoming.drop()
    assert not list(tmp_path.rglob("*.part"))


def test_an_upload_that_is_cut_off_leaves_nothing(site: Site, path: str) -> None:
    with listening(site.app) as url:
        parts = urlsplit(url)
        head = (
            f"PUT /v1/artifacts/{path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(CONTENT)}\r\n"
            f"authorization: {site.headers('operator')['authorization']}\r\n\r\n"
        )
        with socket.create_connection((str(parts.hostname), parts.port or 0)) as link:
            link.sendall(head.encode() + CONTENT[: 1 << 20])
    assert not list((site.folder / "artifacts").rglob("*.part"))
    assert site.client("viewer").get(f"/artifacts/{path}").status_code == 404
    assert put(site, path).status_code == 200


def _downloader(url: str, token: str, chunk_bytes: int = 64 << 10) -> Downloader:
    headers = {"authorization": f"Bearer {token}"}
    return Downloader(
        f"{url}/artifacts", DownloadOptions(chunk_bytes), lambda: httpx.AsyncClient(headers=headers)
    )


def test_the_devices_downloader_goes_on_where_it_was_stopped(site: Site, path: str, tmp_path: Path) -> None:
    put(site, path)
    token = enrol(site, "till-7")["device_token"]
    with listening(site.app) as url:
        part = Part(tmp_path / "part", DIGEST, len(CONTENT))
        seen: list[int] = []

        def stop() -> bool:
            seen.append(part.done_bytes)
            return part.done_bytes >= 3 * (64 << 10)

        assert not _downloader(url, token).fetch(path, part, whole_again=False, stop=stop)
        kept = part.done_bytes
        assert 0 < kept < len(CONTENT)
        # Another process, later.
        again = Part(tmp_path / "part", DIGEST, len(CONTENT))
        assert (again.done_bytes, again.etag) == (kept, ETAG)
        assert _downloader(url, token).fetch(path, again, whole_again=False)
        assert again.path.read_bytes() == CONTENT
    sent = site.manager.metrics.registry.get_sample_value("fleet_artifact_sent_bytes_total")
    assert sent is not None and sent < 2 * len(CONTENT)


def test_a_revoked_device_downloads_nothing(site: Site, path: str, tmp_path: Path) -> None:
    put(site, path)
    token = enrol(site, "till-7")["device_token"]
    assert site.client("admin").delete("/v1/devices/till-7").status_code == 204
    with listening(site.app) as url, pytest.raises(UpdateFailedError) as caught:
        _downloader(url, token).fetch(path, Part(tmp_path / "part", DIGEST, len(CONTENT)), whole_again=False)
    assert (caught.value.code, caught.value.retryable) == (Failure.DOWNLOAD_FAILED, False)


def test_a_way_back_has_the_bytes_of_the_older_release(site: Site, path: str) -> None:
    put(site, path)
    repository = site.manager.repository
    back = repository.revert(
        "model", "people", path, repository.next_counter("model", "people"), site.now_s[0]
    )
    assert site.client("viewer").get(f"/artifacts/{back}").content == CONTENT


def test_an_object_store_behind_the_manager(tmp_path: Path) -> None:
    settings = ArtifactSettings(folder=tmp_path / "staging", url=f"file://{tmp_path / 'bucket'}")
    store = artifacts_for(settings)
    assert isinstance(store, StoreArtifacts)
    assert store.size(DIGEST) is None
    incoming = store.incoming()
    incoming.write(CONTENT)
    assert store.keep(incoming, DIGEST).size_bytes == len(CONTENT)
    with store.open(DIGEST) as stream:
        assert stream.read() == CONTENT
    assert (store.size(DIGEST), store.elsewhere(DIGEST)) == (len(CONTENT), None)
    assert not list((tmp_path / "staging").iterdir())


class SigningFiles(LocalFileSystem):
    """A folder that signs addresses, as object stores do."""

    protocol = "signing"

    def sign(self, path: str, expiration: int = 100, **_: object) -> str:
        return f"https://store.example/{Path(path).name}?good_for={expiration}"


def test_devices_are_sent_to_a_signed_address_of_the_store(site: Site, path: str, tmp_path: Path) -> None:
    fsspec.register_implementation("signing", SigningFiles, clobber=True)
    settings = ArtifactSettings.model_validate(
        {"folder": tmp_path / "staging", "url": f"signing://{tmp_path / 'bucket'}", "presign": True}
    )
    app = make_app(replace(site.manager, artifacts=artifacts_for(settings)))
    operator = TestClient(app, headers=site.headers("operator"), follow_redirects=False)
    assert operator.put(f"/v1/artifacts/{path}", content=CONTENT).status_code == 200
    assert operator.post("/v1/releases", json={"target": path}).status_code == 201
    got = operator.get(f"/artifacts/{path}")
    assert (got.status_code, got.headers["cache-control"]) == (307, "no-store")
    assert got.headers["location"] == f"https://store.example/{DIGEST}?good_for=3600"


def test_a_store_that_cannot_be_opened_or_does_not_answer_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be opened here"):
        artifacts_for(ArtifactSettings(folder=tmp_path, url="nonsense://bucket"))
    (tmp_path / "file").write_text("no folder")
    store = artifacts_for(ArtifactSettings(folder=tmp_path / "staging", url=f"file://{tmp_path / 'file'}"))
    incoming = store.incoming()
    incoming.write(CONTENT)
    with pytest.raises(StorageError, match="Check the URL"):
        store.keep(incoming, DIGEST)
    assert not list((tmp_path / "staging").iterdir())


def test_devices_are_sent_to_a_public_store(site: Site, path: str) -> None:
    put(site, path)
    public = "https://cdn.example/fleet"
    settings = ArtifactSettings.model_validate({"folder": site.folder / "artifacts", "public_url": public})
    app = make_app(replace(site.manager, artifacts=artifacts_for(settings)))
    client = TestClient(app, headers=site.headers("viewer"), follow_redirects=False)
    got = client.get(f"/artifacts/{path}")
    assert (got.status_code, got.headers["location"]) == (307, f"{public}/{DIGEST[:2]}/{DIGEST}")


def test_many_read_and_the_api_answers_meanwhile(site: Site, path: str) -> None:
    put(site, path)
    with listening(site.app) as url:
        found: list[bytes] = []
        headers = site.headers("viewer")

        def read() -> None:
            found.append(httpx.get(f"{url}/artifacts/{path}", headers=headers).content)

        threads = [threading.Thread(target=read) for _ in range(20)]
        for thread in threads:
            thread.start()
        assert httpx.get(f"{url}/v1/overview", headers=headers).status_code == 200
        for thread in threads:
            thread.join()
    assert found == [CONTENT] * 20
