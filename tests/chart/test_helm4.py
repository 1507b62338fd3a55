"""Helm 4 reads the chart as Helm 3 does."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import yaml

from tests.chart.rendering import CHART, EVERYTHING, KUBE_VERSION, NAMESPACE, binary, objects


def helm_4(*args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [binary("helm"), *args]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=300, check=False)


def template(values: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    where = ["--namespace", NAMESPACE, "--kube-version", KUBE_VERSION]
    return helm_4("template", "longtask", str(CHART), *where, "--values", "-", stdin=json.dumps(values))


def test_it_is_helm_4() -> None:
    assert helm_4("version", "--short").stdout.startswith("v4.")


def test_lint_is_clean() -> None:
    done = helm_4("lint", "--strict", str(CHART), "--kube-version", KUBE_VERSION)
    assert "0 chart(s) failed" in done.stdout, done.stderr


def test_both_render_the_same_objects() -> None:
    def key(item: dict[str, Any]) -> tuple[str, str]:
        return item["kind"], item["metadata"]["name"]

    done = template(EVERYTHING)
    assert done.returncode == 0, done.stderr
    rendered = [item for item in yaml.safe_load_all(done.stdout) if item]
    assert sorted(rendered, key=key) == sorted(objects(EVERYTHING), key=key)


def test_an_unknown_value_is_refused() -> None:
    done = template({"image": {"noSuchKey": 1}})
    assert done.returncode != 0
    assert "noSuchKey" in done.stderr


def test_a_size_can_be_removed_with_null() -> None:
    done = template({"ladder": {"4": None}})
    text = "1=2Gi,3Gi,4Gi,5Gi,6Gi,7Gi,8Gi;2=4Gi,5Gi,6Gi,7Gi,8Gi"
    assert f'{text}"' in done.stdout
