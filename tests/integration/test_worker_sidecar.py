"""The sidecar as a process: what a file says reaches the operator, whatever both do to it."""

from __future__ import annotations

import platform
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from prepare_wheels import build_sidecar, go_command
from tests.integration.worker_support import PATIENCE, WORKER, Received, Reply, ReportServer, end, ok


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    binary = tmp_path_factory.mktemp("sidecar") / "longtask-sidecar"
    build_sidecar(WORKER / "sidecar", binary, platform.machine())
    return binary


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ReportServer]:
    server = ReportServer(tmp_path)
    yield server
    server.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "progress"


@pytest.fixture
def process(sidecar: Path, server: ReportServer, file: Path) -> Iterator[subprocess.Popen[str]]:
    env = server.environment(LONGTASK_PROGRESS_FILE=str(file))
    process = subprocess.Popen([str(sidecar)], env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def terminate(process: subprocess.Popen[str], *, seconds: float = PATIENCE) -> int:
    process.send_signal(signal.SIGTERM)
    return end(process, seconds=seconds)[0]


def last_line(server: ReportServer) -> str:
    return (server.directory / "termination-log").read_text()


def test_lines_reach_the_operator(process: subprocess.Popen[str], server: ReportServer, file: Path) -> None:
    server.wait_for(lambda reports: reports)  # life, before there is a file
    assert server.reports[0].body.keys() == {"sequence"}
    file.write_text("1/10 one\n2/10 zwei é😀\n")
    server.wait_for(lambda reports: reports[-1].body.get("done") == 2)
    expected = {"done": 2, "total": 10, "message": "zwei é😀", "sequence": server.reports[-1].body["sequence"]}
    assert server.reports[-1].body == expected
    assert server.reports[-1].token == "token-1"
    assert server.reports[-1].body["sequence"] > server.reports[0].body["sequence"]
    assert terminate(process) == 0


def test_the_last_line_always_lands(process: subprocess.Popen[str], server: ReportServer, file: Path) -> None:
    server.answer = lambda _received: ok(nextReportSeconds=3600)
    server.wait_for(lambda reports: reports)
    file.write_text("9/10 nine\n10/10 done")  # no line feed: the task has ended
    assert terminate(process) == 0
    assert server.reports[-1].body["done"] == 10
    assert last_line(server) == "10/10 done"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 429, 500, 503])
def test_no_answer_ends_it(process: subprocess.Popen[str], server: ReportServer, file: Path, status: int) -> None:
    server.answer = lambda _received: Reply(status=status)
    file.write_text("1/2 x\n")
    server.wait_for(lambda reports: len(reports) >= 2)
    assert process.poll() is None
    assert terminate(process) == 0
    assert last_line(server) == "1/2 x"


@pytest.mark.parametrize("fault", ["hang", "reset", "garbage"])
def test_a_silent_operator_does_not_hold_up_its_end(
    process: subprocess.Popen[str], server: ReportServer, file: Path, fault: str
) -> None:
    server.answer = lambda _received: Reply(fault=fault)
    file.write_text("1/2 x\n")
    server.wait_for(lambda reports: reports)
    assert terminate(process, seconds=20) == 0
    assert last_line(server) == "1/2 x"


def test_a_superseded_attempt_falls_silent(process: subprocess.Popen[str], server: ReportServer, file: Path) -> None:
    told: list[Received] = []

    def stop(received: Received) -> Reply:
        told.append(received)
        return Reply(status=409, fields={"stop": True})

    server.answer = stop  # its first report may have been answered before
    server.wait_for(lambda _reports: told)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(2.5)  # the next report would be due after 1 s to 1.5 s
    assert len(told) == 1
    assert terminate(process) == 0


def test_token_and_ca_rotate_while_it_runs(process: subprocess.Popen[str], server: ReportServer) -> None:
    server.wait_for(lambda reports: reports)
    server.token_file.write_text("token-2")
    server.rotate_ca()
    server.wait_for(lambda reports: reports[-1].token == "token-2")
    assert terminate(process) == 0


def test_a_server_of_another_ca_is_not_told_the_token(
    process: subprocess.Popen[str], server: ReportServer, file: Path
) -> None:
    server.wait_for(lambda reports: reports)
    server.rotate_ca(tell=False)
    server.token_file.write_text("token-2")
    assert process.stderr is not None
    assert "certificate" in process.stderr.readline()
    assert terminate(process) == 0
    assert {report.token for report in server.reports} == {"token-1"}


@pytest.mark.parametrize("missing", ["LONGTASK_PROGRESS_FILE", "LONGTASK_REPORT_URL", "LONGTASK_TOKEN_FILE"])
def test_a_missing_variable_is_a_usage_error(sidecar: Path, server: ReportServer, missing: str) -> None:
    env = server.environment(LONGTASK_PROGRESS_FILE="/x")
    del env[missing]
    done = subprocess.run([sidecar], env=env, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 2
    assert "LONGTASK_PROGRESS_FILE" in done.stderr


def test_its_own_tests_pass(sidecar: Path) -> None:
    for check in ("vet", "test"):
        subprocess.run([*go_command(), check, "./..."], cwd=WORKER / "sidecar", check=True)
