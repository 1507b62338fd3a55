import dataclasses
import fcntl
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from devcluster import process
from devcluster.errors import DevclusterError
from devcluster.paths import ClusterPaths
from devcluster.process import Process


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[ClusterPaths]:
    found = ClusterPaths(root=tmp_path)
    yield found
    process.end(process.marked(found), grace=0)


def test_a_program_name_with_brackets_and_blanks_does_not_confuse() -> None:
    line = "42 (a b) c) S 1 " + " ".join(str(number) for number in range(5, 23))
    assert process.parse_stat(line) == Process(pid=42, started=22)


@pytest.mark.parametrize("state", ["Z", "X"])
def test_the_dead_are_no_process(state: str) -> None:
    assert process.parse_stat(f"42 (x) {state} 1 " + " ".join("0" * 20)) is None


@pytest.mark.parametrize("line", ["", "42", "42 (x) S 1"])
def test_a_half_written_record_is_no_process(line: str) -> None:
    assert process.parse_stat(line) is None


def test_a_component_is_recorded_by_itself_found_by_its_mark_and_ended(paths: ClusterPaths) -> None:
    process.start(paths, "sleeper", ["sleep", "60"])
    running = process.recorded(paths, "sleeper")
    assert running is not None
    assert Path(f"/proc/{running.pid}/comm").read_text().strip() in ("sleep", "sh")
    assert process.marked(paths) == [running]
    process.end([running], grace=5)
    assert process.recorded(paths, "sleeper") is None
    assert process.marked(paths) == []


def test_what_a_component_says_is_in_its_log(paths: ClusterPaths) -> None:
    process.start(paths, "talker", ["sh", "-c", "echo out; echo err >&2"])
    process.wait_for(lambda: process.recorded(paths, "talker") is None, 60, "it did not end")
    assert paths.log("talker").read_text() == "out\nerr\n"


def test_a_child_that_nobody_recorded_is_found_too(paths: ClusterPaths) -> None:
    process.start(paths, "parent", ["sh", "-c", "sleep 60 & sleep 60"])
    process.wait_for(lambda: len(process.marked(paths)) >= 3, 60, "the children did not start")
    (paths.pids / "parent").unlink()
    process.end(process.marked(paths), grace=0)
    assert process.marked(paths) == []


def test_another_clusters_process_is_not_ours(paths: ClusterPaths, tmp_path: Path) -> None:
    other = ClusterPaths(root=tmp_path / "other")
    other.root.mkdir()
    process.start(other, "sleeper", ["sleep", "60"])
    try:
        assert process.marked(paths) == []
    finally:
        process.end(process.marked(other), grace=0)


def test_a_reused_pid_is_never_signalled() -> None:
    with subprocess.Popen(["sleep", "60"]) as innocent:
        real = process.read_stat(Path(f"/proc/{innocent.pid}/stat"))
        assert real is not None
        earlier = dataclasses.replace(real, started=real.started - 1)
        assert not earlier.alive()
        earlier.signal(signal.SIGKILL)
        process.end([earlier], grace=0)
        assert innocent.poll() is None
        innocent.kill()


def test_who_ignores_the_request_is_killed(paths: ClusterPaths) -> None:
    process.start(paths, "stubborn", ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"])
    process.wait_for(lambda: "ready" in paths.log("stubborn").read_text(), 60, "it did not start")
    running = process.recorded(paths, "stubborn")
    assert running is not None
    process.end([running], grace=0.2)
    assert not running.alive()


def test_waiting_in_vain_says_for_what() -> None:
    with pytest.raises(DevclusterError, match=r"The sky did not fall within 0 s\."):
        process.wait_for(lambda: False, 0, "The sky did not fall", poll=0.01)


def test_a_failed_command_tells_its_own_words() -> None:
    with pytest.raises(DevclusterError, match=r"failed with 3: broken"):
        process.run(["sh", "-c", "echo broken >&2; exit 3"])
    with pytest.raises(DevclusterError, match=r"no-such-program is missing; install it"):
        process.run(["no-such-program"])


def test_a_command_holds_the_lock_even_when_its_caller_is_gone(tmp_path: Path) -> None:
    """As after `kill -9` of `up`: `down` must wait for the commands that are still under way."""
    file = tmp_path / "x.lock"
    marker, over = tmp_path / "go", tmp_path / "over"
    command = f"touch {marker}; while [ ! -e {over} ]; do sleep 0.05; done"
    script = f"from pathlib import Path; from devcluster import process\nwith process.lock(Path({str(file)!r})):\n"
    script += f"    process.run(['sh', '-c', {command!r}])"
    with subprocess.Popen(["python3", "-c", script], cwd=Path(process.__file__).parents[1]) as caller:
        process.wait_for(marker.exists, 60, "the command did not start", poll=0.01)
        caller.kill()
    with file.open() as handle:

        def is_free() -> bool:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        assert not is_free()
        over.touch()
        process.wait_for(is_free, 60, "the lock did not become free", poll=0.01)


def test_who_waited_for_a_cluster_that_was_removed_is_told(tmp_path: Path) -> None:
    file = tmp_path / "x.lock"
    script = f"from pathlib import Path; from devcluster import process\nwith process.lock(Path({str(file)!r})): pass"
    with process.lock(file):
        root = Path(process.__file__).parents[1]
        waiting = subprocess.Popen(["python3", "-c", script], cwd=root, stderr=subprocess.PIPE, text=True)
        queue = Path("/proc/locks")  # a waiting lock is marked by an arrow
        process.wait_for(
            lambda: any("->" in line and f" {waiting.pid} " in line for line in queue.read_text().splitlines()),
            60,
            "the second one does not wait",
            poll=0.01,
        )
        file.unlink()
    _, said = waiting.communicate(timeout=60)
    assert waiting.returncode == 1
    assert "was removed while this command waited" in said
