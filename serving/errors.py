"""Errors of the API: one form for all, `{"error": {"code", "message"}}`, and no traceback."""

import msgspec


class ApiError(Exception):
    """An answer that is no success.

    Args:
        status: of HTTP.
        code: for programs, such as `not_found`.
        message: for people, one line; names no path of this machine.
        retry_after_seconds: after which the same request may succeed; None to say nothing.
    """

    def __init__(
        self, status: int, code: str, message: str, *, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after_seconds = retry_after_seconds

    @property
    def body(self) -> bytes:
        return error_body(self.code, self.message)

    @property
    def headers(self) -> dict[str, str]:
        if self.retry_after_seconds is None:
            return {}
        return {"Retry-After": str(max(1, round(self.retry_after_seconds)))}


def error_body(code: str, message: str) -> bytes:
    return msgspec.json.encode({"error": {"code": code, "message": message}})
