"""The JSON schema of a device profile, for editors. `python -m device_profiles.schema` writes it anew."""

import json
from pathlib import Path

from edge_runtime.contract.device import DeviceProfile

FILE = Path(__file__).with_name("schema.json")


def schema_text() -> str:
    """Give the schema as it stands in `schema.json`."""
    return json.dumps(DeviceProfile.model_json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(schema_text(), encoding="utf-8")
