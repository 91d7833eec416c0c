"""The key that signs tokens, and what docker-registry knows it by: a certificate and a kid."""

import base64
import datetime as dt
import functools
import hashlib
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

_KID_BYTES = 30
_KID_GROUP = 4


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An RSA key, its self-signed certificate and its name."""

    private: rsa.RSAPrivateKey
    certificate: bytes
    """PEM, for `rootcertbundle`."""
    kid: str
    """As libtrust computes it: distribution 2.8 finds the certificate by it."""


@functools.cache
def signing_key() -> SigningKey:
    """Return one key for the whole process: making one costs more than starting a hub."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hub token signing")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=30))
        .sign(key, hashes.SHA256())
    )
    return SigningKey(key, certificate.public_bytes(Encoding.PEM), _libtrust_id(key.public_key()))


def _libtrust_id(key: rsa.RSAPublicKey) -> str:
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    text = base64.b32encode(hashlib.sha256(der).digest()[:_KID_BYTES]).decode()
    groups = [text[start : start + _KID_GROUP] for start in range(0, len(text), _KID_GROUP)]
    return ":".join(groups)
