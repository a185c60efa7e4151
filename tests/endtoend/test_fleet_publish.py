"""From `fleet keys` and `fleet publish` over the real API to what a device's own code believes."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from edge_runtime.contract.fleet import Wanted
from edge_runtime.update.download import Downloader
from edge_runtime.update.metadata import TufMetadata
from edge_runtime.update.store import Part
from tests.simulators.fleet_api import enrol, listening, site_in


def fleet(*arguments: str, cwd: Path) -> Any:
    command = [sys.executable, "-m", "edge_runtime", "fleet", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_two_versions_with_a_patch_between_them(tmp_path: Path) -> None:
    with site_in(tmp_path / "fleet") as site, listening(site.app) as url:
        keys = site.folder / "keys"
        access = ("--manager", url, "--token", site.tokens["operator"])
        fleet("keys", "new", "family.pem", cwd=keys)
        fleet("keys", "pull", "targets", "new.json", *access, cwd=keys)
        to = ("--to", "family.pub", "--key", "targets.pem")
        fleet("keys", "delegate", "new.json", "labels/people", *to, cwd=keys)
        fleet("keys", "push", "new.json", *access, cwd=keys)

        labels = keys / "people.txt"
        words = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(2000)]
        done: list[Any] = []
        for version in ("1.0.0", "1.1.0"):
            labels.write_text("\n".join([version, *words]) + "\n")
            named = ("--name", "people", "--version", version, "--key", "family.pem")
            done.append(fleet("publish", "people.txt", *named, "--work", "work", *access, cwd=keys))
        released = site.client("viewer").get("/v1/releases").json()["releases"]
        assert [each["version"] for each in released] == ["1.1.0", "1.0.0"]
        (patch,) = released[0]["deltas"]
        assert patch["base_sha256"] == released[1]["sha256"]
        assert patch["size_bytes"] < released[0]["size_bytes"] / 10

        kept = enrol(site, "till-7")
        folder = tmp_path / "tuf"
        folder.mkdir()
        (folder / "root.json").write_text(kept["tuf_root"])
        fields = ("kind", "name", "version", "counter", "target", "size_bytes", "sha256", "deltas")
        wanted = Wanted.model_validate({"deployment": "spring", **{key: released[0][key] for key in fields}})
        trusted = TufMetadata(folder, f"{url}/tuf").look_up(wanted, site.now_s[0])
        assert (trusted.sha256, trusted.counter, trusted.tenant) == (wanted.sha256, wanted.counter, "acme")
        headers = {"authorization": f"Bearer {kept['device_token']}"}
        downloader = Downloader(f"{url}/artifacts", client=lambda: httpx.AsyncClient(headers=headers))
        for target, sha256, size_bytes in (
            (wanted.target, wanted.sha256, wanted.size_bytes),
            (patch["target"], patch["sha256"], patch["size_bytes"]),
        ):
            part = Part(tmp_path / sha256[:8], sha256, size_bytes)
            assert downloader.fetch(target, part, whole_again=False)
            assert hashlib.sha256(part.path.read_bytes()).hexdigest() == sha256
