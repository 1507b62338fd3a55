import io
import re

import pytest

from devcluster.console import Progress


def test_a_step_shows_its_place_title_and_time_on_one_line() -> None:
    stream = io.StringIO()
    progress = Progress(stream)
    progress.expect(2)
    with progress.step("One"):
        pass
    assert re.fullmatch(r"\[1 of 2\] One \.\.\. \d+\.\d s\n", stream.getvalue())


def test_details_come_below_and_the_time_repeats_the_title() -> None:
    stream = io.StringIO()
    progress = Progress(stream)
    with progress.step("One"):
        progress.detail("half")
    first, second, third = stream.getvalue().splitlines()
    assert (first, second.strip()) == ("[1 of 1] One ...", "half")
    assert re.fullmatch(r"\[1 of 1\] One: \d+\.\d s", third)


def test_a_failing_step_still_ends_its_line() -> None:
    stream = io.StringIO()
    with pytest.raises(ValueError, match="x"), Progress(stream).step("One"):
        raise ValueError("x")
    assert stream.getvalue().endswith(" s\n")


def test_without_a_stream_it_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress().step("One"):
        pass
    assert capsys.readouterr() == ("", "")
