"""The results of all benches beside what is demanded: `summary.json`, `table.md`, plots, a page of documentation.

    python -m bench.report [--out build/bench]

writes the page anew from the results that are there.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import plots
from bench.demands import BENCHES, DEMANDS, LEAST, Demand
from bench.lib.cli import OUT, ROOT

Json = dict[str, Any]
PAGE = ROOT / "docs" / "reference" / "performance.md"
IMAGES = ROOT / "docs" / "images"
_TEMPLATE = ROOT / "bench" / "page.md.template"


def load(folder: Path) -> dict[str, Json]:
    """Return the results that are in *folder*, by bench."""
    found = {name: folder / f"{name}.json" for name in BENCHES}
    return {name: json.loads(path.read_text()) for name, path in found.items() if path.exists()}


def write(folder: Path) -> None:
    """Write summary, table and plots of the results that are in *folder*."""
    results = load(folder)
    (folder / "summary.json").write_text(json.dumps(summary(results), indent=2) + "\n")
    (folder / "table.md").write_text(table(results))
    plots.draw(results, folder)


def write_page(folder: Path) -> None:
    """Write the page of the documentation, and the plots that it shows."""
    results = load(folder)
    IMAGES.mkdir(exist_ok=True)
    for name in plots.NAMES:
        if (folder / name).exists():
            shutil.copy(folder / name, IMAGES / f"bench-{name}")
    PAGE.write_text(page(results))


def summary(results: Mapping[str, Json]) -> list[Json]:
    """Return each demand with what was measured, also where no operator runs; None where nothing was."""
    rows = []
    for demand in DEMANDS:
        value = _measured(results, demand)
        rows.append(
            {
                "bench": demand.bench,
                "figure": demand.name,
                "title": demand.title,
                "demanded": demand.demanded,
                "measured": value,
                "met": None if value is None else demand.is_met(value),
                "without_operator": _measured(results, demand, LEAST),
            }
        )
    return rows


def table(results: Mapping[str, Json]) -> str:
    """Return the demands, what was measured, and the same where no operator runs, as a table in Markdown."""
    lines = ["| what | demanded | measured | | without an operator |", "| --- | --- | --- | --- | --- |"]
    for demand in DEMANDS:
        value, least = _measured(results, demand), _measured(results, demand, LEAST)
        said = "not measured" if value is None else _with_unit(value, demand)
        verdict = "" if value is None else "met" if demand.is_met(value) else "**not met**"
        bare = "" if least is None else _with_unit(least, demand)
        lines.append(f"| {demand.title} | {demand.demanded} | {said} | {verdict} | {bare} |")
    return "\n".join(lines) + "\n"


def _with_unit(value: float, demand: Demand) -> str:
    return f"{value:.3g} {demand.unit}".strip()


def page(results: Mapping[str, Json]) -> str:
    """Return the page of the documentation."""
    images = [name for name in plots.NAMES if (IMAGES / f"bench-{name}").exists()]
    shown = "\n\n".join(f"![{plots.NAMES[name]}](../images/bench-{name})" for name in images)
    return _TEMPLATE.read_text().format(
        table=table(results), machine=_machine(results), details=_details(results), images=shown
    )


def _measured(results: Mapping[str, Json], demand: Demand, suffix: str = "") -> float | None:
    value = results.get(demand.bench, {}).get("figures", {}).get(demand.name + suffix)
    return None if value is None else float(value)


def _machine(results: Mapping[str, Json]) -> str:
    """Return in words on which machine, when, and at which scale it was measured."""
    if not results:
        return "Nothing was measured yet."
    machine = next(iter(results.values()))["machine"]
    loads = ", ".join(f"{name} {result['machine']['load'][0]:g}" for name, result in results.items())
    scales = sorted({str(result["scale"]) for result in results.values()})
    times = sorted(str(result["began"]) for result in results.values())
    return (
        f"Scale {' and '.join(scales)}, {times[0]} to {times[-1]}. {machine['cpus']} processors ({machine['cpu']}), "
        f"{machine['memory_gib']} GiB, Linux {machine['kernel']}, Python {machine['python']}. Control plane, fake "
        f"nodes, operator and bench share these processors. Load average at the end of each bench: {loads}."
    )


def _details(results: Mapping[str, Json]) -> str:
    """Return what helps to understand the figures, one paragraph for each bench."""
    paragraphs = []
    for name, result in results.items():
        said = [f"{key}: {_text(value)}" for key, value in result["details"].items()]
        if result["error"]:
            said.append(f"did not come to its end: {result['error']}")
        paragraphs.append(f"### {name}\n\n" + "\n".join(f"- {line}" for line in said))
    return "\n\n".join(paragraphs)


def _text(value: Any) -> str:
    """Return *value* as people read it: lists of rounds as their number only, the plots show them."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return "; ".join(_text(inner) for inner in value)
    return f"`{value}`"


def main() -> int:
    """Write table, plots and page from the results that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the results")
    arguments = parser.parse_args()
    write(arguments.out)
    write_page(arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
