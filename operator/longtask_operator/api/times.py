"""Times on the wire: RFC 3339 in UTC with whole seconds, as Kubernetes writes `metav1.Time`."""

from __future__ import annotations

from datetime import UTC, datetime


def format_time(moment: datetime) -> str:
    """Return *moment* (aware) as `2026-01-31T08:00:00Z`; fractions of a second are cut off."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> datetime:
    """Return the aware UTC datetime of an RFC 3339 *text*. Raises ValueError if it is none."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} does not say its time zone")
    return moment.astimezone(UTC)


def parse_optional_time(text: str | None) -> datetime | None:
    """Return `parse_time(text)`, or None for an absent time."""
    return parse_time(text) if text else None
