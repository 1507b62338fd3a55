"""Write every generated file of the repository, or with --check say which one is out of date.

python tools/generate.py            writes
python tools/generate.py --check    exit code 1 when a file differs from what would be written
"""

from __future__ import annotations

import argparse
import difflib
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "operator")]

from longtask_operator.api.crd import longtask_crd, tenantquota_crd  # noqa: E402
from tools.reference import field_reference  # noqa: E402

HEADER = "# Generated from the models in operator/longtask_operator/api by tools/generate.py. Do not edit.\n"


class _Dumper(yaml.SafeDumper):
    """Plain YAML: no anchors, long sentences on one line."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def generated_files() -> dict[str, str]:
    """Return path (relative to the repository) and text of every generated file."""
    files = {}
    for crd in (longtask_crd(), tenantquota_crd()):
        names, text = crd["spec"]["names"], HEADER + to_yaml(crd)
        files[f"crds/{names['plural']}.yaml"] = text
        files[f"charts/longtask/files/crds/{names['plural']}.yaml"] = text  # Helm reads nothing outside of the chart
        files[f"docs/reference/{names['singular']}.md"] = field_reference(crd)
    return files


def to_yaml(document: dict[str, Any]) -> str:
    """Return *document* as YAML in its own order."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True)


def main(arguments: list[str] | None = None) -> int:
    """Write or check; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 on a difference")
    options = parser.parse_args(arguments)
    stale = [path for path, text in generated_files().items() if _current(path) != text]
    for path in stale:
        _report(path) if options.check else _write(path)
    return 1 if options.check and stale else 0


def _current(path: str) -> str:
    file = ROOT / path
    return file.read_text(encoding="utf-8") if file.exists() else ""


def _write(path: str) -> None:
    (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
    (ROOT / path).write_text(generated_files()[path], encoding="utf-8")
    print(f"wrote {path}")


def _report(path: str) -> None:
    print(f"{path} is out of date; run: python tools/generate.py")
    difference = difflib.unified_diff(
        _current(path).splitlines(), generated_files()[path].splitlines(), "now", "generated", lineterm="", n=1
    )
    print("\n".join(difference))


if __name__ == "__main__":
    sys.exit(main())
