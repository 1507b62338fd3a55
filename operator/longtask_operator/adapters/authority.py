"""Our own certificate authority for the report server: what is made when. No I/O.

Workers get the authority's certificate when their Job is made and may run for a year. So
a new authority stands in the bundle for longer than that before it signs anything, and
an old one stays until it expires: whoever got a bundle in time can check the server.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFE = timedelta(days=3650)
#: A successor is made after this part of an authority's life.
SUCCESSOR_AFTER = AUTHORITY_LIFE / 2
#: How long a new authority is only published: longer than any bundle of before is in use.
PUBLISHED_BEFORE_USE = timedelta(days=400)
#: Clocks of nodes may be behind ours.
_BACKDATED = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def chain_pem(self) -> bytes:
        """Certificate and key in one PEM text, as `ssl` loads them."""
        return _pem(self.certificate) + _key_pem(self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyring:
    """All authorities, oldest first, and the serving pair that one of them signed."""

    authorities: tuple[KeyPair, ...]
    serving: KeyPair

    @property
    def bundle(self) -> str:
        """The authorities' certificates, PEM: what a worker trusts."""
        return b"".join(_pem(pair.certificate) for pair in self.authorities).decode()


def renewed(keyring: Keyring | None, *, host: str, serving_days: int, now: datetime) -> Keyring:
    """Return the keyring as it should be at *now*; the very same one when nothing is due."""
    authorities = tuple(pair for pair in keyring.authorities if _end(pair) > now) if keyring else ()
    if not authorities or now >= _start(authorities[-1]) + SUCCESSOR_AFTER:
        authorities = (*authorities, _make_authority(now))
    signer = pick_signer(authorities, now)
    if keyring is None or serving_is_due(keyring.serving, signer, host=host, now=now):
        serving = _make_serving(signer, host, now, timedelta(days=serving_days))
        return Keyring(authorities=authorities, serving=serving)
    if authorities == keyring.authorities:
        return keyring
    return Keyring(authorities=authorities, serving=keyring.serving)


def pick_signer(authorities: tuple[KeyPair, ...], now: datetime) -> KeyPair:
    """Return the newest authority that has been published long enough, else the oldest."""
    long_enough = [pair for pair in authorities if now - _start(pair) >= PUBLISHED_BEFORE_USE]
    return long_enough[-1] if long_enough else authorities[0]


def serving_is_due(serving: KeyPair, signer: KeyPair, *, host: str, now: datetime) -> bool:
    """Return whether a new serving certificate is needed: two thirds are over, or it does not fit."""
    life = _end(serving) - _start(serving)
    if now >= _start(serving) + life * 2 / 3 or _names_in(serving.certificate) != set(alternative_names(host)):
        return True
    try:
        serving.certificate.verify_directly_issued_by(signer.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return True
    return False


def alternative_names(host: str) -> list[x509.GeneralName]:
    """Return the names of the certificate: *host* and, for a Service, its short forms."""
    try:
        return [x509.IPAddress(ipaddress.ip_address(host))]
    except ValueError:
        pass
    if host == "localhost":
        return [x509.DNSName(host), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    service, _, rest = host.partition(".svc")
    short = [service, service.partition(".")[0]] if host.endswith(".svc") or rest.startswith(".") else []
    return [x509.DNSName(name) for name in dict.fromkeys([host, *short])]


def parse_keyring(data: Mapping[str, bytes]) -> Keyring:
    """Return the keyring in a Secret's data. Raises ValueError if a part is missing, broken or does not match."""
    try:
        certificates = x509.load_pem_x509_certificates(data["ca.crt"])
        keys = [_load_key(text) for text in _split_keys(data["ca.key"])]
        serving = _pair(x509.load_pem_x509_certificate(data["tls.crt"]), _load_key(data["tls.key"]))
        authorities = tuple(_pair(*both) for both in zip(certificates, keys, strict=True))
    except (KeyError, TypeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None
    return Keyring(authorities=authorities, serving=serving)


def dump_keyring(keyring: Keyring) -> dict[str, bytes]:
    """Return the keyring as a Secret's data."""
    return {
        "ca.crt": keyring.bundle.encode(),
        "ca.key": b"".join(_key_pem(pair.key) for pair in keyring.authorities),
        "tls.crt": _pem(keyring.serving.certificate),
        "tls.key": _key_pem(keyring.serving.key),
    }


def _make_authority(now: datetime) -> KeyPair:
    key = ec.generate_private_key(ec.SECP256R1())
    # The date makes the names of two authorities differ, for people and for chain building.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"longtask-reports-ca-{now:%Y%m%d%H%M%S}")])
    usage = _usage(signs_certificates=True)
    builder = (
        _builder(name, key, now, now + AUTHORITY_LIFE)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    return KeyPair(certificate=builder.sign(key, hashes.SHA256()), key=key)


def _make_serving(signer: KeyPair, host: str, now: datetime, life: timedelta) -> KeyPair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "longtask-reports")])
    issuer_key = signer.key.public_key()
    builder = (
        _builder(name, key, now, min(now + life, _end(signer)))
        .issuer_name(signer.certificate.subject)
        .add_extension(x509.SubjectAlternativeName(alternative_names(host)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )
    return KeyPair(certificate=builder.sign(signer.key, hashes.SHA256()), key=key)


def _builder(name: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, end: datetime) -> x509.CertificateBuilder:
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(end)
        .add_extension(identifier, critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> KeyPair:
    if certificate.public_key() != key.public_key():
        raise ValueError("a private key does not match its certificate")
    return KeyPair(certificate=certificate, key=key)


def _load_key(text: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(text, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("a private key is not on an elliptic curve")
    return key


def _split_keys(text: bytes) -> list[bytes]:
    end = b"-----END PRIVATE KEY-----\n"
    return [part + end for part in text.split(end) if part.strip()]


def _names_in(certificate: x509.Certificate) -> set[x509.GeneralName]:
    try:
        return set(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return set()


def _start(pair: KeyPair) -> datetime:
    return pair.certificate.not_valid_before_utc


def _end(pair: KeyPair) -> datetime:
    return pair.certificate.not_valid_after_utc


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    form, encryption = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, encryption)
