"""Chat templates: a conversation becomes a prompt. Tokenizes nothing.

A template comes with a model, so it runs in jinja2's sandbox: it sees the messages and nothing else.
"""

from collections.abc import Sequence
from typing import Any

from edge_runtime.contract.errors import BundleError, EngineError, InputError
from edge_runtime.contract.request import Message

ROLES = ("system", "user", "assistant")


class ChatTemplate:
    """A Jinja template in the dialect of Hugging Face's chat templates."""

    def __init__(self, source: str, end_token: str) -> None:
        """Compile a template.

        Args:
            source: The template.
            end_token: What it may call `eos_token`.

        Raises:
            BundleError: It is no template.
            EngineError: The library `jinja2` is missing.
        """
        try:
            import jinja2  # noqa: PLC0415 - an extra, imported when it is asked for
            from jinja2 import sandbox  # noqa: PLC0415
        except ImportError as error:
            raise EngineError(
                f"chat templates need the library 'jinja2' ({error})",
                do="Install it: pip install 'edge-runtime[text]'",
            ) from error
        # As transformers renders templates, so that those written for it give the same prompts.
        made: Any = sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        made.globals["raise_exception"] = _refuse
        self._error: Any = jinja2.TemplateError
        self._end_token = end_token
        try:
            self._template = made.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise BundleError(
                "chat_template", expected="a Jinja template", got=f"{error.message} in line {error.lineno}"
            ) from error

    def render(self, messages: Sequence[Message]) -> str:
        """Make a prompt that an answer of the assistant follows.

        Args:
            messages: The conversation.

        Raises:
            InputError: There is no message, a role is unknown, or the template refuses the conversation.
            BundleError: The template fails.
        """
        if not messages:
            raise InputError("messages", expected="at least one", got="none")
        for message in messages:
            if message.role not in ROLES:
                raise InputError("role of a message", expected=f"one of {', '.join(ROLES)}", got=message.role)
        turns = [{"role": message.role, "content": message.content} for message in messages]
        try:
            return self._template.render(
                messages=turns, add_generation_prompt=True, eos_token=self._end_token, bos_token=""
            )
        except (self._error, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise BundleError(
                f"chat_template: {str(error)[:200].rstrip('.')}",
                do="Correct the template in the model's task",
            ) from error


def _refuse(problem: str) -> None:
    """What templates call `raise_exception`."""
    raise InputError(f"messages: {problem}", do="Send a conversation that the model's template takes")
