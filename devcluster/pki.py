"""Keys, certificates, tokens and kubeconfigs of one cluster. Identities are the ones Kubernetes' own RBAC knows."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Sequence
from pathlib import Path

from devcluster.paths import ClusterPaths
from devcluster.plan import API_SERVICE_IP, LOOPBACK, NODE_NAME, Plan
from devcluster.process import run

ADMIN = "admin"
# user of a token → its groups; the file's name is the part after the last colon
USERS = {
    ADMIN: "system:masters",
    "system:kube-controller-manager": "",
    "system:kube-scheduler": "",
    "system:kube-proxy": "",
    f"system:node:{NODE_NAME}": "system:nodes",
    "devcluster:coredns": "",
    "devcluster:kwok": "",
}
_CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "3650"]
_API_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")


def short(user: str) -> str:
    """File name of a user: `system:node:node-1` → `node-1`."""
    return user.rpartition(":")[2]


def create(paths: ClusterPaths, plan: Plan) -> None:
    """Write everything below `paths.pki` and the administrator's kubeconfig."""
    paths.pki.mkdir(parents=True, mode=0o700)
    _service_account_keys(paths.pki)
    _authority(paths.pki)
    names = [f"DNS:{name}" for name in (*_API_NAMES, "localhost")]
    addresses = [f"IP:{address}" for address in sorted({LOOPBACK, API_SERVICE_IP, plan.host})]
    _certificate(paths.pki, "apiserver", "/CN=kube-apiserver", [*names, *addresses])
    if plan.real:
        _certificate(paths.pki, "kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client", ["DNS:client"])
        _certificate(
            paths.pki,
            "kubelet",
            f"/O=system:nodes/CN=system:node:{NODE_NAME}",
            [f"DNS:{NODE_NAME}", f"IP:{plan.host}"],
        )
    _identities(paths, plan)


def admin_token(paths: ClusterPaths) -> str:
    """The administrator's bearer token."""
    return (paths.pki / "admin.token").read_text()


def kubeconfig(url: str, authority: bytes, token: str, context: str) -> str:
    """A kubeconfig as JSON, which is YAML."""
    cluster = {"server": url, "certificate-authority-data": base64.b64encode(authority).decode()}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": context, "cluster": cluster}],
        "users": [{"name": context, "user": {"token": token}}],
        "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
        "current-context": context,
    }
    return json.dumps(document, indent=2) + "\n"


def _identities(paths: ClusterPaths, plan: Plan) -> None:
    authority = (paths.pki / "ca.crt").read_bytes()
    rows = []
    for user, groups in USERS.items():
        token = secrets.token_hex(16)
        rows.append(f'{token},{user},{user},"{groups}"')
        config = kubeconfig(plan.api_url, authority, token, f"devcluster-{plan.spec.name}")
        _write_private(paths.component_kubeconfig(short(user)), config)
        if user == ADMIN:
            _write_private(paths.pki / "admin.token", token)
            _write_private(paths.kubeconfig, config)
    _write_private(paths.pki / "tokens.csv", "\n".join(rows) + "\n")


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def _service_account_keys(pki: Path) -> None:
    # RSA, as almost every real cluster signs its service account tokens
    run(["openssl", "genrsa", "-out", str(pki / "sa.key"), "2048"])
    run(["openssl", "rsa", "-in", str(pki / "sa.key"), "-pubout", "-out", str(pki / "sa.pub")])


def _authority(pki: Path) -> None:
    files = ["-keyout", str(pki / "ca.key"), "-out", str(pki / "ca.crt")]
    run(["openssl", "req", "-x509", *_CURVE, "-subj", "/CN=devcluster", *files])


def _certificate(pki: Path, name: str, subject: str, alternatives: Sequence[str]) -> None:
    key, request, certificate = (str(pki / f"{name}.{suffix}") for suffix in ("key", "csr", "crt"))
    extension = pki / f"{name}.ext"
    extension.write_text(f"subjectAltName={','.join(alternatives)}\nextendedKeyUsage=serverAuth,clientAuth\n")
    run(["openssl", "req", *_CURVE[:-2], "-subj", subject, "-keyout", key, "-out", request])
    authority = ["-CA", str(pki / "ca.crt"), "-CAkey", str(pki / "ca.key"), "-CAcreateserial"]
    signed = ["-days", "3650", "-extfile", str(extension), "-out", certificate]
    run(["openssl", "x509", "-req", "-in", request, *authority, *signed])
