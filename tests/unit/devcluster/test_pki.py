import base64
import json
import ssl
import stat
from pathlib import Path

import pytest

from devcluster import pki, plan
from devcluster.paths import ClusterPaths
from devcluster.plan import Spec


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> ClusterPaths:
    paths = ClusterPaths(root=tmp_path_factory.mktemp("cluster"))
    pki.create(paths, plan.choose(Spec(name="x")))
    return paths


def test_the_api_servers_certificate_is_signed_and_names_every_way_to_it(written: ClusterPaths) -> None:
    decoded = ssl._ssl._test_decode_cert(str(written.pki / "apiserver.crt"))  # type: ignore[attr-defined]
    names = {value for _, value in decoded["subjectAltName"]}
    assert {"localhost", "kubernetes.default.svc", "127.0.0.1", "10.96.0.1"} <= names
    assert any(name.startswith("10.213.") for name in names)
    context = ssl.create_default_context(cafile=str(written.pki / "ca.crt"))
    assert len(context.get_ca_certs()) == 1


def test_every_component_has_an_identity_of_its_own(written: ClusterPaths) -> None:
    rows = [line.split(",", 3) for line in (written.pki / "tokens.csv").read_text().splitlines()]
    assert len({token for token, *_ in rows}) == len(rows) == len(pki.USERS)
    groups = {user: group for _, user, _, group in rows}
    assert groups["admin"] == '"system:masters"'
    assert groups["system:node:node-1"] == '"system:nodes"'
    assert groups["system:kube-scheduler"] == '""'


def test_the_kubeconfig_holds_the_administrators_token(written: ClusterPaths) -> None:
    config = json.loads(written.kubeconfig.read_text())
    assert config["users"][0]["user"]["token"] == pki.admin_token(written)
    authority = base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"])
    assert authority == (written.pki / "ca.crt").read_bytes()
    assert config["current-context"] == "devcluster-x"


@pytest.mark.parametrize("name", ["kubeconfig", "pki/tokens.csv", "pki/admin.token", "pki/kube-proxy.kubeconfig"])
def test_secrets_are_for_the_owner_only(written: ClusterPaths, name: str) -> None:
    assert stat.S_IMODE(Path(written.root / name).stat().st_mode) == 0o600
