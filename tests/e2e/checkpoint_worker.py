"""A worker without the SDK that keeps to the wire format: adds up numbers, one log line each, and saves its sum.

The test sends this file's text as the container's program. It reports what it saved until the operator's answer
echoes it, and ends on `cancel`, on 409 and on SIGTERM. Its folder is that of the claim, where the test reads along.
Its first attempt goes no further than the plan says: it rests there, reporting on, saves if it is asked to, and waits
for its end.
"""

import hashlib
import json
import os
import signal
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ATTEMPT = int(os.environ["LONGTASK_ATTEMPT"])
FOLDER = Path(os.environ["LONGTASK_CHECKPOINT_URI"].removeprefix("file://"))
PLAN = json.loads(os.environ["LONGTASK_PAYLOAD"])
KEEP = int(os.environ["LONGTASK_CHECKPOINT_KEEP"])


def say(word, **facts):
    """Append a line to the log that all attempts share."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER.parent / "log").open("a") as log:
        log.write(json.dumps({"word": word, "attempt": ATTEMPT, **facts}) + "\n")


class Checkpoints:
    """What was saved, offered until it stands, and pruned after that."""

    def __init__(self):
        self.offer, self.names, self.requested, self.answered = None, [], False, False
        self.resumed_from = ""
        self.sequence = int(time.time())

    def load(self):
        newest = {"uri": os.environ.get("LONGTASK_RESUME_URI"), "sha256": os.environ.get("LONGTASK_RESUME_SHA256")}
        older = json.loads(os.environ.get("LONGTASK_RESUME_OLDER", "[]"))
        for one in [newest, *older] if newest["uri"] else []:
            path = Path(one["uri"].removeprefix("file://"))
            raw = path.read_bytes() if path.exists() else b""
            if hashlib.sha256(raw).hexdigest() == one["sha256"]:
                self.resumed_from = one["uri"]
                return json.loads(raw)
            say("unreadable", uri=one["uri"])
        return {"next": 0, "sum": 0}

    def save(self, state):
        raw = json.dumps(state).encode()
        path = FOLDER / f"{state['next']:06}.json"
        path.with_suffix(".part").write_bytes(raw)
        path.with_suffix(".part").rename(path)
        self.names.append(path)
        self.offer = {"uri": f"file://{path}", "sha256": hashlib.sha256(raw).hexdigest(), "sizeBytes": len(raw)}
        say("saved", uri=self.offer["uri"])

    def report(self, done):
        self.sequence += 1
        body = {"sequence": self.sequence, "done": done, "total": PLAN["numbers"], "resumedFrom": self.resumed_from}
        answer = post(body | ({"checkpoint": self.offer} if self.offer else {}))
        self.requested = answer.get("checkpointRequested", False)
        standing = answer.get("checkpoint", {}).get("uri")
        self.answered = self.offer is None or standing == self.offer["uri"]
        if self.answered and self.offer:
            for path in self.names[:-KEEP]:
                path.unlink(missing_ok=True)
        if answer.get("cancel"):
            sys.exit(130)


def post(body):
    """Send a report; a newer attempt ends this one, all other refusals are an empty answer."""
    token = Path(os.environ["LONGTASK_TOKEN_FILE"]).read_text()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(os.environ["LONGTASK_REPORT_URL"], json.dumps(body).encode(), headers)
    trust = ssl.create_default_context(cafile=os.environ["LONGTASK_CA_FILE"])
    try:
        with urllib.request.urlopen(request, context=trust, timeout=10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as refusal:
        say("refused", code=refusal.code)
        if refusal.code == 409 and json.load(refusal)["stop"]:
            sys.exit(79)
    except OSError as error:
        say("unheard", error=str(error))
    return {}


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    checkpoints = Checkpoints()
    state = checkpoints.load()
    say("began", next=state["next"])
    for number in range(state["next"], PLAN["numbers"]):
        state = {"next": number + 1, "sum": state["sum"] + number}
        say("did", number=number)
        time.sleep(0.2)
        rests = ATTEMPT == 1 and PLAN.get("restsAt") == number
        while rests and not checkpoints.requested:
            checkpoints.report(number)
            time.sleep(0.2)
        if checkpoints.requested or state["next"] % PLAN["every"] == 0:
            checkpoints.save(state)
        checkpoints.report(state["next"])
        # The pace of this test is that of the operator's acceptance, so that the order of things is certain.
        while not checkpoints.answered:
            time.sleep(1)
            checkpoints.report(state["next"])
        while rests:
            checkpoints.report(state["next"])
            time.sleep(0.2)
        if ATTEMPT == 1 and PLAN.get("failAt") == state["next"]:
            sys.exit(65)
    outcome = {"longtask": 1, "result": {"sum": state["sum"], "attempt": ATTEMPT}}
    Path("/dev/termination-log").write_text(json.dumps(outcome))
    say("ended")


main()
