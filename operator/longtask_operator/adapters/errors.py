"""The world's faults, in our words. Nobody above the adapters sees the HTTP library's errors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


class ApiError(Exception):
    """The API server refused a request. *status* is the HTTP code, *reason* the word of its Status object."""

    def __init__(self, status: int, reason: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.details = details or {}


class NotFound(ApiError):  # noqa: N818 - named as the API server names it
    """404: no such object, or no such kind."""


class KindMissing(NotFound):
    """404 without an object's name: the kind is not served, now. It says nothing about any object."""


class AlreadyExists(ApiError):  # noqa: N818
    """409 on create: an object of that name is there."""


class Conflict(ApiError):  # noqa: N818
    """409 on a write: the object is not the one that was read."""


class Gone(ApiError):  # noqa: N818
    """410: the resourceVersion or continue token is too old; list again."""


class Forbidden(ApiError):  # noqa: N818
    """403: no permission, or refused by quota, policy or Pod Security; *message* says which."""


class NoPermission(Forbidden):
    """403 by RBAC: what we may do is not enough; nothing is wrong with the object."""


class Invalid(ApiError):  # noqa: N818
    """422 or 400: the object is refused as it is; the same request will be refused again."""


class Unavailable(ApiError):  # noqa: N818
    """429, 5xx, time-outs, lost connections: try again after *retry_after* s. The request may have been executed."""

    def __init__(self, status: int, reason: str, message: str, retry_after: float = 1.0) -> None:
        super().__init__(status, reason, message)
        self.retry_after = retry_after


class WebhookFailed(Unavailable):
    """500: an admission webhook did not answer and its policy is to refuse. Nothing was written."""


#: How the API server says that it could not ask a webhook; it asks before it stores anything.
_WEBHOOK_FAILURE = "failed calling webhook"
#: How the API server says that RBAC is why; admission (quota, policy, Pod Security) never says it.
_RBAC_REFUSAL = re.compile(r"User \".*\" cannot [a-z]+ resource ")

_BY_STATUS: dict[int, type[ApiError]] = {
    404: NotFound,
    410: Gone,
    403: Forbidden,
    422: Invalid,
    400: Invalid,
    413: Invalid,
}


def error_of(status: int, body: Mapping[str, Any], retry_after: str | None = None) -> ApiError:
    """Return the error for an answer with HTTP code *status* and Status object *body*."""
    reason, message = str(body.get("reason") or ""), str(body.get("message") or "")
    if status == 409:
        kind = AlreadyExists if reason == "AlreadyExists" else Conflict
        return kind(status, reason, message, body.get("details"))
    if status == 404 and not body.get("details"):
        return KindMissing(status, reason, message)
    if status == 403 and _RBAC_REFUSAL.search(message):
        return NoPermission(status, reason, message, body.get("details"))
    if status in _BY_STATUS:
        return _BY_STATUS[status](status, reason, message, body.get("details"))
    if status == 429 or status >= 500 or status == 401:
        delay = float(retry_after) if retry_after and retry_after.isdigit() else 1.0
        kind_of_outage = WebhookFailed if _WEBHOOK_FAILURE in message else Unavailable
        return kind_of_outage(status, reason or "Unavailable", message, delay)
    return ApiError(status, reason, message, body.get("details"))
