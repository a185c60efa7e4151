"""The file of API keys: digests, names and quotas; the keys themselves are shown once and kept nowhere.

Grants and counts nothing; `quota` does.
"""

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from cloud_fallback.serving.quota import ApiKey, Quotas, digest_of
from edge_runtime.atomic import new_file
from edge_runtime.contract.bundle import Name, Sha256
from edge_runtime.contract.errors import ConfigError
from edge_runtime.contract.task import Declared

Rate = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]

_PREFIX = "edge_"
"""What a key begins with, so that a scanner of source code finds one that was committed."""


class KeyEntry(Declared):
    """One key of the file."""

    name: Name
    sha256: Sha256
    requests_per_minute: Rate | None = None
    rows_per_minute: Rate | None = None
    control: bool = Field(default=False, description="may change traffic, keys and what is loaded")


class KeyFile(Declared):
    """`keys.json`."""

    schema_version: Literal[1] = 1
    keys: tuple[KeyEntry, ...] = ()


class KeyRing:
    """The keys that are accepted, and their file.

    Args:
        path: The file; None: keys of this process alone.

    Attributes:
        quotas: Of all keys.

    Raises:
        ConfigError: The file cannot be read or is wrong.
    """

    def __init__(self, path: Path | None, *, must_exist: bool = True) -> None:
        self._path = path
        missing_is_empty = path is None or (not must_exist and not path.exists())
        entries: Sequence[KeyEntry] = () if missing_is_empty or path is None else _read(path).keys
        self.quotas = Quotas(ApiKey(**entry.model_dump()) for entry in entries)

    def create(
        self,
        name: str,
        *,
        requests_per_minute: float | None = None,
        rows_per_minute: float | None = None,
        control: bool = False,
    ) -> str:
        """Make a key and write the file. A name may have several keys, so that one can replace another.

        Args:
            name: Who it is for.
            requests_per_minute: None: as many as come.
            rows_per_minute: None: as many as come.
            control: Whether it may change traffic, keys and what is loaded.

        Returns:
            The key. It can not be shown again.

        Raises:
            StorageError: The file cannot be written.
        """
        secret = _PREFIX + secrets.token_urlsafe(32)
        key = ApiKey(name, digest_of(secret), requests_per_minute, rows_per_minute, control)
        self._write((*self.quotas.all(), key))
        self.quotas.add(key)
        return secret

    def revoke(self, name: str) -> int:
        """Take every key of a name away and write the file.

        Returns:
            How many there were.

        Raises:
            StorageError: The file cannot be written.
        """
        left = [key for key in self.quotas.all() if key.name != name]
        if len(left) < len(self.quotas.all()):
            self._write(left)
        return self.quotas.remove(name)

    def _write(self, keys: Sequence[ApiKey]) -> None:
        if self._path is None:
            return
        entries = [
            KeyEntry(
                name=key.name,
                sha256=key.sha256,
                requests_per_minute=key.requests_per_minute,
                rows_per_minute=key.rows_per_minute,
                control=key.control,
            )
            for key in keys
        ]
        content = KeyFile(keys=tuple(entries)).model_dump_json(indent=2, exclude_none=True)
        with new_file(self._path) as file:
            file.write(content.encode() + b"\n")


def _read(path: Path) -> KeyFile:
    try:
        return KeyFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"keys {path}: cannot be read: {error.strerror}",
            do=f"Make a key: edge-runtime serve --keys {path} --new-key NAME",
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"keys {path}: {place or 'the file'}: {first['msg']}") from error
