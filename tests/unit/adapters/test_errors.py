from __future__ import annotations

import pytest

from longtask_operator.adapters import errors
from longtask_operator.adapters.errors import ApiError, Unavailable, error_of


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        (404, "NotFound", errors.NotFound),
        (409, "AlreadyExists", errors.AlreadyExists),
        (409, "Conflict", errors.Conflict),
        (409, "", errors.Conflict),
        (410, "Expired", errors.Gone),
        (403, "Forbidden", errors.Forbidden),
        (422, "Invalid", errors.Invalid),
        (400, "BadRequest", errors.Invalid),
        (413, "RequestEntityTooLarge", errors.Invalid),
        (429, "TooManyRequests", Unavailable),
        (401, "Unauthorized", Unavailable),
        (500, "InternalError", Unavailable),
        (503, "", Unavailable),
        (418, "", ApiError),
    ],
)
def test_an_answer_becomes_an_error_of_ours(status: int, reason: str, expected: type[ApiError]) -> None:
    error = error_of(status, {"reason": reason, "message": "m"})
    assert isinstance(error, expected)
    assert (error.status, error.message) == (status, "m")


def test_a_webhook_that_does_not_answer_is_told_from_an_outage() -> None:
    message = 'Internal error occurred: failed calling webhook "x.example.com": connection refused'
    assert isinstance(error_of(500, {"reason": "InternalError", "message": message}), errors.WebhookFailed)
    assert not isinstance(error_of(500, {"reason": "InternalError", "message": "etcd"}), errors.WebhookFailed)


@pytest.mark.parametrize(("header", "seconds"), [(None, 1.0), ("7", 7.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 1.0)])
def test_when_to_try_again(header: str | None, seconds: float) -> None:
    error = error_of(429, {}, header)
    assert isinstance(error, Unavailable)
    assert error.retry_after == seconds
