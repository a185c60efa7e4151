"""What the manager refuses beyond the one error tree's classes: what is not there, what is there already.

Knows no HTTP status; the API maps the classes.
"""

from edge_runtime.contract.enrolment import REVOKED
from edge_runtime.contract.errors import InputError, RefusedError, UnauthorizedError


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


class RevokedError(UnauthorizedError):
    """A device asks that was taken out of the fleet.

    Args:
        device: Its name.
    """

    code = REVOKED

    def __init__(self, device: str) -> None:
        super().__init__(
            f"device {device}: it was revoked",
            expected="a device of this fleet",
            got="one that was taken out of it",
            do="Enrol it again if that was a mistake: edge-runtime enrol",
        )
