"""Where reports may go; the exchange itself is tested against a real server."""

from __future__ import annotations

import pytest

from longtask_worker.sender import open_sender
from longtask_worker.transport import Channel, TransportError


@pytest.mark.parametrize("url", ["", "http://x/y", "ftp://x", "https://", "//x/y", "https://x:port/y"])
def test_the_token_never_travels_in_the_clear(url: str) -> None:
    with pytest.raises(ValueError, match=r"https|[Pp]ort"):
        Channel(url, "token", "ca")


def test_nothing_to_report_to_is_no_sender() -> None:
    assert open_sender({}) is None


def test_an_unusable_url_is_noted_and_the_work_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        open_sender({"LONGTASK_REPORT_URL": "http://x/", "LONGTASK_TOKEN_FILE": "t", "LONGTASK_CA_FILE": "c"}) is None
    )
    assert "http://x/" in capsys.readouterr().err


@pytest.mark.parametrize("token", [None, b"\xff\xfe", b"two\nlines"])
def test_a_missing_or_strange_token_is_no_answer(tmp_path: object, token: bytes | None) -> None:
    file = f"{tmp_path}/token"
    if token is not None:
        with open(file, "wb") as stream:
            stream.write(token)
    with pytest.raises(TransportError):
        Channel("https://127.0.0.1:1/x", file, "/dev/null").post(b"{}", 1)
