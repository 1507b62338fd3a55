"""The termination message is written whole, and once."""

from __future__ import annotations

from pathlib import Path

import pytest

from longtask_worker.outcome_log import OutcomeLog
from longtask_worker.termination import DEFAULT_PATH, termination_path, write_whole


def test_it_replaces_what_stands_there_in_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * 9000)
    before = path.stat().st_ino
    write_whole(str(path), b"outcome")
    assert path.read_bytes() == b"outcome"
    assert path.stat().st_ino == before  # the kubelet mounted this very file


def test_the_first_outcome_stays(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = OutcomeLog(str(path))
    assert log.write(b"first")
    assert not log.write(b"second")
    assert path.read_bytes() == b"first"


def test_what_could_not_be_written_may_be_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "later" / "log"
    log = OutcomeLog(str(path))
    with pytest.raises(OSError, match="log"):
        log.write(b"x")
    path.parent.mkdir()
    assert log.write(b"y")


def test_part_of_a_message_is_an_error() -> None:
    with pytest.raises(OSError):  # noqa: PT011 - the device is full
        write_whole("/dev/full", b"x")


def test_path() -> None:
    assert termination_path({}) == DEFAULT_PATH == "/dev/termination-log"
    assert termination_path({"LONGTASK_TERMINATION_LOG": "/x"}) == "/x"
