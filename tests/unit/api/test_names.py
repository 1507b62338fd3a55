from __future__ import annotations

import re

import pytest

from longtask_operator.api import names

QUALIFIED = {key: value for key, value in vars(names).items() if key.startswith(("LABEL_", "ANNOTATION_", "FINALIZER"))}


@pytest.mark.parametrize("name", QUALIFIED.values(), ids=list(QUALIFIED))
def test_labels_annotations_and_finalizer_are_qualified_names(name: str) -> None:
    assert re.fullmatch(r"([a-z0-9.-]+)/[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", name)
    assert name.startswith(f"{names.GROUP}/") or name == names.LABEL_MANAGED_BY


def test_no_two_names_are_the_same() -> None:
    assert len(set(QUALIFIED.values())) == len(QUALIFIED)


def test_a_report_path_names_one_attempt() -> None:
    path = names.REPORT_PATH.format(namespace="team-a", name="wordcount", attempt=2)
    assert path == "/v1/namespaces/team-a/longtasks/wordcount/attempts/2/report"
