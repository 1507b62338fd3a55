"""The CRD on the real API server: what it shows, and which transitions of status it refuses, whoever writes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.rules import Api, ControlPlane, a_longtask, accepted, condition, installed, refused, running, stored

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def api(control_plane: ControlPlane) -> Iterator[Api]:
    with installed(control_plane, "crd") as api:
        yield api


ENDED = {
    "observedGeneration": 1,
    "tenant": "team-a",
    "run": 2,
    "attempt": 3,
    "conditions": [condition("Succeeded", "True"), condition("Finished", "True")],
}
FINISHED_STAYS = "a finished task stays finished; only a new run (status.run raised) may leave Finished"


class TestShown:
    def test_the_crd_is_structural_and_served(self, api: Api) -> None:
        conditions = api.get("crd/longtasks.longtask.dev")["status"]["conditions"]

        assert {c["type"]: c["status"] for c in conditions} == {"NamesAccepted": "True", "Established": "True"}

    def test_explain_reads_as_documentation(self, api: Api) -> None:
        text = api.run("explain", "lt.spec", "--recursive=false", check=True).stdout

        assert "DESCRIPTION:" in text
        assert "<empty>" not in text
        assert text.count("\n\n") > 20

    def test_a_new_task_is_not_seen_yet(self, api: Api) -> None:
        assert api.get(stored(api, "new"))["status"] == {"observedGeneration": -1}

    def test_columns_names_and_category(self, api: Api) -> None:
        stored(api, "shown")
        status = {
            "tenant": "team-a",
            "phase": "Running",
            "reason": "Running",
            "attempt": 2,
            "jobName": "shown-abc-2",
            "progress": {"display": "420/1000 (42%)"},
            "sizing": {"cpu": "500m", "memory": "2Gi", "display": "500m/2Gi", "source": "Requested"},
        }
        assert accepted(api.status("shown", status))

        narrow = api.run("-n", api.namespace, "get", "lt", "shown").stdout.splitlines()
        wide = api.run("-n", api.namespace, "get", "longtask", "shown", "-o", "wide").stdout.splitlines()
        by_category = api.run("-n", api.namespace, "get", "longtask.longtask.dev", "-o", "name").stdout

        assert narrow[0].split() == ["NAME", "TENANT", "PHASE", "PROGRESS", "ATTEMPT", "AGE"]
        assert narrow[1].split()[:6] == ["shown", "team-a", "Running", "420/1000", "(42%)", "2"]
        assert wide[0].split()[6:] == ["SIZE", "REASON", "JOB"]
        assert wide[1].split()[-3:] == ["500m/2Gi", "Running", "shown-abc-2"]
        assert "longtask.longtask.dev/shown" in by_category

    def test_selectable_fields(self, api: Api) -> None:
        stored(api, "selected")
        stored(api, "unselected")
        assert accepted(api.status("selected", {"phase": "Backoff", "tenant": "team-s"}))

        selector = "--field-selector=status.phase=Backoff,status.tenant=team-s"
        found = api.run("-n", api.namespace, "get", "lt", selector, "-o", "name", check=True).stdout

        assert found.split() == ["longtask.longtask.dev/selected"]


class TestTransitions:
    @pytest.fixture
    def ended(self, api: Api) -> str:
        task = stored(api, "ended")
        assert accepted(api.status("ended", ENDED))
        return task

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"attempt": 2}, "status.attempt never falls; keep it or raise it"),
            ({"attempt": None}, "status.attempt never falls; keep it or raise it"),
            ({"run": 1}, "status.run never falls; keep it or raise it"),
            ({"run": None}, "status.run never falls; keep it or raise it"),
            ({"tenant": "team-b"}, "status.tenant is fixed once set; keep it as it is"),
            ({"tenant": None}, "status.tenant is fixed once set; keep it as it is"),
            ({"conditions": [condition("Finished", "False")]}, FINISHED_STAYS),
            ({"conditions": [condition("Finished", "Unknown")]}, FINISHED_STAYS),
            ({"conditions": []}, FINISHED_STAYS),
            ({"conditions": None}, FINISHED_STAYS),
            ({"attempt": 4, "conditions": []}, FINISHED_STAYS),
        ],
        ids=str,
    )
    def test_refused(self, api: Api, ended: str, change: dict[str, Any], says: str) -> None:
        assert refused(api.status("ended", change), says)
        assert api.get(ended)["status"] == ENDED

    @pytest.mark.parametrize("user", ["", "alice"])
    def test_status_as_null_is_no_way_around(self, api: Api, ended: str, user: str) -> None:
        for patch, kind in (
            ({"status": None}, "merge"),
            ({"status": {}}, "merge"),
            ([{"op": "remove", "path": "/status"}], "json"),
            ([{"op": "replace", "path": "/status", "value": {}}], "json"),
            ([{"op": "remove", "path": "/status/attempt"}], "json"),
        ):
            api.patch(ended, patch, "--subresource=status", user=user, kind=kind)
            api.patch(ended, patch, user=user, kind=kind)
            assert api.get(ended)["status"] == ENDED

    def test_replacing_the_object_without_a_status_keeps_it(self, api: Api, ended: str) -> None:
        document = a_longtask("ended", api.namespace, args=["x"])

        answer = api.run("replace", "--subresource=status", "-f", "-", document=document)
        assert refused(answer, "status.attempt never falls")
        assert accepted(api.run("replace", "-f", "-", document=document))

        assert api.get(ended)["status"] == ENDED

    @pytest.mark.parametrize(
        "change",
        [
            {"attempt": 4},
            {"run": 3, "conditions": [condition("Finished", "False")]},
            {"run": 3, "conditions": []},
            {"conditions": [condition("Finished", "True")]},
            {"phase": "Succeeded"},
        ],
        ids=str,
    )
    def test_allowed(self, api: Api, ended: str, change: dict[str, Any]) -> None:
        assert accepted(api.status("ended", change))

    def test_a_second_run_can_end_too(self, api: Api, ended: str) -> None:
        assert accepted(api.status("ended", {"run": 3, **running(run=3, attempt=4)}))
        assert accepted(api.status("ended", {"conditions": [condition("Finished", "True")]}))
        assert refused(api.status("ended", {"conditions": [condition("Finished", "False")]}), FINISHED_STAYS)

    def test_the_largest_status_fits_the_cost_budget(self, api: Api) -> None:
        stored(api, "full")
        conditions = [{**condition(f"{'t' * 300}{i}", "True"), "message": "m" * 1500} for i in range(15)]
        conditions.append(condition("Finished", "True"))
        attempts = [{"number": i, "run": 1, "generation": 1, "message": "m" * 1024} for i in range(1, 11)]
        status = {**ENDED, "conditions": conditions, "attempts": attempts}

        assert accepted(api.status("full", status))
        assert accepted(api.status("full", {**status, "attempt": 4}))
