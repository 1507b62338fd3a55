from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from longtask_operator.adapters.authority import (
    PUBLISHED_BEFORE_USE,
    Keyring,
    alternative_names,
    dump_keyring,
    parse_keyring,
    renewed,
)

HOST = "longtask-reports.longtask-system.svc"
NOW = datetime(2026, 1, 31, 8, 0, tzinfo=UTC)
DAY = timedelta(days=1)


def keyring_at(now: datetime, before: Keyring | None = None, *, host: str = HOST, days: int = 365) -> Keyring:
    return renewed(before, host=host, serving_days=days, now=now)


def check(keyring: Keyring, bundle: str, now: datetime, host: str = HOST) -> None:
    """Do what a worker's TLS library does with the bundle it got."""
    trusted = Store(x509.load_pem_x509_certificates(bundle.encode()))
    verifier = PolicyBuilder().store(trusted).time(now).build_server_verifier(x509.DNSName(host))
    verifier.verify(keyring.serving.certificate, [])


def test_a_first_keyring_is_trusted_by_its_bundle_for_each_name_of_the_service() -> None:
    keyring = keyring_at(NOW)
    for name in (HOST, "longtask-reports.longtask-system", "longtask-reports"):
        check(keyring, keyring.bundle, NOW, name)
    with pytest.raises(VerificationError):
        check(keyring, keyring.bundle, NOW, "elsewhere.longtask-system.svc")
    with pytest.raises(VerificationError):
        check(keyring, keyring_at(NOW).bundle, NOW)


def test_a_node_whose_clock_is_behind_trusts_a_new_certificate() -> None:
    keyring = keyring_at(NOW)
    check(keyring, keyring.bundle, NOW - timedelta(minutes=50))


def test_nothing_is_due_before_two_thirds_of_the_certificates_life() -> None:
    first = keyring_at(NOW)
    assert keyring_at(NOW + 243 * DAY, first) is first
    second = keyring_at(NOW + 244 * DAY, first)
    assert second.serving.certificate != first.serving.certificate
    assert second.bundle == first.bundle


def test_another_host_name_needs_another_certificate_from_the_same_authority() -> None:
    first = keyring_at(NOW)
    moved = keyring_at(NOW, first, host="reports.example.org")
    assert moved.bundle == first.bundle
    check(moved, first.bundle, NOW, "reports.example.org")


def test_a_certificate_of_a_foreign_authority_is_replaced() -> None:
    mixed = replace(keyring_at(NOW), serving=keyring_at(NOW).serving)
    check(repaired := keyring_at(NOW, mixed), mixed.bundle, NOW)
    assert repaired.authorities == mixed.authorities


@pytest.mark.parametrize("days", [1, 365, 3650])
def test_over_thirty_years_every_bundle_younger_than_a_year_trusts_the_server_at_any_time(days: int) -> None:
    step = 60 * DAY
    keyring: Keyring | None = None
    handed_out: list[tuple[datetime, str]] = []
    authorities = set()
    for index in range(30 * 365 // 60):
        now = NOW + index * step
        keyring = keyring_at(now, keyring, days=days)
        handed_out = [(since, bundle) for since, bundle in handed_out if now - since <= PUBLISHED_BEFORE_USE - step]
        handed_out.append((now, keyring.bundle))
        authorities.add(keyring.bundle)
        assert 1 <= len(keyring.authorities) <= 3
        for _, bundle in handed_out:
            check(keyring, bundle, now)
        assert len(keyring.bundle) < 4096  # it travels in an annotation of every pod
    assert len(authorities) > 5  # rotation did happen


def test_all_authorities_expired_while_the_operator_was_away() -> None:
    late = NOW + 4000 * DAY
    keyring = keyring_at(late, keyring_at(NOW))
    check(keyring, keyring.bundle, late)
    assert len(keyring.authorities) == 1


def test_what_is_stored_is_what_is_read() -> None:
    first = keyring_at(NOW)
    both = keyring_at(NOW + 1900 * DAY, first)
    assert len(both.authorities) == 2
    stored = parse_keyring(dump_keyring(both))
    assert dump_keyring(stored) == dump_keyring(both)
    assert keyring_at(NOW + 1900 * DAY, stored) is stored


@pytest.mark.parametrize("part", ["ca.crt", "ca.key", "tls.crt", "tls.key"])
@pytest.mark.parametrize("damage", ["missing", "empty", "junk", "foreign"])
def test_a_damaged_secret_is_noticed(part: str, damage: str) -> None:
    data = dump_keyring(keyring_at(NOW))
    foreign = dump_keyring(keyring_at(NOW))[part]
    data |= {part: {"empty": b"", "junk": b"junk", "foreign": foreign}.get(damage, b"")}
    if damage == "missing":
        del data[part]
    with pytest.raises(ValueError, match=r"."):
        parse_keyring(data)


@pytest.mark.parametrize(
    ("host", "names"),
    [
        pytest.param("r.ns.svc", ["r.ns.svc", "r.ns", "r"], id="service"),
        pytest.param("r.ns.svc.cluster.local", ["r.ns.svc.cluster.local", "r.ns", "r"], id="with-domain"),
        pytest.param("reports.example.org", ["reports.example.org"], id="public"),
        pytest.param("localhost", ["localhost", "127.0.0.1"], id="localhost"),
        pytest.param("10.1.2.3", ["10.1.2.3"], id="address"),
        pytest.param("fd00::1", ["fd00::1"], id="ipv6"),
    ],
)
def test_names_in_the_certificate(host: str, names: list[str]) -> None:
    assert [str(name.value) for name in alternative_names(host)] == names
