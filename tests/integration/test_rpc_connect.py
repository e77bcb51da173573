"""What a client says when it cannot play, and how soon."""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest

from raygym.config import TlsFiles
from raygym.core import Endpoint, Secret
from raygym.errors import ConfigError, HandshakeRefused, RemoteError, RemoteUnreachable
from raygym.remote_env.rpc.connect import Access, connect, is_here, open_session
from raygym.remote_env.rpc.framed_channel import FramedChannel
from raygym.remote_env.rpc.grpc_channel import GrpcChannel
from raygym.remote_env.rpc.open import open_env
from raygym.runtimes.serve import EnvServer, serve_env
from tests.support.certificates import Authority, issue, make_authority
from tests.support.lockstep import trouble

TIMEOUT_S = 5.0
MARGIN_S = 20.0


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def authority(directory: Path) -> Authority:
    return make_authority(directory)


@pytest.fixture(scope="module")
def stranger(directory: Path) -> Authority:
    return make_authority(directory, "stranger")


@pytest.fixture(scope="module")
def plain() -> Iterator[EnvServer]:
    with serve_env(trouble, token="secret", is_in_process=True) as server:
        yield server


@pytest.fixture(scope="module")
def secure(authority: Authority, directory: Path) -> Iterator[EnvServer]:
    files = issue(authority, directory, "server")
    with serve_env(trouble, tls=files, is_in_process=True) as server:
        yield server


def tls_server(files: TlsFiles) -> EnvServer:
    return serve_env(trouble, tls=files, is_in_process=True)


def with_tls(endpoint: Endpoint, host: str = "127.0.0.1") -> Endpoint:
    return Endpoint(host=host, port=endpoint.port, is_tls=True)


@contextlib.contextmanager
def listener(serve: Callable[[socket.socket], None]) -> Iterator[Endpoint]:
    """A server of one's own: ``serve`` gets each connection, in a thread."""
    server = socket.create_server(("127.0.0.1", 0))
    connections: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            connections.append(connection)
            with contextlib.suppress(OSError):
                serve(connection)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield Endpoint(host="127.0.0.1", port=server.getsockname()[1])
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        for connection in connections:
            connection.close()
        thread.join(10)


def refusal(
    kind: type[RemoteError] | type[HandshakeRefused], endpoint: Endpoint, **options
) -> tuple[str, str]:
    """Connects in vain; returns the problem and the message."""
    started_s = time.monotonic()
    with pytest.raises(kind) as caught:
        connect(endpoint, connect_timeout_s=TIMEOUT_S, **options)
    assert time.monotonic() - started_s < TIMEOUT_S + MARGIN_S
    return caught.value.problem, caught.value.message


def test_a_stream_opens_where_all_is_right(plain, secure, authority):
    connection = connect(plain.endpoint, token=Secret("secret"))
    connection.channel.close()
    assert connection.is_raygym
    connection = connect(with_tls(secure.endpoint), tls=TlsFiles(ca=authority.path))
    connection.channel.close()
    assert connection.is_raygym


def test_nothing_listens():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    problem, message = refusal(RemoteUnreachable, Endpoint(host="127.0.0.1", port=port))
    assert problem == "refused"
    assert f"nothing listens at 127.0.0.1:{port}" in message


def test_no_socket_file(tmp_path):
    problem, message = refusal(RemoteUnreachable, Endpoint(path=str(tmp_path / "no.sock")))
    assert problem == "refused"
    assert "no.sock" in message


def test_an_unknown_host():
    endpoint = Endpoint(host="no-such-host.invalid", port=1)
    problem, message = refusal(RemoteUnreachable, endpoint, is_insecure=True)
    assert problem == "host_unknown"
    assert "'no-such-host.invalid' is unknown" in message


def test_an_http_server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        endpoint = Endpoint(host="127.0.0.1", port=server.server_port)
        for is_tls in (False, True):
            target = Endpoint(host=endpoint.host, port=endpoint.port, is_tls=is_tls)
            problem, message = refusal(RemoteUnreachable, target)
            assert problem == "not_grpc"
            assert "is no gRPC server" in message
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def test_a_server_that_speaks_first_and_is_no_grpc_server():
    with listener(lambda connection: connection.sendall(b"RFB 003.008\n")) as endpoint:
        problem, message = refusal(RemoteUnreachable, endpoint)
    assert problem == "not_grpc"
    assert "RFB 003" in message


def test_a_server_that_hangs_up_at_once():
    with listener(lambda connection: connection.close()) as endpoint:
        for is_tls in (False, True):
            target = Endpoint(host=endpoint.host, port=endpoint.port, is_tls=is_tls)
            assert refusal(RemoteUnreachable, target)[0] == "not_grpc"


@pytest.mark.parametrize("is_tls", [False, True])
def test_a_silent_server(is_tls):
    with listener(lambda connection: None) as endpoint:
        target = Endpoint(host=endpoint.host, port=endpoint.port, is_tls=is_tls)
        with pytest.raises(RemoteUnreachable, match=r"said nothing within 0\.5 s") as caught:
            connect(target, connect_timeout_s=0.5)
    assert caught.value.problem == "silent"


def test_tls_to_a_plaintext_server(plain, authority):
    endpoint = with_tls(plain.endpoint)
    problem, message = refusal(HandshakeRefused, endpoint, tls=TlsFiles(ca=authority.path))
    assert problem == "plaintext_expected"
    assert "use grpc://" in message


def test_plaintext_to_a_tls_server(secure):
    problem, message = refusal(HandshakeRefused, secure.endpoint)
    assert problem == "tls_expected"
    assert "use grpcs://" in message


def test_a_certificate_of_another_authority(secure, stranger):
    endpoint = with_tls(secure.endpoint)
    problem, message = refusal(HandshakeRefused, endpoint, tls=TlsFiles(ca=stranger.path))
    assert problem == "certificate_untrusted"
    assert "TlsFiles(ca=...)" in message
    assert refusal(HandshakeRefused, endpoint)[0] == "certificate_untrusted"


def test_an_expired_certificate(authority, directory):
    with tls_server(issue(authority, directory, "old", is_expired=True)) as server:
        endpoint = with_tls(server.endpoint)
        problem, message = refusal(HandshakeRefused, endpoint, tls=TlsFiles(ca=authority.path))
    assert problem == "certificate_expired"
    assert "has expired" in message


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_certificate_for_other_names(authority, directory, host):
    with tls_server(issue(authority, directory, "other", names=("elsewhere.test",))) as server:
        endpoint = with_tls(server.endpoint, host)
        problem, message = refusal(HandshakeRefused, endpoint, tls=TlsFiles(ca=authority.path))
    assert problem == "certificate_name"
    assert f"other names than '{host}'" in message


def test_a_server_that_asks_clients_for_a_certificate(authority, stranger, directory):
    files = issue(authority, directory, "mutual", ca=authority.path)
    with tls_server(files) as server:
        endpoint = with_tls(server.endpoint)
        problem, message = refusal(HandshakeRefused, endpoint, tls=TlsFiles(ca=authority.path))
        assert problem == "client_certificate"
        assert "a client without a certificate" in message
        wrong = issue(stranger, directory, "client-wrong", ca=authority.path)
        problem, message = refusal(HandshakeRefused, endpoint, tls=wrong)
        assert problem == "client_certificate"
        assert "hangs up on this client's certificate" in message
        right = issue(authority, directory, "client", ca=authority.path)
        connection = connect(endpoint, tls=right)
        connection.channel.close()
        assert connection.is_raygym


def test_a_wrong_token_and_none(plain):
    problem, message = refusal(HandshakeRefused, plain.endpoint, token=Secret("guess"))
    assert problem == "token_wrong"
    assert "guess" not in message
    problem, message = refusal(HandshakeRefused, plain.endpoint)
    assert problem == "token_missing"
    assert "give token=" in message


def test_a_token_that_no_header_holds(plain):
    with pytest.raises(ConfigError, match="printable ASCII"):
        connect(plain.endpoint, token=Secret("schlüssel"))


def test_a_server_that_is_full():
    with serve_env(trouble, max_streams=1, is_in_process=True) as server:
        first = open_session(Access(endpoint=server.endpoint), timeout_s=TIMEOUT_S)
        problem, message = refusal(RemoteUnreachable, server.endpoint)
        first.close()
    assert problem == "too_many_streams"
    assert "takes no more conversations" in message


@contextlib.contextmanager
def grpc_server(*handlers: grpc.GenericRpcHandler) -> Iterator[Endpoint]:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers(handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield Endpoint(host="127.0.0.1", port=port)
    finally:
        server.stop(None).wait(10)


def test_a_grpc_server_that_speaks_no_protocol_of_ours():
    with grpc_server() as endpoint:
        connection = connect(endpoint)
        assert not connection.is_raygym
        with pytest.raises(HandshakeRefused, match=r"neither raygym\.v1 nor dm_env_rpc") as caught:
            open_env(f"grpc://{endpoint}", connect_timeout_s=TIMEOUT_S)
    assert caught.value.problem == "protocol"


def test_a_server_that_answers_to_every_method_is_no_raygym_server():
    class Any(grpc.GenericRpcHandler):
        def service(self, _call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            return grpc.stream_stream_rpc_method_handler(lambda requests, _context: requests)

    with grpc_server(Any()) as endpoint, pytest.raises(RemoteUnreachable) as caught:
        connect(endpoint, connect_timeout_s=0.5)
    assert caught.value.problem == "silent"


def test_plaintext_to_another_machine_is_refused_before_anything_is_sent():
    endpoint = Endpoint(host="192.0.2.1", port=50051)
    with pytest.raises(ConfigError, match="is_insecure=True"):
        connect(endpoint, token=Secret("secret"))


def test_loopback_is_told_from_other_addresses():
    assert is_here(Endpoint(path="/run/x"))
    assert is_here(Endpoint(host="localhost", port=1))
    assert is_here(Endpoint(host="127.1.2.3", port=1))
    assert is_here(Endpoint(host="::1", port=1))
    assert not is_here(Endpoint(host="10.0.0.1", port=1))
    assert not is_here(Endpoint(host="localhost.example.com", port=1))


def test_files_of_tls_that_make_no_sense(secure, tmp_path, authority):
    endpoint = with_tls(secure.endpoint)
    with pytest.raises(ConfigError, match=r"TlsFiles\.ca: cannot read"):
        connect(endpoint, tls=TlsFiles(ca=tmp_path / "none.pem"))
    empty = tmp_path / "empty.pem"
    empty.write_text("hello")
    with pytest.raises(ConfigError, match="is no PEM file"):
        connect(endpoint, tls=TlsFiles(ca=empty))
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nhello\n-----END CERTIFICATE-----\n")
    with pytest.raises(ConfigError, match="makes no sense to TLS"):
        connect(endpoint, tls=TlsFiles(ca=authority.path, cert=broken, key=broken))


def test_a_client_of_this_machine_moves_to_the_unix_socket(plain):
    access = Access(endpoint=plain.endpoint, token=Secret("secret"))
    session = open_session(access, timeout_s=TIMEOUT_S)
    assert isinstance(session._channel, FramedChannel)
    session.close()
    session = open_session(access, timeout_s=TIMEOUT_S, uses_local_socket=False)
    assert isinstance(session._channel, GrpcChannel)
    session.close()


def test_a_client_stays_with_grpc_where_the_unix_socket_is_full():
    with serve_env(trouble, max_streams=1, is_in_process=True) as server:
        session = open_session(Access(endpoint=server.endpoint), timeout_s=TIMEOUT_S)
        assert isinstance(session._channel, GrpcChannel)
        session.close()


def test_grpc_over_a_unix_socket(tmp_path):
    tmp_path.chmod(0o700)
    with serve_env(trouble, bind=None, directory=tmp_path, is_in_process=True) as server:
        access = Access(endpoint=server.endpoint)
        for uses_local_socket in (True, False):
            session = open_session(access, timeout_s=TIMEOUT_S, uses_local_socket=uses_local_socket)
            assert not session.is_closed
            session.close()
