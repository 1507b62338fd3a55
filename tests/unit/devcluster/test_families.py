import re
from pathlib import Path

import pytest

from devcluster import families
from devcluster.errors import DevclusterError
from devcluster.families import FAMILIES, Family, family_of, required_version, states_version

GO_MOD = """module x

require k8s.io/kubernetes v1.36.3

require (
\tgo.etcd.io/etcd/server/v3 v3.6.16
\tgo.etcd.io/etcd/server/v3/extra v9.9.9 // indirect
)
"""


@pytest.mark.parametrize(
    ("module", "version"), [("k8s.io/kubernetes", "v1.36.3"), ("go.etcd.io/etcd/server/v3", "v3.6.16")]
)
def test_the_version_is_what_go_mod_requires(module: str, version: str) -> None:
    assert required_version(GO_MOD, module) == version


def test_a_go_mod_without_the_module_is_an_error() -> None:
    with pytest.raises(DevclusterError, match="does not require sigs"):
        required_version(GO_MOD, "sigs.k8s.io/kwok")


@pytest.mark.parametrize(
    ("output", "version", "same"),
    [
        ("Kubernetes v1.36.3", "v1.36.3", True),
        ("etcd Version: 3.6.16\nGit SHA: Not provided", "v3.6.16", True),
        ("v4.3.1+gabc", "v4.3.1", True),
        ("Kubernetes v1.36.30", "v1.36.3", False),
        ("Kubernetes v11.36.3", "v1.36.3", False),
        ("Kubernetes v1.36.3-rc.1", "v1.36.3", False),
        ("Kubernetes v1.36.2", "v1.36.3", False),
        ("", "v1.36.3", False),
    ],
)
def test_only_exactly_the_version_counts(output: str, version: str, same: bool) -> None:
    assert states_version(output, version) is same


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_family_is_pinned_and_its_sums_are_committed(family: Family) -> None:
    assert re.fullmatch(r"v\d+(\.\d+\.\d+)?", family.version())
    go_mod = (family.folder / "go.mod").read_text()
    if family.module:
        assert (family.folder / "go.sum").stat().st_size > 0
    for package in family.tools.values():
        directive = rf"^(\t|tool ){re.escape(package)}$"
        assert package == "." or re.search(directive, go_mod, re.MULTILINE), f"no tool directive for {package}"


def test_the_key_changes_with_version_sums_and_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families, "GO_MODULES", tmp_path)
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "go.mod").write_text("require m.example/a v1.2.3\n")
    (tmp_path / "f" / "go.sum").write_text("one")
    plain = Family(name="f", module="m.example/a", tools={"t": "."})
    keys = [plain.key(), Family(name="f", module="m.example/a", tools={"t": "."}, stamp=("-X a.b={version}",)).key()]
    (tmp_path / "f" / "go.sum").write_text("two")
    keys.append(plain.key())
    assert len(set(keys)) == 3
    assert all(key.startswith("f-v1.2.3-") for key in keys)


def test_the_kubernetes_version_is_stamped() -> None:
    family = family_of("kube-apiserver")
    flags = " ".join(family.linker_flags())
    assert f"-X k8s.io/component-base/version.gitVersion={family.version()}" in flags
    assert "version.gitMajor=1 " in flags
    assert "{" not in flags


def test_an_unknown_program_is_answered_with_the_known_ones() -> None:
    with pytest.raises(DevclusterError, match=r"no program 'kubefoo'.*kubectl"):
        family_of("kubefoo")
