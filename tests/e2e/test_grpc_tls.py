"""gRPC over TLS, by grpcio's clients, of a real server."""

import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives import serialization

from e2e.harness import RunningServer, command, environment, eventually
from inferd.config.server import ServerConfig
from inferd.errors import ConfigError
from inferd.server import NetworkServer
from protocols.http2.certificates import Authority

LIVE = "/inference.GRPCInferenceService/ServerLive"
ON = b"\x08\x01"


class Files:
    """An authority and a server's files that it has signed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder, "authority")
        self.certificate, self.key = folder / "server.pem", folder / "server.key"
        self.authority.issue(self.certificate, self.key, "first")

    @property
    def options(self) -> list[str | Path]:
        return ["--grpc-server-cert", self.certificate, "--grpc-server-key", self.key]

    def client(self, name: str, authority: Authority) -> tuple[bytes, bytes]:
        """Key and certificate of a client."""
        paths = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        authority.issue(*paths, name)
        return paths[1].read_bytes(), paths[0].read_bytes()


@contextmanager
def channel(
    server: RunningServer, trusts: Authority, shows: tuple[bytes, bytes] | None = None
) -> Iterator[grpc.Channel]:
    """A secure channel with a connection of its own."""
    key, certificate = shows or (None, None)
    credentials = grpc.ssl_channel_credentials(trusts.pem, key, certificate)
    own = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.secure_channel(server.grpc, credentials, own) as made:
        yield made


def live(made: grpc.Channel) -> bytes:
    answer: bytes = made.unary_unary(LIVE)(b"", timeout=10)
    return answer


def assert_refused(made: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as error:
        live(made)
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE


def test_new_certificates_are_for_new_connections(
    serve: object, repository: Path, tmp_path: Path
) -> None:
    files = Files(tmp_path)
    server: RunningServer = serve(repository / "mlp", *files.options)  # type: ignore[operator]
    with channel(server, files.authority) as old:
        assert live(old) == ON
        with grpc.insecure_channel(server.grpc) as plain:
            assert_refused(plain)
        other = Authority(tmp_path, "other")
        other.issue(files.certificate, files.key, "second")
        eventually(lambda: "new certificates" in server.log, "the new files are read")
        with channel(server, other) as new, channel(server, files.authority) as stale:
            assert live(new) == ON
            assert_refused(stale)
        assert live(old) == ON  # by the connection that it has, since its authority is gone
        (tmp_path / "server.key").write_bytes(b"junk")
        eventually(lambda: "certificates stay as they were" in server.log, "junk is not taken")
        with channel(server, other) as new:
            assert live(new) == ON


def test_clients_show_certificates_where_they_must(
    serve: object, repository: Path, tmp_path: Path
) -> None:
    files = Files(tmp_path)
    root = ["--grpc-root-cert", files.authority.path]
    server: RunningServer = serve(  # type: ignore[operator]
        repository / "mlp", *files.options, *root
    )
    stranger = Authority(tmp_path, "stranger")
    with channel(server, files.authority, files.client("friend", files.authority)) as made:
        assert live(made) == ON
    with channel(server, files.authority) as made:
        assert_refused(made)
    with channel(server, files.authority, files.client("foe", stranger)) as made:
        assert_refused(made)


# -- files that do not do ---------------------------------------------------------------------


def encrypted(key: Path) -> None:
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )


def damaged(file: Path) -> None:
    lines = file.read_bytes().splitlines()
    file.write_bytes(b"\n".join([lines[0], b"AAAA", *lines[2:]]))


@pytest.mark.parametrize(
    ("wrong", "how", "words"),
    [
        ("cert", Path.unlink, "cannot be read: No such file"),
        ("key", Path.unlink, "cannot be read: No such file"),
        ("root", Path.unlink, "cannot be read: No such file"),
        ("cert", lambda file: file.write_bytes(b"junk"), "holds no certificate in PEM"),
        ("key", lambda file: file.write_bytes(b"junk"), "holds no private key in PEM"),
        ("root", lambda file: file.write_bytes(b"junk"), "holds no certificate in PEM"),
        ("cert", damaged, "cannot be read"),
        ("key", damaged, "cannot be read"),
        ("root", damaged, "holds no certificate that can be read"),
        ("key", encrypted, "is encrypted; write it without a password"),
    ],
)
def test_files_that_cannot_be_used_are_named(
    wrong: str, how: object, words: str, tmp_path: Path
) -> None:
    files = Files(tmp_path)
    names = {"cert": files.certificate, "key": files.key, "root": files.authority.path}
    how(names[wrong])  # type: ignore[operator]
    with pytest.raises(ConfigError) as error:
        NetworkServer(configured(files, grpc_root_cert=str(files.authority.path)))
    option = {"cert": "grpc-server-cert", "key": "grpc-server-key", "root": "grpc-root-cert"}[wrong]
    assert error.value.field == option.replace("-", "_")
    assert f"{names[wrong]} {words}" in str(error.value)
    assert str(error.value).endswith(f"--{option}")


def configured(files: Files, **more: str) -> ServerConfig:
    return ServerConfig(
        paths=("model.onnx",), grpc_server_cert=str(files.certificate),
        grpc_server_key=str(files.key), **more,
    )  # fmt: skip


def test_a_key_of_another_certificate_is_said(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.authority.issue(tmp_path / "other.pem", files.key, "other")
    with pytest.raises(ConfigError, match=f"does not belong .* {files.certificate}") as error:
        NetworkServer(configured(files))
    assert error.value.field == "grpc_server_key"


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ("grpc_server_cert", "grpc_server_key"),
        ("grpc_server_key", "grpc_server_cert"),
        ("grpc_root_cert", "grpc_server_cert"),
    ],
)
def test_a_file_that_is_missing_beside_another_is_asked_for(given: str, missing: str) -> None:
    options = {given: "file.pem"}
    with pytest.raises(ConfigError, match="--grpc-server-cert and --grpc-server-key") as error:
        NetworkServer(ServerConfig(paths=("model.onnx",), **options))  # type: ignore[arg-type]
    assert error.value.field == missing


def test_a_server_that_cannot_use_its_files_says_so_and_exits(
    repository: Path, tmp_path: Path
) -> None:
    files = Files(tmp_path)
    encrypted(files.key)
    done = subprocess.run(
        command("serve", repository / "mlp", "--http-port", "0", *files.options),
        env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert f"grpc_server_key: {files.key} is encrypted" in done.stderr
    assert "Traceback" not in done.stderr


def test_certificates_are_those_of_the_files(
    serve: object, repository: Path, tmp_path: Path
) -> None:
    files = Files(tmp_path)
    server: RunningServer = serve(repository / "mlp", *files.options)  # type: ignore[operator]
    host, _, port = server.grpc.partition(":")
    shown = ssl.get_server_certificate((host, int(port)))
    assert shown.encode() == files.certificate.read_bytes()
