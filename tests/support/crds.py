"""The CRDs on a bare API server, until it serves what they define."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.live import GROUP_PATH, await_

CRDS = Path(__file__).resolve().parents[2] / "crds"
KINDS = ("longtasks", "tenantquotas")


def install(control_plane: Any) -> None:
    """Apply the CRDs and wait until both kinds are served: that follows a moment after they are established."""
    control_plane.kubectl("apply", "-f", str(CRDS))
    names = [f"crd/{kind}.longtask.dev" for kind in KINDS]
    control_plane.kubectl("wait", "--for=condition=Established", *names, "--timeout=120s")
    await_("both kinds served", lambda: all(_is_served(control_plane, kind) for kind in KINDS), 120)


def _is_served(control_plane: Any, kind: str) -> bool:
    answer = control_plane.kubectl("get", "--raw", f"{GROUP_PATH}/{kind}?limit=1", check=False)
    return bool(answer.returncode == 0)
