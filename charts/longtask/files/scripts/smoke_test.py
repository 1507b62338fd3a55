"""Runs one tiny LongTask and waits until it is finished. `helm test` starts it in a pod.

Standard library only: it runs in the operator's image, but stands for any user. Ends with 0
when the task succeeded, with 1 and a sentence otherwise; the task is removed in both cases.
"""

# ruff: noqa: T201 -- what it prints is its log
from __future__ import annotations

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ACCOUNT = Path(os.environ.get("ACCOUNT_DIR", "/var/run/secrets/kubernetes.io/serviceaccount"))
ADDRESS = os.environ["KUBERNETES_SERVICE_HOST"]
HOST = f"{f'[{ADDRESS}]' if ':' in ADDRESS else ADDRESS}:{os.environ['KUBERNETES_SERVICE_PORT']}"
NAMESPACE = os.environ["TASK_NAMESPACE"]
TASKS = f"/apis/longtask.dev/v1alpha1/namespaces/{NAMESPACE}/longtasks"


def call(method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the answer of the API server. Raises HTTPError on a refusal, OSError when it is out of reach."""
    request = urllib.request.Request(f"https://{HOST}{path}", method=method)
    request.add_header("Authorization", f"Bearer {(ACCOUNT / 'token').read_text()}")
    request.add_header("Content-Type", "application/json")
    data = None if body is None else json.dumps(body).encode()
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    with urllib.request.urlopen(request, data, timeout=10, context=context) as response:
        answer: dict[str, Any] = json.load(response)
        return answer


def create() -> str:
    """Create the task and return its name."""
    spec = {
        "image": os.environ["TASK_IMAGE"],
        "command": ["python3", "-c", "print('longtask helm test')"],
        "retry": {"limits": {"application": 0}},
    }
    body = {
        "apiVersion": "longtask.dev/v1alpha1",
        "kind": "LongTask",
        "metadata": {"generateName": "helm-test-"},
        "spec": spec,
    }
    return str(call("POST", TASKS, body)["metadata"]["name"])


def create_patiently() -> str:
    """Return the name of the task; a permission a second old, or an API server just started, gets some time.

    503 gets more than a minute: mutating policies look for new kinds once a minute, and refuse them until then.
    """
    began = time.monotonic()
    while True:
        try:
            return create()
        except OSError as error:  # an HTTPError is one, too
            code = getattr(error, "code", 0)
            patience = 75 if code == 503 else 15 if code in (0, 403, 429, 500, 502, 504) else 0
            if time.monotonic() > began + patience:
                raise
            print(f"not created yet: {error}", flush=True)
        time.sleep(1)


def wait(name: str, seconds: float) -> dict[str, dict[str, str]]:
    """Return the task's conditions by type, once Finished is True or the time is over."""
    end = time.monotonic() + seconds
    shown = ""
    while True:
        status = call("GET", f"{TASKS}/{name}").get("status", {})
        conditions = {condition["type"]: condition for condition in status.get("conditions", [])}
        line = f"{name}: {status.get('phase', 'not seen by the operator yet')} {status.get('reason', '')}"
        if line != shown:
            print(shown := line, flush=True)
        if conditions.get("Finished", {}).get("status") == "True" or time.monotonic() > end:
            return conditions
        time.sleep(1)


def verdict(conditions: dict[str, dict[str, str]]) -> str:
    """Return what is wrong with a task of these conditions; empty when it succeeded."""
    if conditions.get("Succeeded", {}).get("status") == "True":
        return ""
    if not conditions:
        return "the operator has not looked at the task: see its log"
    shown = "; ".join(f"{c['type']}={c['status']} {c['reason']}: {c['message']}" for c in conditions.values())
    return f"the task did not succeed: {shown}"


def main() -> int:
    """Return the exit code."""
    try:
        name = create_patiently()
        try:
            wrong = verdict(wait(name, float(os.environ["TIMEOUT_SECONDS"])))
        finally:
            call("DELETE", f"{TASKS}/{name}")
    except urllib.error.HTTPError as error:
        wrong = f"the API server refused: {json.loads(error.read()).get('message', error)}"
    except OSError as error:
        wrong = f"the API server is out of reach: {error}"
    print(wrong or "the task succeeded")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
