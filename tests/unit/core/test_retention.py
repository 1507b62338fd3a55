from __future__ import annotations

import pytest

from longtask_operator.core.retention import expires_at, is_tracked
from tests.builders import at


@pytest.mark.parametrize(("ttl", "expected"), [(None, None), (0, at(5)), (60, at(65))])
def test_when_a_finished_task_goes(ttl: int | None, expected: object) -> None:
    assert expires_at(at(5), ttl) == expected


@pytest.mark.parametrize(
    ("labels", "annotations", "expected"),
    [
        ({}, {}, False),
        ({"app": "x"}, {"longtask.dev/created-by": "alice"}, False),
        ({"argocd.argoproj.io/instance": "x"}, {}, True),
        ({"kustomize.toolkit.fluxcd.io/name": "x"}, {}, True),
        ({"helm.toolkit.fluxcd.io/name": "x"}, {}, True),
        ({}, {"argocd.argoproj.io/tracking-id": "x"}, True),
    ],
)
def test_what_a_gitops_tool_tracks(labels: dict[str, str], annotations: dict[str, str], expected: bool) -> None:
    assert is_tracked(labels, annotations) == expected
