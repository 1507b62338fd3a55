import subprocess
import sys

import pytest

from devcluster import cli
from devcluster.paths import REPOSITORY


@pytest.fixture(autouse=True)
def empty_state(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("LONGTASK_CACHE", f"{tmp_path}/cache")


@pytest.mark.parametrize("arguments", [[], ["fly"], ["up", "--colour"], ["binary", "kubefoo"], ["build-image", "."]])
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    assert exit_.value.code == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["status"], "There is no cluster 'longtask'; start it with `python -m devcluster up --name longtask`."),
        (["kubeconfig", "--name", "x"], "There is no cluster 'x'"),
        (["logs", "etcd"], "There is no cluster"),
        (["load-image", "a.tar"], "There is no cluster"),
        (["up", "--nodes", "many"], "Nodes cannot be 'many'; use real, none or fake:N"),
        (["up", "--name", "../x"], "cannot name a cluster"),
        (["build-image", "--tag", "t", "--output", "o", "--build-arg", "X", "."], "'X' is not KEY=VALUE"),
        (["build-image", "--tag", "t", "--output", "o", "/nonexistent"], "There is no Dockerfile at /nonexistent"),
    ],
)
def test_what_does_not_work_is_1_with_a_sentence_that_says_what_to_do(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 1
    printed = capsys.readouterr()
    assert sentence in printed.err
    assert printed.err.startswith("error: ")
    assert printed.out == ""


@pytest.mark.parametrize("name", ["longtask", "never-there"])
def test_down_without_a_cluster_does_nothing(name: str) -> None:
    assert cli.main(["down", "--name", name]) == 0


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["--help"])
    assert exit_.value.code == 0
    shown = capsys.readouterr().out
    for command in ("up", "down", "status", "kubeconfig", "load-image", "logs", "build-image", "base-image", "binary"):
        assert f"\n    {command} " in shown


def test_it_runs_on_the_standard_library_alone() -> None:
    """So it can run before any environment exists: -S leaves site-packages out."""
    command = [sys.executable, "-S", "-m", "devcluster", "--help"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, env={"PATH": "/bin"})
    assert done.returncode == 0, done.stderr
