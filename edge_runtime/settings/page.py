"""What `store.yaml` says of the local page. Opens nothing."""

from typing import Annotated, Self

from pydantic import Field, SecretStr, model_validator

from edge_runtime.contract.address import is_loopback
from edge_runtime.settings.base import Settings, refuse
from edge_runtime.settings.privacy import OwnBlur


class PageSettings(Settings):
    """The page that shows the store in a browser."""

    host: Annotated[str, Field(min_length=1)] = Field(
        default="127.0.0.1", description="address to listen on; 0.0.0.0: all, which takes a `password`"
    )
    port: int = Field(default=8080, ge=0, le=65535, description="0: any that is free")
    password: Annotated[SecretStr, Field(min_length=8)] | None = Field(
        default=None, description='keep it in the environment: "${PAGE_PASSWORD}"; absent: this machine only'
    )
    secure: bool = Field(
        default=False, description="true: cookies go over HTTPS only, for a page behind a TLS proxy"
    )
    height: int = Field(
        default=480, ge=120, le=2160, multiple_of=2, description="of the live pictures, pixels"
    )
    fps: Annotated[float, Field(gt=0, le=30)] = Field(
        default=5.0, description="pictures of a camera that are shown a second, at most"
    )
    keep_mb: int = Field(default=200, ge=1, description="events and their pictures take this much at most")
    keep_days: Annotated[float, Field(gt=0)] = Field(default=30.0, description="older events go")
    blur: OwnBlur = None

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if self.password is None and not is_loopback(self.host):
            raise refuse(
                f"others can reach {self.host}, and there is no password",
                "a `password`",
                "Set it, or listen on 127.0.0.1.",
            )
        return self
