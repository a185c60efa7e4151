"""What the manager refuses beyond the one error tree's classes: what is not there, what is there already.

Knows no HTTP status; the API maps the classes.
"""

from edge_runtime.contract.errors import InputError, RefusedError


class NotThereError(InputError):
    """The fleet has no such device, release, deployment or token.

    Args:
        problem: As for `EdgeRuntimeError`.
        code: What a program can tell it by.
        expected: As for `EdgeRuntimeError`.
        got: As for `EdgeRuntimeError`.
        do: As for `EdgeRuntimeError`.
    """

    def __init__(
        self,
        problem: str,
        *,
        code: str = "not-there",
        expected: str | None = None,
        got: str | None = None,
        do: str | None = None,
    ) -> None:
        super().__init__(problem, expected=expected, got=got, do=do)
        self.code = code


class ConflictError(RefusedError):
    """It contradicts what is there already.

    Args:
        problem: As for `EdgeRuntimeError`.
        code: What a program can tell it by.
        expected: As for `EdgeRuntimeError`.
        got: As for `EdgeRuntimeError`.
        do: As for `EdgeRuntimeError`.
    """

    def __init__(
        self,
        problem: str,
        *,
        code: str = "conflict",
        expected: str | None = None,
        got: str | None = None,
        do: str | None = None,
    ) -> None:
        super().__init__(problem, expected=expected, got=got, do=do)
        self.code = code
