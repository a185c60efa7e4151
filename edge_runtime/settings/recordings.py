"""What `store.yaml` says of clips and snapshots of events. Opens nothing."""

from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, Field, model_validator

from edge_runtime.contract.event import Event
from edge_runtime.settings.base import OwnPath, Seconds, Settings, refuse
from edge_runtime.settings.privacy import OwnBlur

EVENT_KINDS: tuple[str, ...] = tuple(
    kind.model_fields["type"].default for kind in get_args(get_args(Event)[0])
)


def _kind(kind: str) -> str:
    if kind not in EVENT_KINDS:
        raise refuse(
            f"no event is a '{kind}'", f"one of {', '.join(EVENT_KINDS)}", "Look at the events page."
        )
    return kind


Kinds = Annotated[tuple[Annotated[str, AfterValidator(_kind)], ...], Field(min_length=1)]
Days = Annotated[float, Field(gt=0)]


class _Recordings(Settings):
    folder: OwnPath = Field(description="a folder a day is made in it, and deleted when it is empty")
    events: Kinds = Field(
        default=("zone_dwell", "line_crossed"), description="the kinds of events that are recorded"
    )
    cameras: tuple[str, ...] = Field(default=(), description="only these cameras; empty: all")
    blur: OwnBlur = None
    keep_bytes: int = Field(
        default=4 * 2**30, ge=2**20, description="the oldest recordings go when all are larger than this"
    )
    keep_days: Days | None = Field(
        default=30.0, description="recordings that are older go, too; null: age does not matter"
    )
    reserve_bytes: int = Field(
        default=512 * 2**20, ge=0, description="with less than this free on the disk nothing is recorded"
    )


class ClipsSinkSettings(_Recordings):
    """The moment before and after an event as an MP4 file, of the packets that the camera sent."""

    type: Literal["clips"]
    pre_s: Annotated[float, Field(ge=0, le=60)] = Field(default=5.0, description="seconds before the event")
    post_s: Annotated[float, Field(ge=0, le=300)] = Field(default=5.0, description="seconds after it")
    longest_s: Seconds = Field(
        default=60.0,
        description="events that come while a clip goes on make it longer, up to this many seconds",
    )

    @model_validator(mode="after")
    def _room_for_one(self) -> Self:
        if self.longest_s < self.pre_s + self.post_s:
            raise refuse(
                f"`longest_s` is {self.longest_s:g}, and one clip takes {self.pre_s + self.post_s:g} s",
                "at least `pre_s` and `post_s` together",
                "Raise it.",
            )
        return self


class SnapshotsSinkSettings(_Recordings):
    """A JPEG of the moment of an event."""

    type: Literal["snapshots"]
    height: int = Field(default=480, ge=64, le=4320, multiple_of=2, description="pixels at most")
    drawn: bool = Field(default=True, description="draw boxes, zones, lines and counts into it")
