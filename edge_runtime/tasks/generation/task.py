"""GenerationTask: a prompt to tokens with all that its answer must keep to. Runs no model, throws no dice."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.contract.errors import BundleError, InputError, TooLargeError
from edge_runtime.contract.request import Prompt, Sampling
from edge_runtime.contract.task import GenerationSpec
from edge_runtime.tasks.generation.template import ChatTemplate
from edge_runtime.tasks.tokenizer import load_tokenizer, require_text


@dataclass(frozen=True, slots=True)
class Plan:
    """A prompt in tokens, and how its answer is made.

    Args:
        prompt: Token ids; at least one.
        max_tokens: Of the answer: what was asked for, or less where the context ends before.
        temperature: 0: always the likeliest token.
        top_p: Only the likeliest tokens whose probabilities reach this sum.
        seed: For the dice; None: any.
        stop: The answer ends before the first of these.
    """

    prompt: tuple[int, ...]
    max_tokens: int
    temperature: float
    top_p: float
    seed: int | None
    stop: tuple[str, ...]


class GenerationTask:
    """A generator of text, by declaration. Safe to share between threads.

    Attributes:
        ends: Tokens that end an answer.
        prompt_at_once: Tokens of a prompt that are read together.
    """

    def __init__(self, spec: GenerationSpec, tokenizer: Path) -> None:
        """Bind the declaration to a tokenizer.

        Args:
            spec: The declaration.
            tokenizer: The bundle's `tokenizer.json`.

        Raises:
            BundleError: The tokenizer does not know a token that ends answers, or the template is none.
            EngineError: The library `tokenizers` or `jinja2` is missing.
        """
        self._spec = spec
        self.prompt_at_once = spec.prompt_at_once
        self._tokenizer = load_tokenizer(tokenizer)
        self._tokenizer.no_padding()
        ends = {token: self._tokenizer.token_to_id(token) for token in spec.end_tokens}
        unknown = [token for token, known in ends.items() if known is None]
        if unknown:
            raise BundleError(
                "end_tokens",
                expected="tokens that the tokenizer knows",
                got=", ".join(unknown),
                do="Write them as they are in tokenizer.json",
            )
        self.ends = frozenset(int(known) for known in ends.values())
        source = spec.chat_template
        self._template = None if source is None else ChatTemplate(source, spec.end_tokens[0])
        # A template writes the special tokens itself. Only for the first one of all, which no declaration
        # names, it is the tokenizer's own that counts.
        self._template_needs_special = source is not None and "bos_token" in source

    def plan(self, prompt: Prompt) -> Plan:
        """Make tokens of a prompt and settle how it is answered.

        Args:
            prompt: A text, or a conversation for a model with a chat template.

        Raises:
            InputError: It is neither or both, empty, or asks for sampling that does not exist.
            TooLargeError: It leaves no room for an answer in the model's context.
            BundleError: The chat template fails.
        """
        tokens = self._tokens(prompt)
        room = self._spec.context_length - len(tokens)
        if room < 1:
            raise TooLargeError(
                "prompt",
                expected=f"at most {self._spec.context_length - 1} tokens",
                got=f"{len(tokens)} tokens",
                do="Shorten it, or use a model with a longer context",
            )
        asked, spec = prompt.sampling, self._spec
        _check(asked)
        return Plan(
            prompt=tokens,
            max_tokens=min(room, spec.max_tokens if asked.max_tokens is None else asked.max_tokens),
            temperature=spec.temperature if asked.temperature is None else asked.temperature,
            top_p=spec.top_p if asked.top_p is None else asked.top_p,
            seed=asked.seed,
            stop=asked.stop,
        )

    def decode(self, tokens: Sequence[int]) -> str:
        """Write tokens as text, special ones left out."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))

    def _tokens(self, prompt: Prompt) -> tuple[int, ...]:
        if (prompt.text is None) == (not prompt.messages):
            raise InputError(
                "prompt",
                expected="a text or messages",
                got="neither" if prompt.text is None else "both",
            )
        special = True
        if prompt.text is not None:
            text = require_text(prompt.text)
        elif self._template is None:
            raise InputError(
                "messages",
                expected="a prompt, for this model has no chat template",
                got=f"{len(prompt.messages)} messages",
                do="Send the prompt as one text",
            )
        else:
            text = require_text(self._template.render(prompt.messages))
            special = self._template_needs_special
        ids = self._tokenizer.encode(text, add_special_tokens=special).ids
        if not ids:
            raise InputError("prompt", expected="at least one token", got=repr(text[:40]))
        return tuple(ids)


def _check(asked: Sampling) -> None:
    """Refuse what no answer can be made with."""
    if asked.max_tokens is not None and asked.max_tokens < 1:
        raise InputError("max_tokens", expected="at least 1", got=str(asked.max_tokens))
    if asked.temperature is not None and not (0 <= asked.temperature <= 2):
        raise InputError("temperature", expected="between 0 and 2", got=f"{asked.temperature:g}")
    if asked.top_p is not None and not (0 < asked.top_p <= 1):
        raise InputError("top_p", expected="above 0, at most 1", got=f"{asked.top_p:g}")
    if asked.seed is not None and asked.seed < 0:
        raise InputError("seed", expected="0 or more", got=str(asked.seed))
    if not all(asked.stop):
        raise InputError("stop", expected="texts of at least one character", got="an empty one")
