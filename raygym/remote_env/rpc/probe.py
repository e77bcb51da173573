"""Finds out what listens at an endpoint, with words where gRPC has none."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from typing import Any, NoReturn

from raygym.config import TlsFiles
from raygym.core import Endpoint
from raygym.errors import HandshakeRefused, RaygymError, RemoteUnreachable
from raygym.remote_env.rpc.credentials import ssl_context

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
_SETTINGS = 4
_FRAME_HEAD_BYTES = 9
_EAGER_S = 0.25
"""How long a server has to speak first, or to refuse, after TLS was agreed on."""
_LEAST_WAIT_S = 0.05

_EXPIRED, _NOT_YET_VALID, _NAME_MISMATCH, _ADDRESS_MISMATCH = 10, 9, 62, 64  # X509_V_ERR_*


def probe(endpoint: Endpoint, *, tls: TlsFiles | None, timeout_s: float) -> None:
    """Returns if a server of HTTP/2 answers at an endpoint, as gRPC's are.

    Args:
        endpoint: Where to look; with ``is_tls`` TLS is spoken, and the certificate checked.
        tls: Files of TLS; None takes the system's authorities.
        timeout_s: Longest wait.

    Raises:
        RemoteUnreachable: Nothing is there, or something else. Its field ``problem`` is
            ``host_unknown``, ``refused``, ``silent`` or ``not_grpc``.
        HandshakeRefused: TLS was not agreed on. Its field ``problem`` is ``tls_expected``,
            ``plaintext_expected``, ``certificate_untrusted``, ``certificate_expired``,
            ``certificate_name`` or ``client_certificate``.
        ConfigError: A file of TLS makes no sense.
    """
    _Probe(endpoint, tls, time.monotonic() + timeout_s, timeout_s).run()


class _Probe:
    def __init__(
        self, endpoint: Endpoint, tls: TlsFiles | None, deadline_s: float, timeout_s: float
    ) -> None:
        self._endpoint = endpoint
        self._tls = tls
        self._deadline_s = deadline_s
        self._timeout_s = timeout_s
        self._addresses: list[tuple[int, Any]] = []
        self._is_tls_agreed = False

    def run(self) -> None:
        """See ``probe``."""
        self._addresses = self._resolve()
        if not self._endpoint.is_tls:
            self._probe_plain()
            return
        context = ssl_context(self._tls)
        with self._dial() as sock:
            try:
                with context.wrap_socket(
                    sock, server_hostname=self._endpoint.host, suppress_ragged_eofs=False
                ) as secure:
                    self._is_tls_agreed = True
                    self._greet_securely(secure)
            except ssl.SSLCertVerificationError as error:
                self._refuse_certificate(error)
            except (OSError, ssl.SSLError) as error:
                self._explain_tls(error)

    def _probe_plain(self) -> None:
        with self._dial() as sock:
            first = self._exchange(sock, _PREFACE)
        if _is_settings(first):
            return
        if first[:2] == b"\x15\x03" or (not first and self._is_tls_spoken()):
            raise HandshakeRefused(
                f"{self._endpoint} speaks TLS, and was spoken to in plaintext; use grpcs:// and, "
                "for a private authority, TlsFiles(ca=...)",
                problem="tls_expected",
            )
        self._refuse_stranger(first)

    def _greet_securely(self, secure: ssl.SSLSocket) -> None:
        # A refusal of this client comes before anything else, and must not be overtaken.
        secure.settimeout(min(_EAGER_S, self._left_s()))
        first, data = b"", _PREFACE
        try:
            first, data = secure.recv(_FRAME_HEAD_BYTES), b""
            if not first:
                raise ConnectionResetError("it hung up after TLS was agreed on")
        except TimeoutError:
            pass
        first = self._exchange(secure, data, first)
        if not _is_settings(first):
            self._refuse_stranger(first)

    def _exchange(self, sock: socket.socket, data: bytes, received: bytes = b"") -> bytes:
        """Sends, and returns the first bytes that came back; none if it hung up instead."""
        try:
            sock.settimeout(self._left_s())
            sock.sendall(data)
            while len(received) < _FRAME_HEAD_BYTES:
                sock.settimeout(self._left_s())
                part = sock.recv(_FRAME_HEAD_BYTES - len(received))
                if not part:
                    break
                received += part
        except TimeoutError:
            if not received:
                self._silent()
        except ssl.SSLError:
            raise
        except OSError:
            pass
        return received

    def _explain_tls(self, error: OSError) -> NoReturn:
        where = self._endpoint
        reason = str(getattr(error, "reason", None) or error)
        # gRPC's own servers hang up where a certificate is missing or wrong; others send alerts,
        # in TLS 1.3 after this side has agreed.
        if self._is_tls_agreed or "alert" in reason.lower():
            self._refuse_client(reason, error)
        if isinstance(error, TimeoutError):
            self._silent()
        with self._dial() as sock:
            first = self._exchange(sock, _PREFACE)
        if not _is_settings(first):
            self._refuse_stranger(first, error)
        raise HandshakeRefused(
            f"{where} speaks plaintext, and was spoken to in TLS; use grpc://, or give it a "
            "certificate",
            problem="plaintext_expected",
        ) from error

    def _refuse_client(self, reason: str, error: OSError) -> NoReturn:
        if self._tls is not None and self._tls.cert is not None:
            text = (
                "hangs up on this client's certificate; is it of the authority that the server "
                "trusts?"
            )
        else:
            text = (
                "hangs up on a client without a certificate; give TlsFiles(cert=..., key=..., "
                "ca=...)"
            )
        raise HandshakeRefused(
            f"{self._endpoint} {text} ({reason})", problem="client_certificate"
        ) from error

    def _refuse_certificate(self, error: ssl.SSLCertVerificationError) -> NoReturn:
        where, code = self._endpoint, error.verify_code
        if code in (_EXPIRED, _NOT_YET_VALID):
            problem = "certificate_expired"
            text = "has a certificate that has expired" if code == _EXPIRED else "is not valid yet"
            todo = "make another: `raygym certs init`"
        elif code in (_NAME_MISMATCH, _ADDRESS_MISMATCH):
            problem = "certificate_name"
            text = f"has a certificate for other names than {where.host!r}"
            todo = "use a name that is in it, or make another with this one"
        else:
            problem = "certificate_untrusted"
            text = "has a certificate of an authority that is not trusted here"
            todo = "give TlsFiles(ca=...) of the authority that signed it"
        raise HandshakeRefused(
            f"{where} {text} ({error.verify_message}); {todo}", problem=problem
        ) from error

    def _is_tls_spoken(self) -> bool:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        try:
            with self._dial() as sock:
                sock.settimeout(self._left_s())
                context.wrap_socket(sock).close()
        except ssl.SSLError as error:
            return "ALERT" in str(error.reason)
        except (OSError, RaygymError):
            return False
        return True

    def _refuse_stranger(self, first: bytes, cause: Exception | None = None) -> NoReturn:
        if first.startswith(b"HTTP/"):
            seen = "an HTTP/1 server listens there"
        elif first:
            seen = f"what listens there began with {first!r}"
        else:
            seen = "it takes connections and hangs up"
        raise RemoteUnreachable(
            f"{self._endpoint} is no gRPC server: {seen}; is the port right?", problem="not_grpc"
        ) from cause

    def _silent(self) -> NoReturn:
        raise RemoteUnreachable(
            f"{self._endpoint} takes connections and said nothing within {self._timeout_s:g} s; "
            "is it a gRPC server, and does it live?",
            problem="silent",
        ) from None

    def _resolve(self) -> list[tuple[int, Any]]:
        endpoint = self._endpoint
        if endpoint.path is not None:
            return [(socket.AF_UNIX, endpoint.path)]
        found: list[tuple[int, Any]] = []
        errors: list[OSError] = []

        def look_up() -> None:
            try:
                answers = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
                found.extend((answer[0], answer[4]) for answer in answers)
            except (OSError, UnicodeError) as error:
                errors.append(OSError(str(error)))

        thread = threading.Thread(target=look_up, name="raygym look-up", daemon=True)
        thread.start()
        thread.join(self._left_s())
        if not found:
            why = errors[0] if errors else f"no answer within {self._timeout_s:g} s"
            raise RemoteUnreachable(
                f"{endpoint}: the host {endpoint.host!r} is unknown: {why}", problem="host_unknown"
            )
        return found

    def _dial(self) -> socket.socket:
        error: OSError = OSError("no address")
        for family, address in self._addresses:
            sock = socket.socket(family)
            sock.settimeout(self._left_s())
            try:
                sock.connect(address)
            except OSError as failed:
                sock.close()
                error = failed
            else:
                return sock
        if isinstance(error, TimeoutError):
            raise RemoteUnreachable(
                f"{self._endpoint} did not answer within {self._timeout_s:g} s; is the machine on, "
                "and is a firewall between?",
                problem="silent",
            ) from error
        raise RemoteUnreachable(
            f"nothing listens at {self._endpoint}: {error.strerror or error}; is the server "
            "started, and is this its port?",
            problem="refused",
        ) from error

    def _left_s(self) -> float:
        return max(self._deadline_s - time.monotonic(), _LEAST_WAIT_S)


def _is_settings(first: bytes) -> bool:
    return len(first) == _FRAME_HEAD_BYTES and first[0] == 0 and first[3] == _SETTINGS
