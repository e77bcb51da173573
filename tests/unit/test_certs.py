from __future__ import annotations

import datetime
import socket
import ssl
import stat
import threading

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from raygym import certs, cli
from raygym.errors import ConfigError

TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    directory = tmp_path_factory.mktemp("made") / "certs"
    return certs.init(directory, hosts=["robots.example.org", "10.0.0.7", "[fd00::7]"])


def certificate(directory, name):
    return x509.load_pem_x509_certificate((directory / f"{name}.pem").read_bytes())


def server_context(directory, *, is_mutual):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.pem", directory / "server.key")
    if is_mutual:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(directory / "ca.pem")
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def client_context(directory, *, with_certificate=True, ca=None):
    context = ssl.create_default_context(cafile=(ca or directory) / "ca.pem")
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    if with_certificate:
        context.load_cert_chain(directory / "client.pem", directory / "client.key")
    return context


def handshake(server, client, *, name="localhost"):
    """Shakes hands and says one byte each way; returns the error of either end, or None."""
    errors = []

    def serve(listening):
        try:
            plain, _ = listening.accept()
            plain.settimeout(TIMEOUT_S)
            with server.wrap_socket(plain, server_side=True) as near:
                near.sendall(near.recv(1))
        except OSError as error:
            errors.append(error)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(TIMEOUT_S)
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        try:
            plain = socket.create_connection(listening.getsockname(), timeout=TIMEOUT_S)
            with client.wrap_socket(plain, server_hostname=name) as near:
                near.sendall(b"x")
                assert near.recv(1) == b"x"
        except (OSError, AssertionError) as error:
            errors.append(error)
        thread.join(TIMEOUT_S)
    return errors[0] if errors else None


@pytest.mark.parametrize(
    "name", ["localhost", "127.0.0.1", "::1", "robots.example.org", "10.0.0.7", "fd00::7"]
)
def test_both_ends_trust_each_other_by_every_name(made, name):
    server = server_context(made.directory, is_mutual=True)
    assert handshake(server, client_context(made.directory), name=name) is None


def test_this_machine_s_name_is_among_the_names(made):
    server = server_context(made.directory, is_mutual=False)
    client = client_context(made.directory, with_certificate=False)
    assert handshake(server, client, name=socket.gethostname()) is None


@pytest.mark.parametrize("name", ["other.example.org", "10.0.0.8"])
def test_a_client_refuses_a_server_of_another_name(made, name):
    server = server_context(made.directory, is_mutual=True)
    error = handshake(server, client_context(made.directory), name=name)
    assert isinstance(error, ssl.SSLError)


def test_a_server_that_wants_a_certificate_refuses_a_client_without(made):
    server = server_context(made.directory, is_mutual=True)
    client = client_context(made.directory, with_certificate=False)
    assert isinstance(handshake(server, client), OSError)


def test_another_authority_s_certificates_are_refused_at_both_ends(made, tmp_path):
    other = certs.init(tmp_path / "other").directory
    server = server_context(made.directory, is_mutual=True)
    assert isinstance(handshake(server, client_context(made.directory, ca=other)), OSError)
    assert isinstance(handshake(server, client_context(other, ca=made.directory)), OSError)


def test_a_client_s_certificate_is_no_server_s(made, tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.directory / "client.pem", made.directory / "client.key")
    assert isinstance(handshake(context, client_context(made.directory)), ssl.SSLError)


def test_certificates_say_what_they_are_for(made):
    authority = certificate(made.directory, "ca")
    basic = authority.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    usage = authority.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_cert_sign
    assert not usage.digital_signature
    for name, purpose in (
        ("server", ExtendedKeyUsageOID.SERVER_AUTH),
        ("client", ExtendedKeyUsageOID.CLIENT_AUTH),
    ):
        leaf = certificate(made.directory, name)
        leaf.verify_directly_issued_by(authority)
        assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        purposes = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(purposes) == [purpose]
        assert leaf.public_key().curve.name == "secp256r1"


def test_days_are_how_long_they_last(tmp_path):
    made = certs.init(tmp_path / "certs", days=3)
    for name in ("ca", "server", "client"):
        leaf = certificate(made.directory, name)
        assert leaf.not_valid_after_utc == made.expires
        lasts = leaf.not_valid_after_utc - leaf.not_valid_before_utc
        assert datetime.timedelta(days=3) <= lasts < datetime.timedelta(days=3, hours=1)


def test_keys_and_their_directory_are_closed_to_others(made):
    assert sorted(path.name for path in made.directory.iterdir()) == sorted(certs.FILES)
    assert stat.S_IMODE(made.directory.stat().st_mode) == 0o700
    for name in ("ca", "server", "client"):
        assert stat.S_IMODE((made.directory / f"{name}.key").stat().st_mode) == 0o600
        assert stat.S_IMODE((made.directory / f"{name}.pem").stat().st_mode) == 0o644


def test_a_directory_with_other_things_keeps_its_mode(tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / "notes").touch()
    certs.init(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_nothing_is_overwritten_unless_told(tmp_path):
    key = tmp_path / "server.key"
    key.write_text("precious")
    with pytest.raises(ConfigError, match=r"server\.key already.*--force"):
        certs.init(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["server.key"]
    assert key.read_text() == "precious"
    key.chmod(0o644)
    certs.init(tmp_path, overwrite=True)
    assert "PRIVATE KEY" in key.read_text()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "host", ["", "two words", "-dash.org", "a" * 64, "10.0.0.300", "http://x", "x:50051", "ü" * 70]
)
def test_what_is_no_host_is_refused(tmp_path, host):
    with pytest.raises(ConfigError, match="expected a DNS name or an IP address"):
        certs.init(tmp_path / "certs", hosts=[host])
    assert not (tmp_path / "certs").exists()


def test_names_beyond_ascii_are_written_as_dns_has_them(tmp_path):
    made = certs.init(tmp_path / "certs", hosts=["Bücher.example", "LOCALHOST", "*.pool.example"])
    assert made.hosts[-2:] == ("xn--bcher-kva.example", "*.pool.example")
    assert made.hosts.count("localhost") == 1


@pytest.mark.parametrize("days", [0, -1, certs.MAX_DAYS + 1])
def test_days_beyond_reason_are_refused(tmp_path, days):
    with pytest.raises(ConfigError, match="days: expected 1 to"):
        certs.init(tmp_path / "certs", days=days)


def test_a_file_in_the_directory_s_place_is_a_clear_error(tmp_path):
    (tmp_path / "certs").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        certs.init(tmp_path / "certs")


def test_the_command_makes_them_and_says_how_to_use_them(tmp_path, capsys):
    directory = tmp_path / "certs"
    arguments = ["certs", "init", "--directory", str(directory), "--days", "7"]
    assert cli.main([*arguments, "--host", "a.example", "10.0.0.7", "--host", "::7"]) == 0
    out = capsys.readouterr().out
    for part in ("a.example, 10.0.0.7, ::7", f"--tls-ca {directory}/ca.pem", "TlsFiles("):
        assert part in out
    server = server_context(directory, is_mutual=True)
    assert handshake(server, client_context(directory), name="10.0.0.7") is None


def test_the_command_refuses_to_overwrite_with_exit_2(tmp_path, capsys):
    arguments = ["certs", "init", "--directory", str(tmp_path / "certs")]
    assert cli.main(arguments) == 0
    assert cli.main(arguments) == 2
    assert "--force" in capsys.readouterr().err
    assert cli.main([*arguments, "--force"]) == 0


def test_the_client_s_line_names_an_ipv6_server_in_brackets(tmp_path, monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "fd00 7")
    made = certs.init(tmp_path / "certs", hosts=["fd00::7"])
    assert "grpcs://[fd00::7]:50051" in certs.report(made)
