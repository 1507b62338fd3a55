"""Writes docs/reference/chart-values.md from the comments of the chart's values.yaml.

    python tools/chart_docs.py            write the page
    python tools/chart_docs.py --check    exit with 1 when the page is stale

Every key must have a comment right above it; one without is an error.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
CHART = ROOT / "charts" / "longtask"
PAGE = ROOT / "docs" / "reference" / "chart-values.md"
KEY = re.compile(r'^(?P<indent> *)"?(?P<key>[A-Za-z0-9_.-]+)"?:')
#: Sections whose inside is a Kubernetes structure: one row each.
STRUCTURES = {("resources",), ("podSecurityContext",), ("securityContext",), ("affinity",)}

HEAD = """# Values of the chart

Made by `tools/chart_docs.py` from the comments in `charts/longtask/values.yaml`. Unknown keys are refused.

"""


def is_section(schema: dict[str, Any], path: tuple[str, ...]) -> bool:
    """Tell whether the key at path only groups other keys. Raises KeyError for a key that the schema does not have."""
    for key in path:
        schema = schema["properties"][key]
    return "properties" in schema and path not in STRUCTURES


def described_keys(text: str, schema: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield (path, comment) of every key, in the order of the file.

    Raises:
        ValueError: for a key without a comment.
    """
    path: tuple[str, ...] = ()
    comment: list[str] = []
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            comment.append(line.lstrip("# ").rstrip())
            continue
        match = KEY.match(line)
        depth = len(match["indent"]) // 2 if match else 0
        inside_value = bool(path[:depth]) and not is_section(schema, path[:depth])
        if match and not inside_value:
            path = (*path[:depth], match["key"])
            if not comment:
                raise ValueError(f"values.yaml: {'.'.join(path)} has no comment")
            yield path, " ".join(comment)
        comment = []


def cell(value: Any) -> str:
    """Return a default as one table cell."""
    return "`" + json.dumps(value, ensure_ascii=False).replace("|", "\\|") + "`"


def page() -> str:
    """Return the whole page."""
    text = (CHART / "values.yaml").read_text()
    values = yaml.safe_load(text)
    schema = json.loads((CHART / "values.schema.json").read_text())
    lines = ["| key | default | what it does |", "| --- | --- | --- |"]
    for path, comment in described_keys(text, schema):
        value: Any = values
        for key in path:
            value = value[key]
        name = ".".join(path)
        row = (
            f"| **`{name}`** | | {comment} |"
            if is_section(schema, path)
            else f"| `{name}` | {cell(value)} | {comment} |"
        )
        lines.append(row)
    return HEAD + "\n".join(lines) + "\n"


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only compare")
    wanted = page()
    if not parser.parse_args().check:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(wanted)
        return 0
    if PAGE.exists() and PAGE.read_text() == wanted:
        return 0
    print(f"{PAGE.relative_to(ROOT)} is stale: run python tools/chart_docs.py")
    return 1


if __name__ == "__main__":
    sys.exit(main())
