"""A real HTTPS server that takes reports and answers as a test says, and an attempt's environment for it."""

from __future__ import annotations

import datetime as dt
import http.server
import ipaddress
import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

WORKER = Path(__file__).parents[2] / "worker-image"
#: How long anything may take that a test waits for, on a machine that does much else.
PATIENCE = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    token: str
    path: str
    raw: bytes

    @property
    def body(self) -> dict[str, Any]:
        fields: dict[str, Any] = json.loads(self.raw)
        return fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    status: int = 200
    fields: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    #: hang: never answers; reset: breaks the connection; garbage: answers, but not in HTTP
    fault: str = ""


def ok(**fields: Any) -> Reply:
    return Reply(fields={"cancel": False, "checkpointRequested": False, "nextReportSeconds": 1, **fields})


class ReportServer:
    """Serves on loopback until closed; `answer` may be replaced at any time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.reports: list[Received] = []
        self.answer: Callable[[Received], Reply] = lambda _received: ok()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca_file = directory / "ca.crt"
        self.token_file = directory / "token"
        self.token_file.write_text("token-1\n")
        self.released = threading.Event()
        self.connections = 0
        self._changed = threading.Condition()
        self.rotate_ca()
        self._server = _serve(self, port=0)
        self._port = self._server.server_port
        self.url = f"https://127.0.0.1:{self._port}/v1/namespaces/n/longtasks/t/attempts/1/report"

    def rotate_ca(self, *, tell: bool = True) -> None:
        """Serve with a certificate of a new CA; *tell*: the worker's file follows."""
        ca, cert, key = make_chain()
        pair = self.directory / "server.pem"
        pair.write_bytes(key + cert)
        self.context.load_cert_chain(pair)
        self._ca = ca
        if tell:
            self.publish_ca()

    def publish_ca(self) -> None:
        new = self.ca_file.with_suffix(".new")
        new.write_bytes(self._ca)
        new.rename(self.ca_file)

    def environment(self, **more: str) -> dict[str, str]:
        return {
            "LONGTASK_UID": "uid-1",
            "LONGTASK_NAME": "t",
            "LONGTASK_NAMESPACE": "n",
            "LONGTASK_REPORT_URL": self.url,
            "LONGTASK_TOKEN_FILE": str(self.token_file),
            "LONGTASK_CA_FILE": str(self.ca_file),
            "LONGTASK_TERMINATION_LOG": str(self.directory / "termination-log"),
            **more,
        }

    def receive(self, received: Received) -> None:
        with self._changed:
            self.reports.append(received)
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[list[Received]], object]) -> None:
        """Return once *condition* holds for the reports so far."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self.reports), PATIENCE), self.reports[-3:]

    def stop_listening(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def listen_again(self) -> None:
        self._server = _serve(self, port=self._port)

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    owner: ReportServer

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.settimeout(PATIENCE)
        self.owner.connections += 1
        try:
            with self.owner.context.wrap_socket(request, server_side=True) as secured:
                super().finish_request(secured, client_address)
        except (OSError, ValueError):  # a client that does not trust us, or has gone
            pass


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        owner: ReportServer = self.server.owner  # type: ignore[attr-defined]
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        token = self.headers["Authorization"].removeprefix("Bearer ")
        received = Received(token=token, path=self.path, raw=raw)
        reply = owner.answer(received)
        owner.receive(received)
        if reply.fault:
            self._fail(owner, reply.fault)
            return
        body = json.dumps(reply.fields).encode()
        self.send_response(reply.status)
        for key, value in {"Content-Length": str(len(body)), **reply.headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def _fail(self, owner: ReportServer, fault: str) -> None:
        self.close_connection = True
        if fault == "hang":
            owner.released.wait()
        elif fault == "garbage":
            self.wfile.write(b"hello\r\n\r\n")
        else:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, *_arguments: Any) -> None: ...


def _serve(owner: ReportServer, port: int) -> _Server:
    server = _Server(("127.0.0.1", port), _Handler)
    server.owner = owner
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server


def make_chain() -> tuple[bytes, bytes, bytes]:
    """Return a CA, a certificate for 127.0.0.1 and its key, as PEM."""
    now = dt.datetime.now(dt.UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test CA")])

    def builder(name: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(ca_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(minutes=5))
            .not_valid_after(now + dt.timedelta(days=1))
        )

    ca = builder(ca_name, ca_key.public_key()).add_extension(x509.BasicConstraints(True, None), critical=True)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    leaf = builder(x509.Name([]), key.public_key()).add_extension(names, critical=True)
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return (
        ca.sign(ca_key, hashes.SHA256()).public_bytes(pem),
        leaf.sign(ca_key, hashes.SHA256()).public_bytes(pem),
        private,
    )


def start_worker(code: str, env: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    """Start a program of a user: *code* defines `main`, in a process of its own."""
    program = f"from longtask_worker import *\nimport time\n{code}\nrun(main)\n"
    return _start([sys.executable, "-c", program, *arguments], env)


def start_module(module: str, env: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    return _start([sys.executable, "-m", module, *arguments], env)


def _start(command: list[str], env: dict[str, str]) -> subprocess.Popen[str]:
    whole = {"PATH": os.environ["PATH"], "PYTHONPATH": str(WORKER), "PYTHONUTF8": "1", **env}
    return subprocess.Popen(command, env=whole, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def end(process: subprocess.Popen[str], *, seconds: float = PATIENCE) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr of a process that ends by itself."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"still running\n{out}\n{err}") from None
    return process.returncode, out, err
