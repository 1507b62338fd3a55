"""Takes the finalizer longtask.dev/accounting off every pod. `helm uninstall` starts it in a pod.

Waits until no pod of the operator is left, so that no new attempt appears behind its back, then
goes on until two passes in a row find nothing. Standard library only. Ends with 0 when all
pods are released; the Job's deadline ends it otherwise.
"""

# ruff: noqa: T201 -- what it prints is its log
from __future__ import annotations

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

ACCOUNT = Path(os.environ.get("ACCOUNT_DIR", "/var/run/secrets/kubernetes.io/serviceaccount"))
ADDRESS = os.environ["KUBERNETES_SERVICE_HOST"]
HOST = f"{f'[{ADDRESS}]' if ':' in ADDRESS else ADDRESS}:{os.environ['KUBERNETES_SERVICE_PORT']}"
FINALIZER = "longtask.dev/accounting"
SELECTOR = "app.kubernetes.io/managed-by=longtask"
PAUSE_SECONDS = 2.0


def call(method: str, path: str, body: Any = None) -> dict[str, Any]:
    """Return the answer of the API server. Raises HTTPError on a refusal, OSError when it is out of reach."""
    request = urllib.request.Request(f"https://{HOST}{path}", method=method)
    request.add_header("Authorization", f"Bearer {(ACCOUNT / 'token').read_text()}")
    request.add_header("Content-Type", "application/strategic-merge-patch+json")
    data = None if body is None else json.dumps(body).encode()
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    with urllib.request.urlopen(request, data, timeout=10, context=context) as response:
        answer: dict[str, Any] = json.load(response)
        return answer


def pods(path: str, selector: str) -> Iterator[dict[str, Any]]:
    """Yield all pods of a list path, page by page."""
    query = {"labelSelector": selector, "limit": "500", "continue": ""}
    while True:
        page = call("GET", f"{path}?{urllib.parse.urlencode(query)}")
        yield from page["items"]
        query["continue"] = page["metadata"].get("continue", "")
        if not query["continue"]:
            return


def operator_runs() -> bool:
    """Tell whether a pod of the operator is still there."""
    path = f"/api/v1/namespaces/{os.environ['OPERATOR_NAMESPACE']}/pods"
    return any(pods(path, os.environ["OPERATOR_SELECTOR"]))


def release(metadata: dict[str, Any]) -> None:
    """Remove our finalizer, and no other, from one pod. A pod that is gone is fine."""
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": [FINALIZER]}}
    try:
        call("PATCH", f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}", patch)
        print(f"released {metadata['namespace']}/{metadata['name']}", flush=True)
    except urllib.error.HTTPError as error:
        if error.code != HTTPStatus.NOT_FOUND:
            raise


def release_all() -> int:
    """Release every pod that has our finalizer now; return how many there were."""
    held = [pod["metadata"] for pod in pods("/api/v1/pods", SELECTOR)]
    held = [metadata for metadata in held if FINALIZER in metadata.get("finalizers", ())]
    for metadata in held:
        release(metadata)
    return len(held)


def main() -> int:
    """Return 0 once all pods are released."""
    while operator_runs():
        print("waiting for the operator to stop", flush=True)
        time.sleep(PAUSE_SECONDS)
    empty_passes = 0
    while empty_passes < 2:
        empty_passes = 0 if release_all() else empty_passes + 1
        time.sleep(PAUSE_SECONDS)
    print("no pod holds the finalizer any more")
    return 0


if __name__ == "__main__":
    sys.exit(main())
