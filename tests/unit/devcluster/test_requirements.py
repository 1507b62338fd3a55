from pathlib import Path

import pytest

from devcluster import requirements
from devcluster.console import Progress
from devcluster.errors import DevclusterError


def test_each_missing_package_is_named_once(tmp_path: Path) -> None:
    needed = {"sh": "dash", "no-such-a": "b-package", "no-such-b": "b-package", str(tmp_path / "no"): "a-package"}
    assert requirements.missing({**needed, str(tmp_path): "x"}) == ["a-package", "b-package"]


def test_without_root_the_packages_are_named_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(DevclusterError, match=r"packages are missing: one two; install them"):
        requirements.install({"no-such-one": "one", "no-such-two": "two"}, Progress())


def test_real_pods_need_root_and_the_sentence_says_what_else_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(DevclusterError, match=r"need root.*--nodes none"):
        requirements.check("real", Progress())


def test_apt_installs_what_is_missing_without_asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for apt-get that installs what it is told and notes how it was called."""
    calls = tmp_path / "calls"
    program = tmp_path / "apt-get"
    wanted = tmp_path / "wanted"
    program.write_text(
        f'#!/bin/sh\necho "$DEBIAN_FRONTEND $*" >> {calls}\n[ "$1" = update ] && exit 100\ntouch {wanted}\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    requirements.install({str(wanted): "a-package"}, Progress())
    assert calls.read_text().splitlines() == [
        "noninteractive update --quiet",
        "noninteractive install --quiet --yes --no-install-recommends a-package",
    ]
