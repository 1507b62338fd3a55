"""A worker without the SDK whose first attempt tries all that a zombie can try: a checkpoint, a report, a result.

The test sends this file's text as the container's program. Attempt 1 saves to S3 and reports again and again; told by
409 that it has a successor, it does both once more and leaves a result and that checkpoint as its last word. Attempt 2
saves once, waits until that counts, then for a signal, and leaves the result.
"""

import hashlib
import hmac
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
PLACE = os.environ["LONGTASK_CHECKPOINT_URI"]
PLAN = json.loads(os.environ["LONGTASK_PAYLOAD"])
TRUST = ssl.create_default_context(cafile=os.environ["LONGTASK_CA_FILE"])
#: What each report offered, and the code of its answer; 0: none.
heard = []


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def put(uri, body):
    """Store an object, signed as S3 demands it (Signature Version 4)."""
    endpoint, region = os.environ["AWS_ENDPOINT_URL_S3"], os.environ["AWS_REGION"]
    host, path = endpoint.partition("//")[2], "/" + uri.removeprefix("s3://")
    moment, names = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()), "host;x-amz-content-sha256;x-amz-date"
    scope, digest = f"{moment[:8]}/{region}/s3/aws4_request", sha256(body)
    asked = f"PUT\n{path}\n\nhost:{host}\nx-amz-content-sha256:{digest}\nx-amz-date:{moment}\n\n{names}\n{digest}"
    signed, key = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{sha256(asked.encode())}", os.environ["AWS_SECRET_ACCESS_KEY"]
    key = f"AWS4{key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    credential = f"Credential={os.environ['AWS_ACCESS_KEY_ID']}/{scope}"
    signature = f"Signature={hmac.digest(key, signed.encode(), 'sha256').hex()}"
    headers = {"x-amz-content-sha256": digest, "x-amz-date": moment}
    headers["Authorization"] = f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={names}, {signature}"
    urllib.request.urlopen(urllib.request.Request(endpoint + path, body, headers, method="PUT"), timeout=30).read()


def save(number):
    body = json.dumps({"attempt": ATTEMPT, "next": number}).encode()
    uri = f"{PLACE}{number}/manifest.json"
    put(uri, body)
    return {"uri": uri, "sha256": sha256(body), "sizeBytes": len(body)}


def report(number, offer):
    """Report and return code and answer."""
    body = {"sequence": time.time_ns() // 1000, "done": number, "total": 1000, "message": f"attempt {ATTEMPT}"}
    token = Path(os.environ["LONGTASK_TOKEN_FILE"]).read_text()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    text = json.dumps({**body, "checkpoint": offer}).encode()
    code, answer = 0, {}
    try:
        request = urllib.request.Request(os.environ["LONGTASK_REPORT_URL"], text, headers)
        with urllib.request.urlopen(request, context=TRUST, timeout=10) as reply:
            code, answer = reply.status, json.load(reply)
    except urllib.error.HTTPError as refusal:
        code, answer = refusal.code, json.load(refusal)
    except OSError:
        pass
    heard.append([offer["uri"], code])
    return code, answer


def leave(offer):
    outcome = {"longtask": 1, "result": {"attempt": ATTEMPT}, "checkpoint": offer}
    Path("/dev/termination-log").write_text(json.dumps(outcome))


def be_zombie():
    """Work until told to stop; then try all of it once more."""
    number, stop = 0, False
    while not stop:
        number += 1
        code, answer = report(number, save(number))
        stop = code == 409 and answer["stop"]
        time.sleep(PLAN["pause"])
    offer = save(number + 1)
    report(number + 1, offer)
    put(f"{PLACE}heard.json", json.dumps(heard).encode())
    leave(offer)
    sys.exit(0 if PLAN["stubborn"] else 79)


def be_successor():
    offer = save(1)
    while report(1, offer)[1].get("checkpoint", {}).get("uri") != offer["uri"]:
        time.sleep(PLAN["pause"])
    signal.sigwait({signal.SIGUSR1})
    leave(offer)


signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
be_zombie() if ATTEMPT == 1 else be_successor()
