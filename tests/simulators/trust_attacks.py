"""What attacks on metadata have in common: a device that refuses or believes, and forged signatures."""

import pytest
from tuf.api.metadata import Metadata, Snapshot, Timestamp

from cloud_fallback.fleet.trust.roles import at, listed, seal
from edge_runtime.contract.update import UpdateFailedError
from edge_runtime.update.record import Trusted
from tests.simulators.trust import DAY_S, Device, Fleet

FAMILY = "labels.detector"


def refused(
    device: Device, fleet: Fleet, path: str, counter: int = 1, at_s: float | None = None
) -> UpdateFailedError:
    with pytest.raises(UpdateFailedError) as caught:
        device.metadata.look_up(fleet.wanted(path, counter), fleet.now_s if at_s is None else at_s)
    return caught.value


def believed(device: Device, fleet: Fleet, path: str, counter: int = 1) -> Trusted:
    return device.metadata.look_up(fleet.wanted(path, counter), fleet.now_s)


def resign(fleet: Fleet, device: Device, snapshot: Snapshot, **fields: object) -> None:
    """Serve a snapshot and a timestamp over it as whoever has the online key could sign them."""
    content = seal(Metadata(snapshot), [fleet.online])
    timestamp = Timestamp(
        version=int(fleet.now_s) + 1000,
        expires=at(fleet.now_s + DAY_S),
        snapshot_meta=listed(content, snapshot.version),
    )
    for name, value in fields.items():
        setattr(timestamp, name, value)
    device.served[f"{timestamp.snapshot_meta.version}.snapshot.json"] = content
    device.served["timestamp.json"] = seal(Metadata(timestamp), [fleet.online])


def snapshot_of(fleet: Fleet) -> Snapshot:
    return Metadata[Snapshot].from_bytes(fleet.repository.current("snapshot") or b"").signed
