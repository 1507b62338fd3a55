"""Reports over real TLS: what the operator answers, fails to answer or rotates never harms the work."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from longtask_worker.sender import Sender
from longtask_worker.transport import Channel, TransportError
from longtask_worker.wire import Answer, build_report
from tests.integration.worker_support import PATIENCE, Reply, ReportServer, end, ok, start_worker

# Items until the test lets it end by writing the file; it stops when it is told to.
LOOP = """
import os
def main(task):
    print("looping")
    for n in task.track(range(10**9), total=1000, unit="items", stage="looping"):
        task.raise_if_cancelled()
        time.sleep(0.005)
        if os.path.exists(task.payload["until"]):
            return {"stopped": False}
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ReportServer]:
    server = ReportServer(tmp_path)
    yield server
    server.close()


@pytest.fixture
def until(tmp_path: Path) -> Path:
    return tmp_path / "until"


def loop_env(server: ReportServer, until: Path) -> dict[str, str]:
    return server.environment(LONGTASK_PAYLOAD=json.dumps({"until": str(until)}))


def outcome(server: ReportServer) -> dict[str, object]:
    fields: dict[str, object] = json.loads((server.directory / "termination-log").read_text())
    return fields


def post(server: ReportServer, timeout: float = PATIENCE) -> Answer:
    channel = Channel(server.url, str(server.token_file), str(server.ca_file))
    return channel.post(build_report(1, {"done": 1}), timeout)


def test_a_report_says_all_and_the_last_one_always_lands(server: ReportServer) -> None:
    code = """
def main(task):
    task.report(3, 10, unit="rows", stage="s", message="é😀")
    return {"rows": 3}
"""
    assert end(start_worker(code, server.environment()))[0] == 0
    last = server.reports[-1]
    assert (last.token, last.path) == ("token-1", "/v1/namespaces/n/longtasks/t/attempts/1/report")
    assert last.body["memoryBytes"] > 1_000_000
    assert last.body["cpuSeconds"] > 0
    expected = {"done": 3, "total": 10, "unit": "rows", "stage": "s", "message": "é😀"}
    assert {key: last.body.get(key) for key in expected} == expected
    sequences = [report.body["sequence"] for report in server.reports]
    assert sequences == sorted(set(sequences))


def test_life_is_shown_when_nothing_changes(server: ReportServer, until: Path) -> None:
    code = "import os\ndef main(task):\n    while not os.path.exists(task.payload['until']): time.sleep(0.01)\n"
    process = start_worker(code, loop_env(server, until))
    server.wait_for(lambda reports: len(reports) >= 3)
    until.touch()
    assert end(process)[0] == 0
    assert "done" not in server.reports[0].body


def test_token_and_ca_rotate_while_it_runs(server: ReportServer, until: Path) -> None:
    process = start_worker(LOOP, loop_env(server, until))
    server.wait_for(lambda reports: any(report.token == "token-1" for report in reports))
    server.token_file.write_text("token-2")
    server.rotate_ca()
    server.wait_for(lambda reports: any(report.token == "token-2" for report in reports))
    until.touch()
    assert end(process)[0] == 0


def test_a_server_of_another_ca_is_not_told_the_token(server: ReportServer) -> None:
    server.rotate_ca(tell=False)
    with pytest.raises(TransportError, match="certificate"):
        post(server)
    assert server.reports == []
    server.publish_ca()
    assert post(server).ok


def test_a_certificate_of_another_host_is_refused(server: ReportServer) -> None:
    server.url = server.url.replace("127.0.0.1", "localhost")
    with pytest.raises(TransportError, match=r"[Hh]ostname|localhost"):
        post(server)
    assert server.reports == []


@pytest.mark.parametrize("missing", ["token_file", "ca_file"])
def test_a_missing_file_is_no_answer(server: ReportServer, missing: str) -> None:
    getattr(server, missing).unlink()
    with pytest.raises(TransportError):
        post(server)


def test_no_connection_is_kept(server: ReportServer) -> None:
    sender = Sender(Channel(server.url, str(server.token_file), str(server.ca_file)))
    for _ in range(3):
        assert sender.send({}, PATIENCE) is not None
    assert server.connections == 3


def test_retry_after_is_honoured(server: ReportServer) -> None:
    server.answer = lambda _received: Reply(status=503, headers={"Retry-After": "17"})
    sender = Sender(Channel(server.url, str(server.token_file), str(server.ca_file)))
    answer = sender.send({}, PATIENCE)
    assert answer is not None
    assert (answer.status, answer.retry_after) == (503, 17.0)
    assert 17 <= sender.wait() <= 17 * 1.5


def test_next_report_seconds_is_followed(server: ReportServer) -> None:
    server.answer = lambda _received: ok(nextReportSeconds=40)
    sender = Sender(Channel(server.url, str(server.token_file), str(server.ca_file)))
    sender.send({}, PATIENCE)
    assert 40 <= sender.wait() <= 44


def test_a_redirect_is_not_followed(server: ReportServer) -> None:
    server.answer = lambda _received: Reply(status=307, headers={"Location": server.url + "/elsewhere"})
    assert post(server).status == 307
    assert len(server.reports) == 1


def test_a_hanging_server_is_given_up(server: ReportServer) -> None:
    server.answer = lambda _received: Reply(fault="hang")
    with pytest.raises(TransportError, match="timed out"):
        post(server, timeout=0.2)


def test_a_broken_connection_is_no_answer(server: ReportServer) -> None:
    server.answer = lambda _received: Reply(fault="reset")
    with pytest.raises(TransportError):
        post(server)


def test_something_that_is_not_http_is_no_answer(server: ReportServer) -> None:
    server.answer = lambda _received: Reply(fault="garbage")
    with pytest.raises(TransportError):
        post(server)


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(status=status, fields={"stop": True, "cancel": True}), id=str(status))
        for status in (400, 401, 403, 404, 413, 429, 500, 503)
    ]
    + [pytest.param(Reply(status=409), id="409-without-stop")]
    + [pytest.param(Reply(fault=fault), id=fault) for fault in ("reset", "garbage")],
)
def test_no_other_answer_stops_the_work(server: ReportServer, until: Path, reply: Reply) -> None:
    server.answer = lambda _received: reply
    process = start_worker(LOOP, loop_env(server, until))
    server.wait_for(lambda reports: len(reports) >= 2)
    until.touch()
    code, _, err = end(process)
    assert code == 0
    assert outcome(server)["result"] == {"stopped": False}
    assert err.count("the work goes on") == 1, err


def test_cancel_stops_the_work(server: ReportServer, until: Path) -> None:
    server.answer = lambda _received: ok(cancel=True)
    assert end(start_worker(LOOP, loop_env(server, until)))[0] == 130
    assert outcome(server)["message"] == "cancelled"
    assert outcome(server)["logTail"] == "looping\n"


def test_stop_stops_the_work(server: ReportServer, until: Path) -> None:
    server.answer = lambda _received: Reply(status=409, fields={"stop": True})
    assert end(start_worker(LOOP, loop_env(server, until)))[0] == 79
    assert outcome(server)["message"] == "superseded by a newer attempt"
    assert outcome(server)["logTail"] == "looping\n"


def test_stop_ends_even_work_that_does_not_listen(server: ReportServer) -> None:
    stop = Reply(status=409, fields={"stop": True})  # once it has said all that is to be in its log
    server.answer = lambda received: stop if "done" in received.body else ok()
    code = "import longtask_worker.cluster as c\nc.SUPERSEDED_GRACE_SECONDS = 0.1\ndef main(task):\n"
    code += "    print('deaf')\n    task.report(1)\n    time.sleep(600)\n"
    assert end(start_worker(code, server.environment()))[0] == 79
    assert outcome(server)["message"] == "superseded by a newer attempt"
    assert outcome(server)["logTail"] == "deaf\n"


def test_the_deadline_follows_the_operator(server: ReportServer) -> None:
    server.answer = lambda _received: ok(deadline="2031-05-06T07:08:09Z")
    code = """
def main(task):
    while task.deadline is None: time.sleep(0.01)
    return task.deadline.isoformat()
"""
    assert end(start_worker(code, server.environment()))[0] == 0
    assert outcome(server)["result"] == "2031-05-06T07:08:09+00:00"


def test_reports_go_on_when_the_operator_comes_back(server: ReportServer, until: Path) -> None:
    process = start_worker(LOOP, loop_env(server, until))
    server.wait_for(lambda reports: reports)
    server.stop_listening()
    assert process.stderr is not None
    assert "not delivered" in process.stderr.readline()
    server.listen_again()
    seen = len(server.reports)
    server.wait_for(lambda reports: len(reports) > seen)
    until.touch()
    assert end(process)[0] == 0


def test_a_black_hole_does_not_slow_the_work() -> None:
    """Counts work done while reports hang: as much as while they are answered."""
    from longtask_worker.progress import Progress
    from longtask_worker.reporter import Reporter

    entered, release = threading.Event(), threading.Event()

    class BlackHole(Channel):
        def post(self, body: bytes, timeout: float) -> Answer:
            entered.set()
            release.wait()
            raise TransportError("gone")

    progress = Progress()
    channel = BlackHole("https://127.0.0.1:1/x", "t", "c")
    reporter = Reporter(Sender(channel), lambda: {"done": progress.snapshot().done}, lambda _answer: None)
    reporter.start()
    assert entered.wait(10)
    done = sum(1 for _ in progress.track(range(200_000)))
    # All of it was done while the first report hung, and the end waits no longer than it is told to.
    reporter.close(timeout=0.05)
    assert (done, progress.snapshot().done) == (200_000, 200_000)
    assert not release.is_set()
    release.set()


def test_a_server_that_never_accepts_does_not_hold_up_the_end(server: ReportServer) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/x"
        code = "def main(task): return sum(1 for _ in task.track(range(100_000)))\n"
        assert end(start_worker(code, server.environment(LONGTASK_REPORT_URL=url)), seconds=20)[0] == 0
    assert outcome(server)["result"] == 100_000


def test_a_fault_of_the_sampling_ends_neither_reports_nor_work(
    server: ReportServer, capsys: pytest.CaptureFixture[str]
) -> None:
    from longtask_worker.reporter import Reporter

    calls = []

    def facts() -> dict[str, object]:
        calls.append(1)
        if len(calls) == 1:
            raise ZeroDivisionError("ours")
        return {"done": 7}

    reporter = Reporter(Sender(Channel(server.url, str(server.token_file), str(server.ca_file))), facts, lambda _: None)
    reporter.start()
    while not calls:
        pass
    reporter.close(timeout=10)
    assert {report.body["done"] for report in server.reports} == {7}
    assert "ZeroDivisionError: ours" in capsys.readouterr().err
