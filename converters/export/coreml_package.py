"""Core ML packages with the same bytes each time they are made. Converts nothing."""

import json
import uuid
from pathlib import Path
from typing import Any

_SPEC = Path("Data", "com.apple.CoreML", "model.mlmodel")
_MANIFEST = "Manifest.json"
_DATE = "com.github.apple.coremltools.conversion_date"
_DEBUG = "executorch_debug_handle_mapping.json"


def make_reproducible(package: Path) -> None:
    """Take out of a package what differs from run to run: the date, random identifiers, the order of maps.

    Args:
        package: An `.mlpackage` that coremltools saved; changed in place.
    """
    import coremltools

    vendor: Any = coremltools
    spec = vendor.proto.Model_pb2.Model()
    file = package / _SPEC
    spec.ParseFromString(file.read_bytes())
    spec.description.metadata.userDefined.pop(_DATE, None)
    file.write_bytes(spec.SerializeToString(deterministic=True))
    (package / _DEBUG).unlink(missing_ok=True)  # maps ExecuTorch's operators, of which there are none
    manifest = package / _MANIFEST
    told: dict[str, Any] = json.loads(manifest.read_text())
    # Identifiers only tell the items of one package apart.
    names = {
        old: str(uuid.uuid5(uuid.NAMESPACE_URL, item["path"]))
        for old, item in told["itemInfoEntries"].items()
    }
    told["itemInfoEntries"] = {names[old]: item for old, item in told["itemInfoEntries"].items()}
    told["rootModelIdentifier"] = names[told["rootModelIdentifier"]]
    manifest.write_text(json.dumps(told, indent=4, sort_keys=True) + "\n")
