"""The command line of a worker without a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from longtask_worker.environment import Info
from longtask_worker.errors import UsageError
from longtask_worker.local import parse_arguments


def test_nothing_is_an_empty_task() -> None:
    assert parse_arguments("p", []) == (Info(), None, [])


def test_payload_inputs_and_outputs(tmp_path: Path) -> None:
    payload = tmp_path / "payload.json"
    payload.write_text('{"text": "$(X) 😀"}', encoding="utf-8")
    argv = ["--payload", str(payload), "--input", "a=s3://b/c=d", "--input", "b=s3://e", "--output", "o=s3://f/"]
    info, _, rest = parse_arguments("p", argv)
    assert info.payload == {"text": "$(X) 😀"}
    assert (info.inputs, info.outputs, rest) == ({"a": "s3://b/c=d", "b": "s3://e"}, {"o": "s3://f/"}, [])


def test_a_path_becomes_a_file_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    info, _, _ = parse_arguments("p", ["--input", "a=x y.csv", "--output", "o=out/"])
    assert info.inputs["a"] == f"file://{tmp_path}/x%20y.csv"
    assert info.outputs["o"] == f"file://{tmp_path}/out/"


def test_checkpoints_have_a_folder() -> None:
    assert parse_arguments("p", ["--checkpoint", "ckpt"])[1] == Path("ckpt")


def test_what_follows_two_dashes_is_the_programs_own() -> None:
    assert parse_arguments("p", ["--", "--top", "--payload"])[2] == ["--top", "--payload"]


@pytest.mark.parametrize("argv", [["--top"], ["--input", "x"], ["--input", "=x"], ["--output", "x="], ["file"]])
def test_a_wrong_command_line_exits_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parse_arguments("p", argv)
    assert left.value.code == 2
    assert "usage: p " in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, "{", "[]", "\udcff"])
def test_an_unusable_payload_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "payload.json"
    if content is not None:
        path.write_text(content, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(UsageError, match=r"payload\.json"):
        parse_arguments("p", ["--payload", str(path)])
