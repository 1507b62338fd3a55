from pathlib import Path

import pytest

from devcluster import binaries
from devcluster.console import Progress
from devcluster.families import family_of


def install(folder: Path, name: str, says: str) -> Path:
    program = folder / name
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    return program


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LONGTASK_CACHE", str(tmp_path / "cache"))
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return tmp_path


def test_a_program_of_the_right_version_on_path_is_used(empty_cache: Path) -> None:
    version = family_of("etcd").version().lstrip("v")
    program = install(empty_cache / "bin", "etcd", f"etcd Version: {version}")
    assert binaries.ensure(["etcd"], Progress()) == {"etcd": program}


def test_a_program_of_another_version_on_path_is_not(empty_cache: Path) -> None:
    install(empty_cache / "bin", "etcd", "etcd Version: 3.5.0")
    assert binaries.find("etcd") is None


def test_the_cache_comes_before_path(empty_cache: Path) -> None:
    version = family_of("etcd").version()
    install(empty_cache / "bin", "etcd", f"etcd Version: {version}")
    cached = binaries.cached("etcd")
    cached.parent.mkdir(parents=True)
    cached.touch()
    assert binaries.find("etcd") == cached


def test_our_own_pause_program_is_never_taken_from_path(empty_cache: Path) -> None:
    install(empty_cache / "bin", "pause", "pause v1")
    assert binaries.find("pause") is None


def test_a_build_is_static_pinned_and_free_of_local_paths() -> None:
    command = binaries.build_command("/go", "etcdctl", Path("/out"))
    assert command[:2] == ["/go", "build"]
    assert "-trimpath" in command
    assert command[-3:] == ["-o", "/out", "go.etcd.io/etcd/etcdctl/v3"]


def test_a_compiled_program_lands_in_the_cache_and_what_fails_leaves_nothing(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for the Go toolchain: the first build fails after it wrote something, the second works."""
    go = empty_cache / "bin" / "go"
    go.write_text(
        "#!/bin/sh\n"
        '[ "$1" = version ] && { echo go version go1.26.0 linux/amd64; exit; }\n'
        '[ "$1" = list ] && { echo a; exit; }\n'
        'while [ "$1" != -o ]; do shift; done; echo program > "$2"\n'
        '[ -z "$GO_FAILS" ] || { echo "main.go:1: broken" >&2; exit 1; }\n'
    )
    go.chmod(0o755)
    monkeypatch.setenv("GO_FAILS", "1")
    with pytest.raises(Exception, match=r"Compiling pause failed: main.go:1: broken"):
        binaries.build("pause", Progress())
    assert [path.name for path in binaries.cached("pause").parent.iterdir()] == [".lock"]
    monkeypatch.setenv("GO_FAILS", "")
    assert binaries.build("pause", Progress()).read_text() == "program\n"
