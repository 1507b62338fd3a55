"""What a task consumes, from files laid out as the kernel does."""

from __future__ import annotations

from pathlib import Path

from longtask_worker.usage import cpu_seconds, memory_bytes


def lay_out(directory: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


def test_cgroup_v2(tmp_path: Path) -> None:
    cgroup = lay_out(tmp_path, {"memory.current": "1000\n", "memory.stat": "anon 5\ninactive_file 300\n"})
    assert memory_bytes(cgroup) == 700


def test_cgroup_v1(tmp_path: Path) -> None:
    stat = "inactive_file 1\ntotal_inactive_file 200\n"
    cgroup = lay_out(tmp_path, {"memory/memory.usage_in_bytes": "1000\n", "memory/memory.stat": stat})
    assert memory_bytes(cgroup) == 800


def test_more_cache_than_use_is_zero(tmp_path: Path) -> None:
    assert memory_bytes(lay_out(tmp_path, {"memory.current": "10", "memory.stat": "inactive_file 300"})) == 0


def test_without_a_cgroup_the_process_counts(tmp_path: Path) -> None:
    proc = lay_out(tmp_path / "proc", {"status": "Name:\tpython\nVmRSS:\t  2048 kB\n"})
    assert memory_bytes(tmp_path, proc) == 2048 * 1024


def test_unknown_is_none(tmp_path: Path) -> None:
    garbage = lay_out(tmp_path, {"memory.current": "max", "proc/status": "Name: x"})
    assert memory_bytes(garbage, tmp_path / "proc") is None
    assert memory_bytes(tmp_path / "none", tmp_path / "none") is None


def test_this_process() -> None:
    assert cpu_seconds() > 0
    assert (memory_bytes() or 0) > 1_000_000
