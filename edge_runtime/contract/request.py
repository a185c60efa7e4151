"""A request: what somebody asks a model, with all that the way to an answer depends on.

Names no route and holds no connection; `edge_runtime.routing` finds the way.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from edge_runtime.contract.frame import Picture
from edge_runtime.contract.route import DataClass
from edge_runtime.contract.tensors import Tensors


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    Args:
        role: `system`, `user` or `assistant`.
        content: What was said.
    """

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a text is generated; None: as the model's task declares.

    Args:
        max_tokens: Tokens of the answer at most.
        temperature: 0: always the likeliest token.
        top_p: Only the likeliest tokens whose probabilities reach this sum.
        seed: The same seed gives the same answer on the same device; None: a new one each time.
        stop: The answer ends before the first of these.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a text is generated from.

    Args:
        text: A prompt as it is; None where there are messages.
        messages: A conversation, which the model's chat template turns into a prompt.
        sampling: How.
    """

    text: str | None = None
    messages: tuple[Message, ...] = ()
    sampling: Sampling = Sampling()


Value: TypeAlias = Picture | str | Prompt | Tensors
"""What a model is asked: a picture, a text, a prompt, or the model's own tensors."""


@dataclass(frozen=True, slots=True)
class Request:
    """One question to one model.

    Args:
        id: Unique; the cloud answers the same id once, however often it comes.
        model: The name the settings (or the cloud's repository) give it.
        value: What is asked.
        version: Only this version; None: the one that is served.
        data: What its caller says it holds; empty: nothing said, so it counts as all that it may.
        timeout_s: Time from now that an answer is worth anything; None: the policy's.
        parameters: Handed on to the model's server unread.
        trace: `traceparent` of the caller (W3C Trace Context); empty: none.
    """

    id: str
    model: str
    value: Value
    version: str | None = None
    data: frozenset[DataClass] = frozenset()
    timeout_s: float | None = None
    parameters: Mapping[str, str | int | float | bool] = field(
        default_factory=dict[str, str | int | float | bool]
    )
    trace: str = ""
