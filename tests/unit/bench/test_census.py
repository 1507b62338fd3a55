from typing import Any

from bench.thousand import Census


def job(version: int) -> dict[str, Any]:
    return {"type": "ADDED", "object": {"metadata": {"uid": f"j{version}", "resourceVersion": str(version)}}}


def pod(version: int, phase: str, uid: str = "p") -> dict[str, Any]:
    meta = {"uid": uid, "resourceVersion": str(version)}
    return {"type": "MODIFIED", "object": {"metadata": meta, "status": {"phase": phase}}}


def test_the_order_is_that_of_the_api_server_not_that_of_the_watches() -> None:
    census = Census()
    for version in (1, 2, 9):
        census.saw_job(job(version), 0.0)
    census.saw_pod(pod(5, "Succeeded"), 0.0)
    assert census.most() == 2


def test_an_end_counts_once() -> None:
    census = Census()
    census.saw_job(job(1), 0.0)
    for version, phase in ((3, "Running"), (4, "Succeeded"), (5, "Succeeded")):
        census.saw_pod(pod(version, phase), 0.0)
    for version in (6, 7):
        census.saw_job(job(version), 0.0)
    assert census.most() == 2
