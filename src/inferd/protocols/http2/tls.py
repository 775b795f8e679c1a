"""TLS for HTTP/2: contexts from files of certificates, which may be replaced while they are used.

It refuses to know connections: a context is swapped for handshakes to come, and what was agreed
upon before stays.
"""

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

_log = logging.getLogger("inferd.tls")

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2, what RFC 9113 (appendix A) leaves."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the server's chain and key; with `client_ca`, clients must show certificates."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


class ServerTls:
    """The context of a listener. Raises OSError (ssl.SSLError is one) for files that do not fit."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._seen = self._look()
        self._current = self._made()
        self.context = self._made()
        """For the socket: hands each handshake to the context of the newest files."""
        self.context.sni_callback = self._choose

    def refresh(self) -> bool:
        """Read the files again if they have changed; whether new ones are in use. Files that do not
        fit (yet, since they are replaced one by one) change nothing."""
        seen = self._look()
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            self._current = self._made()
        except OSError as error:
            _log.warning("certificates stay as they were: %s: %s", self._files.certificate, error)
            return False
        _log.info("new certificates from %s", self._files.certificate)
        return True

    def _choose(self, handshake: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        """Called in each handshake, whether the client names a server or not."""
        handshake.context = self._current

    def _made(self) -> ssl.SSLContext:
        files = self._files
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        context.set_ciphers(CIPHERS)
        context.set_alpn_protocols(["h2"])
        # Without a password OpenSSL would ask the terminal for one, and wait.
        context.load_cert_chain(files.certificate, files.key, password="")
        if files.client_ca is not None:
            context.load_verify_locations(files.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _look(self) -> tuple[tuple[int, int] | None, ...]:
        """What tells that a file has changed."""
        files = (self._files.certificate, self._files.key, self._files.client_ca)
        return tuple(None if file is None else _stamp(file) for file in files)


def trouble_with(files: TlsFiles) -> tuple[str, str]:
    """Why no server can use these files: the field of TlsFiles that is wrong, and what is."""
    for field, what in (("certificate", "CERTIFICATE"), ("key", "PRIVATE KEY"),
                        ("client_ca", "CERTIFICATE")):  # fmt: skip
        file: Path | None = getattr(files, field)
        try:
            content = b"" if file is None else file.read_bytes()
        except OSError as error:
            return field, f"cannot be read: {error.strerror}"
        if file is not None and f"{what}-----".encode() not in content:
            return field, f"holds no {what.lower()} in PEM"
        if b"ENCRYPTED" in content:
            return field, "is encrypted; write it without a password: openssl pkey -in OLD -out NEW"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(files.certificate)
    except ssl.SSLError as error:
        return "certificate", f"cannot be read: {error}"
    try:
        context.load_cert_chain(files.certificate, files.key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return "key", f"does not belong to the certificate in {files.certificate}"
        return "key", f"cannot be read: {error}"
    return "client_ca", "holds no certificate that can be read"


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None  # it is being replaced
    return found.st_mtime_ns, found.st_ino
