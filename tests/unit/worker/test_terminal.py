"""Progress without a cluster, as a person sees it."""

from __future__ import annotations

import io

import pytest

from longtask_worker.progress import Progress, Snapshot
from longtask_worker.terminal import BAR_WIDTH, TerminalView, render


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("snapshot", "expected"),
    [
        (Snapshot(), ""),
        (Snapshot(done=5), "5"),
        (Snapshot(done=5, unit="lines", stage="parsing", message="a\nb"), "5 lines parsing a b"),
        (Snapshot(done=420, total=1000, unit="lines"), "420/1000 (42%) lines"),
        (Snapshot(done=0, total=0), "0"),
        (Snapshot(done=20, total=10), "20/10 (100%)"),
    ],
)
def test_plain_line(snapshot: Snapshot, expected: str) -> None:
    assert render(snapshot, bar=False) == expected


@pytest.mark.parametrize(("done", "filled"), [(0, 0), (5, BAR_WIDTH // 2), (10, BAR_WIDTH), (99, BAR_WIDTH)])
def test_bar(done: int, filled: int) -> None:
    line = render(Snapshot(done=done, total=10), bar=True)
    assert line.startswith(f"[{'#' * filled}{'.' * (BAR_WIDTH - filled)}] ")


def closed_view(stream: io.StringIO) -> str:
    progress = Progress()
    view = TerminalView(progress, stream)
    view.start()
    progress.say(3, 3, unit="rows", stage=None, message=None)
    view.close()
    return stream.getvalue()


def test_the_last_state_is_always_drawn() -> None:
    assert closed_view(io.StringIO()) == "3/3 (100%) rows\n"


def test_a_terminal_keeps_one_line() -> None:
    drawn = closed_view(Screen())
    assert drawn.count("\n") == 1
    assert drawn.endswith("3/3 (100%) rows\n")


def test_nothing_said_draws_nothing() -> None:
    screen = Screen()
    view = TerminalView(Progress(), screen)
    view.start()
    view.close()
    assert screen.getvalue() == ""
