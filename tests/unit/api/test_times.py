from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtask_operator.api.times import format_time, parse_optional_time, parse_time

EIGHT = datetime(2026, 1, 31, 8, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "moment",
    [EIGHT, EIGHT + timedelta(microseconds=999_999), EIGHT.astimezone(timezone(timedelta(hours=9)))],
)
def test_times_are_written_in_utc_with_whole_seconds(moment: datetime) -> None:
    assert format_time(moment) == "2026-01-31T08:00:00Z"


@pytest.mark.parametrize("text", ["2026-01-31T08:00:00Z", "2026-01-31T08:00:00.000000Z", "2026-01-31T17:00:00+09:00"])
def test_times_are_read_in_every_spelling_of_the_wire(text: str) -> None:
    assert parse_time(text) == EIGHT
    assert parse_time(text).utcoffset() == timedelta(0)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01T00:00:00Z", "2026-01-31T08:00:00", "2026-01-31"])
def test_anything_else_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_time(text)


def test_an_absent_time_stays_absent() -> None:
    assert (parse_optional_time(None), parse_optional_time("")) == (None, None)
    assert parse_optional_time("2026-01-31T08:00:00Z") == EIGHT


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9999, 1, 1), timezones=st.just(UTC)))
def test_a_time_survives_the_wire_but_for_its_fraction(moment: datetime) -> None:
    assert parse_time(format_time(moment)) == moment.replace(microsecond=0)
