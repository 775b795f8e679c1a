"""Certificates made in a moment: an authority, and chains of it on disk."""

import datetime
import ipaddress
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_YEAR = datetime.timedelta(days=365)
_PEM = serialization.Encoding.PEM


class Authority:
    """Signs certificates; its own is at `path`."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.path = folder / f"{name}.pem"
        self.pem = self._signed(self.name, self.key, is_authority=True)
        self.path.write_bytes(self.pem)

    def issue(self, certificate: Path, key_path: Path, name: str) -> None:
        """A new key and a certificate for it, put in the place of what is there."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        _replace(certificate, self._signed(subject, key))
        plain = serialization.NoEncryption()
        _replace(key_path, key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, plain))

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, is_authority: bool = False
    ) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        address = ipaddress.ip_address("127.0.0.1")
        names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(address)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _YEAR)
            .not_valid_after(now + _YEAR)
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(names, critical=False)
        )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(_PEM)


def _replace(path: Path, content: bytes) -> None:
    """As tools do that renew certificates."""
    new = path.with_suffix(".new")
    new.write_bytes(content)
    os.replace(new, path)
