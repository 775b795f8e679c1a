import asyncio
import ssl
from pathlib import Path

import grpc
import pytest

from inferd.protocols.http2.frames import PING, frame
from inferd.protocols.http2.tls import ServerTls, TlsFiles
from protocols.http2.certificates import Authority
from protocols.http2.client import call, payload_of
from protocols.http2.serving import BEGIN, Served, on_uvloop, until_frame


class Secured:
    """An authority, a server's files, and clients that trust the one and meet the other."""

    def __init__(self, folder: Path, mutual: bool = False) -> None:
        self.folder = folder
        self.authority = Authority(folder, "authority")
        self.certificate, self.key = folder / "server.pem", folder / "server.key"
        self.authority.issue(self.certificate, self.key, "first")
        self.client_ca = folder / "clients.pem"
        self.client_ca.write_bytes(self.authority.pem)
        ca = self.client_ca if mutual else None
        self.tls = ServerTls(TlsFiles(self.certificate, self.key, ca))

    def client(self, *protocols: str, shows: Authority | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.authority.path))
        if protocols:
            context.set_alpn_protocols(list(protocols))
        if shows:
            paths = self.folder / "client.pem", self.folder / "client.key"
            shows.issue(*paths, "client")
            context.load_cert_chain(*paths)
        return context


def subject(writer: asyncio.StreamWriter) -> str:
    """Whose certificate the server has shown."""
    found = dict(pair for (pair,) in writer.get_extra_info("peercert")["subject"])
    return str(found["commonName"])


async def echoed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, n: int) -> bytes:
    """The answer to a call on stream `n`."""
    begin = BEGIN if n == 1 else b""
    writer.write(begin + call(n) + frame(PING, 0, 0, bytes(8)))
    return payload_of(await until_frame(reader, PING), n)


@on_uvloop
async def test_calls_over_tls(tmp_path: Path) -> None:
    secured = Secured(tmp_path)
    async with Served(tls=secured.tls) as served:
        reader, writer = await served.connected(ssl=secured.client("h2"))
        assert await echoed(reader, writer, 1) == b"question"
        writer.close()


@pytest.mark.parametrize("protocols", [(), ("http/1.1",)])
def test_who_does_not_speak_h2_is_hung_up_on(tmp_path: Path, protocols: tuple[str, ...]) -> None:
    @on_uvloop
    async def test() -> None:
        secured = Secured(tmp_path)
        async with Served(tls=secured.tls) as served:
            reader, writer = await served.connected(ssl=secured.client(*protocols))
            async with asyncio.timeout(5):
                assert await reader.read() == b""
            writer.close()
            assert not served.sinks

    test()


@on_uvloop
async def test_old_ciphers_are_refused(tmp_path: Path) -> None:
    secured = Secured(tmp_path)
    old = secured.client("h2")
    old.set_ciphers("AES128-GCM-SHA256")  # without a key exchange that keeps secrets
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with Served(tls=secured.tls) as served:
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            await served.connected(ssl=old)


@on_uvloop
async def test_tls_1_2_is_served(tmp_path: Path) -> None:
    secured = Secured(tmp_path)
    client = secured.client("h2")
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    async with Served(tls=secured.tls) as served:
        reader, writer = await served.connected(ssl=client)
        assert await echoed(reader, writer, 1) == b"question"
        writer.close()


@on_uvloop
async def test_new_certificates_are_for_new_connections(tmp_path: Path) -> None:
    secured = Secured(tmp_path)
    async with Served(tls=secured.tls) as served:
        old_reader, old_writer = await served.connected(ssl=secured.client("h2"))
        assert subject(old_writer) == "first"
        assert await echoed(old_reader, old_writer, 1) == b"question"
        secured.authority.issue(secured.certificate, secured.key, "second")
        assert secured.tls.refresh()
        _, writer = await served.connected(ssl=secured.client("h2"))
        assert subject(writer) == "second"
        assert await echoed(old_reader, old_writer, 3) == b"question"
        writer.close()
        old_writer.close()


def test_files_are_read_when_they_change(tmp_path: Path) -> None:
    secured = Secured(tmp_path)
    assert not secured.tls.refresh()
    secured.authority.issue(secured.certificate, secured.key, "second")
    assert secured.tls.refresh()
    assert not secured.tls.refresh()


@on_uvloop
async def test_files_that_do_not_fit_change_nothing(tmp_path: Path) -> None:
    secured = Secured(tmp_path)
    key = secured.key.read_bytes()
    secured.authority.issue(secured.certificate, secured.key, "second")
    new_key = secured.key.read_bytes()
    secured.key.write_bytes(key)  # its certificate is new, and the key is not there yet
    assert not secured.tls.refresh()
    async with Served(tls=secured.tls) as served:
        _, writer = await served.connected(ssl=secured.client("h2"))
        assert subject(writer) == "first"
        writer.close()
        secured.key.unlink()
        assert not secured.tls.refresh()
        secured.key.write_bytes(new_key)
        assert secured.tls.refresh()
        _, writer = await served.connected(ssl=secured.client("h2"))
        assert subject(writer) == "second"
        writer.close()


def test_a_server_does_not_start_with_files_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        ServerTls(TlsFiles(tmp_path / "missing.pem", tmp_path / "missing.key"))
    (tmp_path / "junk.pem").write_bytes(b"junk")
    with pytest.raises(ssl.SSLError):
        ServerTls(TlsFiles(tmp_path / "junk.pem", tmp_path / "junk.pem"))


@on_uvloop
async def test_clients_show_certificates_where_they_must(tmp_path: Path) -> None:
    secured = Secured(tmp_path, mutual=True)
    async with Served(tls=secured.tls) as served:
        reader, writer = await served.connected(ssl=secured.client("h2", shows=secured.authority))
        assert await echoed(reader, writer, 1) == b"question"
        writer.close()
        for shows in (None, Authority(tmp_path, "stranger")):
            with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
                # With TLS 1.3 the client learns of it only when it reads.
                await echoed(*await served.connected(ssl=secured.client("h2", shows=shows)), 1)
        assert len(served.sinks) == 1


@on_uvloop
async def test_who_is_trusted_may_change(tmp_path: Path) -> None:
    secured = Secured(tmp_path, mutual=True)
    other = Authority(tmp_path, "other")
    async with Served(tls=secured.tls) as served:
        secured.client_ca.write_bytes(other.pem)
        assert secured.tls.refresh()
        reader, writer = await served.connected(ssl=secured.client("h2", shows=other))
        assert await echoed(reader, writer, 1) == b"question"
        writer.close()
        mine = secured.client("h2", shows=secured.authority)
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await echoed(*await served.connected(ssl=mine), 1)


@on_uvloop
async def test_grpcio_over_mutual_tls(tmp_path: Path) -> None:
    secured = Secured(tmp_path, mutual=True)
    secured.client("h2", shows=secured.authority)
    credentials = grpc.ssl_channel_credentials(
        secured.authority.pem,
        (tmp_path / "client.key").read_bytes(),
        (tmp_path / "client.pem").read_bytes(),
    )
    async with (
        Served(tls=secured.tls) as served,
        grpc.aio.secure_channel(f"127.0.0.1:{served.port}", credentials) as channel,
    ):
        echo = channel.unary_unary("/package.Service/Echo")
        for message in (b"short", bytes(3_000_000)):
            assert await echo(message, timeout=10) == message
        served.listener.drain()
        async with asyncio.timeout(5):
            await served.listener.idle()
