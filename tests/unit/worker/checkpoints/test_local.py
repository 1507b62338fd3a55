"""Checkpoints without a cluster: each run goes on from the last one, a finished one leaves nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from longtask_worker.checkpoints import Checkpoint
from longtask_worker.checkpoints.book import Book
from longtask_worker.checkpoints.local import LocalCheckpoints
from longtask_worker.environment import Info
from longtask_worker.errors import UsageError


def open_run(folder: Path) -> tuple[LocalCheckpoints, Info, Checkpoint]:
    kept = LocalCheckpoints(folder)
    info = kept.describe(Info())
    checkpoint = Checkpoint(info.checkpoint, Book(info.resume))
    checkpoint.on_saved = kept.accept
    return kept, info, checkpoint


def test_each_run_is_an_attempt_and_resumes_from_the_last_save(tmp_path: Path) -> None:
    _, info, checkpoint = open_run(tmp_path / "c")
    assert (info.attempt, checkpoint.load(default=0)) == (1, 0)
    checkpoint.save(5)
    checkpoint.save(6)
    _, info, checkpoint = open_run(tmp_path / "c")
    assert (info.attempt, checkpoint.load(default=0)) == (2, 6)
    _, info, checkpoint = open_run(tmp_path / "c")
    assert checkpoint.load() == 6


def test_a_torn_one_is_skipped_for_the_one_before(tmp_path: Path) -> None:
    _, _, checkpoint = open_run(tmp_path)
    checkpoint.save(5)
    checkpoint.save(6)
    (tmp_path / "1" / "2" / "manifest.json").write_bytes(b"torn")
    assert open_run(tmp_path)[2].load() == 5


def test_a_finished_run_leaves_nothing_to_resume_from(tmp_path: Path) -> None:
    kept, _, checkpoint = open_run(tmp_path)
    checkpoint.save(5)
    kept.finish()
    _, info, checkpoint = open_run(tmp_path)
    assert (info.attempt, info.resume) == (2, ())


def test_a_run_that_saved_nothing_leaves_nothing_at_all(tmp_path: Path) -> None:
    open_run(tmp_path / "c")[0].finish()
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"attempt":1,"accepted":[{}]}'])
def test_a_broken_folder_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "accepted.json").write_text(content)
    with pytest.raises(UsageError, match=r"accepted\.json"):
        LocalCheckpoints(tmp_path)
