"""The one error tree.

    EdgeRuntimeError
    ├── ConfigError     a settings file, a flag or an environment variable is wrong
    ├── InputError      a picture, a tensor, a text or a recording is wrong
    │   ├── UnknownModelError   nothing of that name or version is served here
    │   ├── UnknownAnswerError  no answer is awaited, or came, for a request of that id
    │   └── TooLargeError       more bytes, elements or tokens than are taken
    ├── RefusedError    a policy forbids the only way to an answer
    │   └── UnauthorizedError   the caller did not say who it is, or may not
    ├── BundleError     a model file, its manifest, its labels or its digest is wrong
    ├── EngineError     an inference engine is missing, or refused or failed to run a model
    ├── ConversionError a converter refused, failed, ran out of time or memory; names the operator if it can
    ├── StorageError    a disk is full, read-only or broken
    ├── UpdateError     an update was refused, failed or was rolled back
    └── RemoteError     something across a wire failed; says whether trying again can help
        ├── CameraError     a camera refused, vanished or sent what cannot be decoded
        ├── OverloadedError no room now; says when there may be
        │   └── QuotaError      the caller's own share is used up
        └── DeadlineError   no answer in the time that the caller gave

A message names what was expected, what came and what to do. This module knows no HTTP status and no
exit code: the shells (endpoints, the command line) map the classes.
"""


class EdgeRuntimeError(Exception):
    """Base of every error this project raises on purpose.

    Args:
        problem: What is wrong, beginning with the name of the camera, field, file or model.
        expected: What would have been right.
        got: What came instead.
        do: What the reader can do about it.
    """

    def __init__(
        self,
        problem: str,
        *,
        expected: str | None = None,
        got: str | None = None,
        do: str | None = None,
    ) -> None:
        self.problem = problem
        self.expected = expected
        self.got = got
        self.do = do
        details = ", ".join(
            part
            for part in (
                f"expected {expected}" if expected else "",
                f"got {got}" if got else "",
            )
            if part
        )
        message = f"{problem}: {details}" if details else problem
        super().__init__(f"{message}. {do}" if do else message)


class ConfigError(EdgeRuntimeError):
    """A settings file, a flag or an environment variable is wrong."""


class InputError(EdgeRuntimeError):
    """A picture, a tensor, a text or a recording is not what the model or the pipeline takes."""


class UnknownModelError(InputError):
    """Nothing of that name or version is served here."""


class UnknownAnswerError(InputError):
    """No answer is awaited, or came later, for a request of that id."""


class TooLargeError(InputError):
    """A request has more bytes, elements or tokens than are taken."""


class RefusedError(EdgeRuntimeError):
    """A policy forbids the only way to an answer: data that may not leave, a cloud that may not be asked."""


class UnauthorizedError(RefusedError):
    """The caller did not say who it is, or is not known."""


class BundleError(EdgeRuntimeError):
    """A model file, its manifest, its labels or its digest is wrong."""


class EngineError(EdgeRuntimeError):
    """An inference engine is missing, or refused or failed to run a model."""


class ConversionError(EdgeRuntimeError):
    """A step of a conversion refused or failed.

    Args:
        problem: As for `EdgeRuntimeError`.
        step: Id of the step; None before there are steps.
        operator: The operator that a target does not have, as the tool names it.
        layer: The node or module where it is.
        expected: As for `EdgeRuntimeError`.
        got: As for `EdgeRuntimeError`.
        do: The nearest remedy.
    """

    def __init__(
        self,
        problem: str,
        *,
        step: str | None = None,
        operator: str | None = None,
        layer: str | None = None,
        expected: str | None = None,
        got: str | None = None,
        do: str | None = None,
    ) -> None:
        super().__init__(problem, expected=expected, got=got, do=do)
        self.step = step
        self.operator = operator
        self.layer = layer


class StorageError(EdgeRuntimeError):
    """A disk is full, read-only or broken."""


class UpdateError(EdgeRuntimeError):
    """An update was refused, failed or was rolled back."""


class RemoteError(EdgeRuntimeError):
    """Something across a wire failed.

    Args:
        problem: As for `EdgeRuntimeError`.
        retryable: Whether the same call can succeed later without anyone changing anything.
        expected: As for `EdgeRuntimeError`.
        got: As for `EdgeRuntimeError`.
        do: As for `EdgeRuntimeError`; for a retryable error, why a retry can help.
    """

    def __init__(
        self,
        problem: str,
        *,
        retryable: bool,
        expected: str | None = None,
        got: str | None = None,
        do: str | None = None,
    ) -> None:
        super().__init__(problem, expected=expected, got=got, do=do)
        self.retryable = retryable


class CameraError(RemoteError):
    """A camera refused, vanished or sent what cannot be decoded."""


class OverloadedError(RemoteError):
    """There is no room for this request now.

    Args:
        problem: As for `EdgeRuntimeError`.
        retry_after_s: When there may be, in seconds from now.
        got: As for `EdgeRuntimeError`.
    """

    def __init__(self, problem: str, *, retry_after_s: float, got: str | None = None) -> None:
        super().__init__(problem, retryable=True, got=got, do=f"Try again in {retry_after_s:.3g} s")
        self.retry_after_s = retry_after_s


class QuotaError(OverloadedError):
    """The caller has used up what it may ask for now."""


class DeadlineError(RemoteError):
    """There is no answer in the time that the caller gave.

    Args:
        problem: As for `EdgeRuntimeError`.
        got: As for `EdgeRuntimeError`.
        do: The nearest remedy; the default is for who waits for a model.
    """

    def __init__(
        self, problem: str, *, got: str | None = None, do: str = "Give it more time, or a smaller model"
    ) -> None:
        super().__init__(problem, retryable=False, got=got, do=do)
