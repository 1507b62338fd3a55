"""Writes argocd-cm.yaml, the settings of Argo CD for LongTasks, from the Lua files beside it.

python gitops/argo-cd/build.py            write it
python gitops/argo-cd/build.py --check    exit with 1 when it is stale
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
TARGET = HERE / "argocd-cm.yaml"
ACTIONS = ("suspend", "resume", "cancel", "redrive")

HEAD = """# Settings of Argo CD for LongTasks. Made by build.py from the Lua files in this folder.
#   kubectl patch configmap argocd-cm -n argocd --patch-file argocd-cm.yaml
data:
"""
IGNORED = """  # Progress changes often. A change of health still refreshes the application.
  resource.customizations.ignoreResourceUpdates.longtask.dev_LongTask: |
    jsonPointers:
      - /status
"""


def block(text: str, indent: int) -> str:
    """Return the text as the inside of a YAML block, with no space on empty lines."""
    return "".join(f"{' ' * indent}{line}".rstrip() + "\n" for line in text.splitlines())


def action(name: str) -> str:
    """Return one entry of `definitions`."""
    lua = (HERE / "actions" / f"{name}.lua").read_text()
    return f"      - name: {name}\n        action.lua: |\n{block(lua, 10)}"


def document() -> str:
    """Return the whole patch."""
    health = (HERE / "health.lua").read_text()
    discovery = (HERE / "actions" / "discovery.lua").read_text()
    actions = "".join(action(name) for name in ACTIONS)
    return (
        f"{HEAD}  resource.customizations.health.longtask.dev_LongTask: |\n{block(health, 4)}"
        f"  resource.customizations.actions.longtask.dev_LongTask: |\n    discovery.lua: |\n{block(discovery, 6)}"
        f"    definitions:\n{actions}{IGNORED}"
    )


def main() -> int:
    """Return the exit code."""
    if "--check" not in sys.argv:
        TARGET.write_text(document())
        return 0
    if TARGET.exists() and TARGET.read_text() == document():
        return 0
    sys.stderr.write("argocd-cm.yaml is stale: run python gitops/argo-cd/build.py\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
