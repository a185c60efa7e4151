"""Finding and reading device profiles: the shipped ones by name, anybody's by path.

Looks at no hardware (`edge_runtime.engines.machine` does) and knows no engine.
"""

from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from edge_runtime.contract.device import DeviceProfile
from edge_runtime.contract.errors import ConfigError

_SUFFIX = ".yaml"


def profile_names() -> tuple[str, ...]:
    """List the shipped profiles, sorted."""
    files = resources.files("device_profiles").iterdir()
    return tuple(sorted(file.name.removesuffix(_SUFFIX) for file in files if file.name.endswith(_SUFFIX)))


def load_profile(name_or_path: str | Path) -> DeviceProfile:
    """Read a profile.

    Args:
        name_or_path: A shipped profile's name, or the path of a YAML file, which has a suffix or a folder.

    Returns:
        The profile, validated.

    Raises:
        ConfigError: There is none of that name, or the file is missing or wrong; names the fields.
    """
    text = str(name_or_path)
    if text in profile_names():
        return _parse(resources.files("device_profiles").joinpath(text + _SUFFIX).read_text("utf-8"), text)
    path = Path(name_or_path)
    if not path.suffix and len(path.parts) == 1:
        near = get_close_matches(text, profile_names(), n=1)
        raise ConfigError(
            "device profile",
            expected=f"one of {', '.join(profile_names())}, or the path of a YAML file",
            got=repr(text),
            do=f"Did you mean '{near[0]}'?" if near else None,
        )
    try:
        content = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"device profile {path}: {error}", do="Write one with edge-runtime profile detect"
        ) from error
    return _parse(content, text)


def _parse(content: str, where: str) -> DeviceProfile:
    try:
        document: Any = YAML(typ="safe").load(content)
        return DeviceProfile.model_validate(document)
    except YAMLError as error:
        raise ConfigError(f"device profile {where} is no YAML: {error}") from error
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, each['loc'])) or 'the file'}: {each['msg']}" for each in error.errors()
        )
        raise ConfigError(f"device profile {where}: {problems}") from error
