"""What `store.yaml` says of people in pictures. Opens nothing."""

from typing import Annotated

from pydantic import Field

from edge_runtime.analytics.veil import Blur
from edge_runtime.contract.bundle import Name
from edge_runtime.settings.base import Labels, Settings

OwnBlur = Annotated[
    Blur | None,
    Field(description="what is blurred in these pictures; absent: as `privacy.blur` says"),
]


class PrivacySettings(Settings):
    """What is made unrecognizable in every picture that is stored, shown or sent."""

    blur: Blur = Field(
        default=Blur.NOTHING,
        description="nothing; heads: the upper part of every person; persons; faces: what the model in"
        " `faces` finds. A sink may say otherwise for itself",
    )
    labels: Annotated[Labels, Field(min_length=1)] = Field(
        default=("person",), description="the classes of the cameras' models that are people"
    )
    faces: Name | None = Field(
        default=None, description="one of `models`, a detector of faces, for `blur: faces`"
    )
