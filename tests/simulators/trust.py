"""A fleet's trust in small: all keys, a repository, releases, and a server that lies."""

import hashlib
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, TargetFile, Targets

from cloud_fallback.fleet.trust.ceremony import delegate, make_first
from cloud_fallback.fleet.trust.keys import load_signer
from cloud_fallback.fleet.trust.repository import Repository
from cloud_fallback.fleet.trust.roles import at, next_version, seal
from cloud_fallback.fleet.trust.store import MemoryStore
from edge_runtime.contract.fleet import Wanted
from edge_runtime.contract.trust import Patch, patch_path, release_path
from edge_runtime.update.metadata import TufMetadata
from edge_runtime.update.metadata_link import Deadlines
from tests.simulators.range_server import Files, serving

NOW_S = 1_800_000_000.0
DAY_S = 86_400.0


class Served(dict[str, bytes]):
    """What devices get: what was put here, else what the repository has."""

    def __init__(self, read: Callable[[str], bytes | None]) -> None:
        super().__init__()
        self.read = read
        self.missing: set[str] = set()

    def get(self, path: str, default: object = None) -> bytes | None:
        file = path.removeprefix("tuf/")
        if file in self.missing:
            return None
        return self[file] if file in self else self.read(file)


class Fleet:
    """One tenant with the family `labels/detector`; a release's content is its version."""

    def __init__(self, folder: Path, *, tenant: str = "acme", root_keys: int = 1, threshold: int = 1) -> None:
        self.now_s = NOW_S
        self.first = make_first(folder / "keys", tenant, NOW_S, root_keys=root_keys, threshold=threshold)
        self.tenant = tenant
        self.root_keys = [load_signer(path) for path in self.first.root_keys]
        self.targets_key = load_signer(self.first.targets_key)
        self.online = load_signer(self.first.online)
        self.store = MemoryStore()
        self.repository = Repository(self.store, [self.online])
        self.repository.begin(self.first.root, self.first.targets, NOW_S)
        self.family = CryptoSigner.generate_ed25519()
        self.delegate([self.family])

    def role(self) -> Targets:
        """Give the family's role as it is signed now; a new one where there is none."""
        data = self.repository.current("labels.detector")
        return Targets(version=1) if data is None else Metadata[Targets].from_bytes(data).signed

    def delegate(self, keys: list[CryptoSigner], threshold: int = 1) -> None:
        before = self.repository.current("targets") or b""
        public = [key.public_key for key in keys]
        new = delegate(before, "labels", "detector", public, self.now_s, threshold=threshold)
        self.repository.accept("targets", seal(new, [self.targets_key]), self.now_s)

    def signed(self, role: Targets, *keys: CryptoSigner) -> bytes:
        """Sign the family's role anew."""
        role.version = next_version(role.version, self.now_s)
        role.expires = at(self.now_s + 365 * DAY_S)
        return seal(Metadata(role), keys or (self.family,))

    def release(self, counter: int, *, patch_from: str | None = None, **other: object) -> str:
        """Publish a release and give its path."""
        role = self.role()
        path = add_release(role, counter, tenant=self.tenant, patch_from=patch_from, **other)
        self.repository.accept("labels.detector", self.signed(role), self.now_s)
        return path

    def wanted(self, path: str, counter: int, content: bytes | None = None, **other: object) -> Wanted:
        content = content if content is not None else body(counter)
        return Wanted.model_validate(
            {
                "kind": "labels", "name": "detector", "version": f"{counter}.0", "counter": counter,
                "deployment": "dep-1", "target": path, "size_bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(), **other,
            }
        )  # fmt: skip


def body(counter: int) -> bytes:
    return f"labels of release {counter}\n".encode()


def target_file(path: str, content: bytes, custom: Mapping[str, object]) -> TargetFile:
    hashes = {"sha256": hashlib.sha256(content).hexdigest()}
    return TargetFile(len(content), hashes, path, {"custom": dict(custom)})


def add_release(
    role: Targets, counter: int, *, tenant: str = "acme", patch_from: str | None = None, **other: object
) -> str:
    path = release_path("labels", "detector", counter, f"{counter}.0")
    patches: list[str] = []
    if patch_from is not None:
        patch = target_file(patch_path(path, patch_from), b"patch", Patch(base=patch_from).model_dump())
        role.targets[patch.path] = patch
        patches.append(patch.hashes["sha256"])
    custom = {
        "counter": counter, "tenant": tenant, "profiles": ["store-pc"], "unpacked_bytes": 4096,
        "memory_bytes": 0, "version": f"{counter}.0", "patches": patches, **other,
    }  # fmt: skip
    role.targets[path] = target_file(path, body(counter), custom)
    return path


@contextmanager
def devices(fleet: Fleet, folder: Path) -> Generator["Device"]:
    """Serve a fleet's metadata, and give a device that trusts its first root."""
    files = Files(content=Served(fleet.repository.read))
    with serving(files):
        (folder / "tuf").mkdir(parents=True, exist_ok=True)
        (folder / "tuf" / "root.json").write_bytes(fleet.first.root)
        yield Device(folder / "tuf", files)


class Device:
    """A device's view of metadata, and what the server does to it."""

    def __init__(self, folder: Path, files: Files) -> None:
        self.folder = folder
        self.files = files
        self.deadlines = Deadlines(total_s=60, stall_s=60)

    @property
    def served(self) -> Served:
        content = self.files.content
        assert isinstance(content, Served)
        return content

    @property
    def metadata(self) -> TufMetadata:
        return TufMetadata(self.folder, f"{self.files.url}/tuf", deadlines=self.deadlines)
