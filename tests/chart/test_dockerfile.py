"""The operator's Dockerfile in step with the chart. That it builds and runs is tested end to end."""

from __future__ import annotations

import json
import re

import yaml

from tests.chart.rendering import CHART, ROOT, operator_container, value_at

TEXT = (ROOT / "operator" / "Dockerfile").read_text()
FINAL = TEXT[TEXT.rindex("\nFROM ") :]


def test_the_image_runs_as_the_user_of_the_chart() -> None:
    context = value_at(("podSecurityContext",))
    assert re.findall(r"^USER (.*)$", FINAL, re.MULTILINE)[-1] == f"{context['runAsUser']}:{context['runAsGroup']}"


def test_the_entry_point_is_the_command_of_the_chart() -> None:
    entry = re.search(r"^ENTRYPOINT (\[.*\])$", FINAL, re.MULTILINE)
    assert entry
    assert json.loads(entry[1]) == operator_container()["command"]


def test_the_ports_are_those_of_the_chart() -> None:
    exposed = re.search(r"^EXPOSE (.*)$", FINAL, re.MULTILINE)
    assert exposed
    assert {int(port) for port in exposed[1].split()} == {
        port["containerPort"] for port in operator_container()["ports"]
    }


def test_the_version_is_the_charts() -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    assert f'org.opencontainers.image.version="{version}"' in FINAL
    assert f'version = "{version}"' in (ROOT / "pyproject.toml").read_text()


def test_the_build_needs_no_network() -> None:
    assert "--no-index" in TEXT
    assert not re.search(r"\b(apt-get|curl|wget|git clone)\b", TEXT)
