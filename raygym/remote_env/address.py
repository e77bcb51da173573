"""The grammar of ``remotes=``: a count, or the addresses of Remotes that already run.

::

    4                                        start four
    vnc://host:5900+15900                    screen on 5900, rewards on 15900
    vnc://a:5900+15900,b:5901+15901          several
    vnc://a:5900+15900,vnc://b:5901+15901    the same
    vnc://a:5900+15900,b:5901+15901?password=secret    one password for all, at the end
    vnc://host:5900                          a screen without rewards
    vnc://host+15900                         rewards without a screen
    vnc://[::1]:5900+15900                   IPv6 in brackets
    unix:/run/game                           unix sockets in a Remote's private directory:
                                             vnc.sock, rewarder.sock and password
    grpc://host:50051                        an environment in lock-step
    grpcs://host:50051?token=secret          the same over TLS, with a token
    grpc+unix:///run/game/rpc.sock           the same over a unix socket
    http://token@gateway:8080                an allocator, who lends them; see
                                             ``raygym.remote_env.allocator_address``
"""

from __future__ import annotations

import functools
import ipaddress
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

from raygym.core import Endpoint, Remote, Secret
from raygym.errors import ConfigError
from raygym.remote_env.allocator_address import AllocatorAddress, is_allocator, parse_allocator
from raygym.remote_env.private_directory import UNIX_SOCKET_MAX_BYTES

REMOTES_VARIABLE = "RAYGYM_REMOTES"
DEFAULT_PASSWORD = "openai"  # noqa: S105  Universe's, for addresses that give none

_EXAMPLE = "vnc://127.0.0.1:5900+15900"
_HOST = re.compile(r"[-a-zA-Z0-9._]+")
_PORT = re.compile(r"[0-9]+")
_SCHEME = re.compile(r"[A-Za-z][-A-Za-z0-9+.]*:")
_PASSWORD = re.compile("password=|token=")
_SCHEMES = "vnc://, grpc://, grpcs://, grpc+unix:///, http://, https:// or unix:/"
_HINTS = {
    "vnc:": _SCHEMES,
    "unix:": "an absolute path, as in unix:/run/game",
    "grpc:": "grpc://host:port",
    "grpcs:": "grpcs://host:port",
    "grpc+unix:": "grpc+unix:///run/game/rpc.sock, with three slashes",
}
_EVERY_KIND = (
    ("vnc", "screen (:port)"),
    ("rewarder", "reward port (+port)"),
    ("rpc", "gRPC port (grpc://)"),
)


@dataclass(frozen=True)
class RemoteCount:
    """How many Remotes to start."""

    count: int
    """At least 1."""


def parse_remotes(remotes: int | str | None) -> RemoteCount | AllocatorAddress | list[Remote]:
    """Reads a value of ``remotes=``.

    Args:
        remotes: A count, addresses as above, or None for what the variable
            RAYGYM_REMOTES holds, else 1.

    Returns:
        A RemoteCount, an AllocatorAddress, or one Remote per address. Their ``runtime`` is
        empty: nobody has said it yet. Their ``id`` is the address without the password.

    Raises:
        ConfigError: It is malformed; the message shows the place (never the password) and
            a right example.
    """
    if remotes is None:
        remotes = os.environ.get(REMOTES_VARIABLE) or 1
    if isinstance(remotes, str):
        text = remotes.strip()
        if re.fullmatch(r"[0-9]+", text):
            return _count(int(text))
        if is_allocator(text):
            return parse_allocator(text)
        return _Parser(text).remotes()
    return _count(remotes)


def _count(value: object) -> RemoteCount:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(
            f"remotes: expected a count of at least 1 or addresses, got {value!r}\n"
            f"  right: remotes=4, or remotes={_EXAMPLE!r}"
        )
    return RemoteCount(value)


class _Parser:
    """Reads addresses from left to right; ``at`` is the place of the next character."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._end = text.index("?") if "?" in text else len(text)
        self._at = 0

    def remotes(self) -> list[Remote]:
        password = self._password()
        items: list[tuple[Remote, int]] = []
        read: Callable[[], Remote] | None = None
        while True:
            self._spaces()
            start = self._at
            read = self._scheme() or read
            if read is None:
                raise self._error(f"expected {_SCHEMES}", start)
            items.append((read(), start))
            self._spaces()
            if self._at >= self._end:
                break
            if not self._take(","):
                raise self._error("expected a comma, or the end", self._at)
        self._check_kinds(items)
        return [_with_password(remote, password) for remote, _ in items]

    def _scheme(self) -> Callable[[], Remote] | None:
        if self._take("vnc://"):
            return self._vnc
        if self._text.startswith("unix:/", self._at):
            self._at += len("unix:")
            return self._unix
        for scheme, is_tls in (("grpc://", False), ("grpcs://", True)):
            if self._take(scheme):
                return functools.partial(self._grpc, is_tls=is_tls)
        if self._take("grpc+unix://"):
            return self._grpc_unix
        match = _SCHEME.match(self._text, self._at, self._end)
        rest = self._text[match.end() : self._end] if match else ""
        if match and (rest.startswith("/") or match.group() in _HINTS):
            hint = _HINTS.get(match.group(), _SCHEMES)
            raise self._error(f"expected {hint}, got {match.group()}", self._at)
        return None

    def _vnc(self) -> Remote:
        start = self._at
        host = self._host()
        vnc = rewarder = None
        if self._take(":"):
            vnc = Endpoint(host=host, port=self._port())
        if self._take("+"):
            rewarder = Endpoint(host=host, port=self._port())
        if vnc is None and rewarder is None:
            raise self._error(
                "expected :port of the screen, +port of the rewards or both", self._at
            )
        if self._at == self._end - 1:
            self._take("/")
        return Remote(
            id=self._text[start : self._at].rstrip("/"), runtime="", vnc=vnc, rewarder=rewarder
        )

    def _grpc(self, *, is_tls: bool) -> Remote:
        host = self._host()
        if not self._take(":"):
            raise self._error("expected :port of the gRPC server", self._at)
        endpoint = Endpoint(host=host, port=self._port(), is_tls=is_tls)
        if self._at == self._end - 1:
            self._take("/")
        name = f"[{host}]" if ":" in host else host
        scheme = "grpcs" if is_tls else "grpc"
        return _rpc_remote(f"{scheme}://{name}:{endpoint.port}", endpoint)

    def _grpc_unix(self) -> Remote:
        start = self._at
        path = self._path()
        if not path.startswith("/") or len(path.rstrip("/")) == 0:
            raise self._error(
                "expected the absolute path of a socket, as in grpc+unix:///run/game/rpc.sock",
                start,
            )
        if len(os.fsencode(path)) > UNIX_SOCKET_MAX_BYTES:
            raise self._error(
                f"this path is longer than the {UNIX_SOCKET_MAX_BYTES} bytes that a unix socket "
                "may have; choose a shorter directory",
                start,
            )
        return _rpc_remote(f"grpc+unix://{path}", Endpoint(path=path))

    def _path(self) -> str:
        """Takes all up to the next comma, or the end."""
        start = self._at
        comma = self._text.find(",", start, self._end)
        self._at = comma if comma >= 0 else self._end
        return self._text[start : self._at].rstrip()

    def _host(self) -> str:
        if self._take("["):
            start = self._at
            close = self._text.find("]", start, self._end)
            if close < 0:
                raise self._error("expected a ] after the IPv6 address", self._end)
            host = self._text[start:close]
            try:
                ipaddress.IPv6Address(host)
            except ValueError:
                raise self._error(f"{host!r} is no IPv6 address", start) from None
            self._at = close + 1
            return host
        match = _HOST.match(self._text, self._at, self._end)
        if match is None:
            raise self._error(
                "expected a host: letters, digits, -, . and _ (IPv6 in brackets)", self._at
            )
        self._at = match.end()
        return match.group()

    def _port(self) -> int:
        match = _PORT.match(self._text, self._at, self._end)
        if match is None or not 0 < int(match.group()) <= 65535:
            raise self._error("expected a port from 1 to 65535", self._at)
        self._at = match.end()
        return int(match.group())

    def _unix(self) -> Remote:
        start = self._at
        directory = Path(self._path())
        if len(os.fsencode(directory / "rewarder.sock")) > UNIX_SOCKET_MAX_BYTES:
            raise self._error(
                f"{directory}/rewarder.sock is longer than the {UNIX_SOCKET_MAX_BYTES} bytes "
                "that a unix socket may have; choose a shorter directory",
                start,
            )
        try:
            password = Secret((directory / "password").read_text(encoding="utf-8").strip())
        except FileNotFoundError:
            password = None
        except OSError as error:
            raise self._error(
                f"the password there cannot be read: {error.strerror}", start
            ) from error
        return Remote(
            id=f"unix:{directory}",
            runtime="",
            vnc=Endpoint(path=str(directory / "vnc.sock")),
            rewarder=Endpoint(path=str(directory / "rewarder.sock")),
            password=password,
        )

    def _password(self) -> Secret | None:
        query = self._text[self._end + 1 :]
        if not query and self._end == len(self._text):
            return None
        start = self._end + 1
        key = _PASSWORD.match(query)
        if key is None:
            raise self._error("expected password=... or token=... after the ?", start)
        if re.search(r",(vnc|grpcs?|unix|grpc\+unix):/", query):
            raise self._error("the password stands once for all, after the last address", start)
        value = unquote(query[key.end() :])
        if not value:
            raise self._error("the password is empty", start + key.end())
        return Secret(value)

    def _check_kinds(self, items: list[tuple[Remote, int]]) -> None:
        first, _ = items[0]
        seen: set[str] = set()
        for remote, start in items:
            for kind, name in _EVERY_KIND:
                if (getattr(remote, kind) is None) != (getattr(first, kind) is None):
                    raise self._error(f"all of the addresses have a {name}, or none has", start)
            if remote.id in seen:
                raise self._error("this address stands here twice", start)
            seen.add(remote.id)

    def _spaces(self) -> None:
        while self._at < self._end and self._text[self._at] == " ":
            self._at += 1

    def _take(self, token: str) -> bool:
        if not self._text.startswith(token, self._at, self._end):
            return False
        self._at += len(token)
        return True

    def _error(self, problem: str, at: int) -> ConfigError:
        shown = self._text
        key = _PASSWORD.search(shown, self._end)
        if key is not None:
            shown = shown[: key.end()] + "***"
        return ConfigError(
            f"remotes: {problem}\n    {shown}\n    {' ' * at}^\n"
            f"  right: {_EXAMPLE}, or a number to start so many here",
            column=at,
        )


def _rpc_remote(address: str, endpoint: Endpoint) -> Remote:
    return Remote(id=address, runtime="", vnc=None, rewarder=None, rpc=endpoint)


def _with_password(remote: Remote, password: Secret | None) -> Remote:
    is_asked = remote.rpc is None and not remote.id.startswith("unix:")
    if password is None and remote.password is None and not is_asked:
        return remote
    return replace(remote, password=password or remote.password or Secret(DEFAULT_PASSWORD))
