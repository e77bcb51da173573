"""Where the files of a remote in a container are: in a shared directory, or inside only."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from raygym.config import TlsFiles
from raygym.core import Endpoint, Remote, Secret
from raygym.errors import ConfigError, RemoteUnreachable
from raygym.remote_env.docker.container import (
    INSIDE,
    RPC_PORT,
    TLS_INSIDE,
    user_and_group,
)
from raygym.remote_env.docker.engine import Engine
from raygym.remote_env.lease_file import LEASE_FILE, LeaseFile, read_untrusted, write_lease
from raygym.remote_env.private_directory import UNIX_SOCKET_MAX_BYTES
from raygym.remote_env.state import remotes_directory

READY_FILE, PASSWORD_FILE, TOKEN_FILE = "ready.json", "password", "token"
LOG_FILE = "remote.log"

_HOSTNAME_CHARS = 12
_MOST_BYTES = 1 << 16
_LONGEST_NAME = "rewarder.sock"
_WRITE = 'umask 022 && printf %s "$1" > {to}.part && mv {to}.part {to}'


class Place(Protocol):
    """Reaches the files of remotes."""

    def directory(self, remote_id: str) -> Path | None:
        """Returns a remote's directory on this machine, whether it is there or not."""
        ...

    def prepare(self, remote_id: str, lease: LeaseFile) -> None:
        """Makes what must be there before the container is; harmless where it is."""
        ...

    def fill(self, container_id: str) -> None:
        """Puts files into a container that was made and not started."""
        ...

    def write_lease(self, remote_id: str, container: str, lease: LeaseFile) -> None:
        """Tells the far end who holds it."""
        ...

    def read(self, remote_id: str, container: str, name: str, *, most_bytes: int) -> str | None:
        """Returns the end of a file of the remote's; None where there is none."""
        ...

    def endpoint(self, remote_id: str, said: str, ports: Mapping[str, Any]) -> Endpoint:
        """Returns where something is that the far end named, as seen from here."""
        ...

    def remove(self, remote_id: str) -> None:
        """Removes what ``prepare`` made."""
        ...


class SharedDirectories:
    """A directory for each remote on this machine, mounted into its container.

    Args:
        state: See ``state_directory``.

    Raises:
        ConfigError: Its path is too long for the sockets in it.
    """

    def __init__(self, state: Path) -> None:
        self.root = remotes_directory(state)
        """Where the directories are."""

    def directory(self, remote_id: str) -> Path:
        """See ``Place``."""
        return self.root / remote_id

    def prepare(self, remote_id: str, lease: LeaseFile) -> None:
        """See ``Place``.

        Raises:
            ConfigError: The path is too long for a unix socket.
            OSError: There is no room.
        """
        directory = self.directory(remote_id)
        if len(os.fsencode(directory / _LONGEST_NAME)) > UNIX_SOCKET_MAX_BYTES:
            raise ConfigError(
                f"RAYGYM_STATE: {self.root.parent} is too long for unix sockets "
                f"({UNIX_SOCKET_MAX_BYTES} bytes in all); name a shorter path"
            )
        directory.mkdir(mode=0o700, exist_ok=True)
        if os.getuid() == 0:
            os.chown(directory, *user_and_group(0, 0), follow_symlinks=False)
        write_lease(directory, lease)

    def fill(self, container_id: str) -> None:
        """See ``Place``."""

    def write_lease(self, remote_id: str, container: str, lease: LeaseFile) -> None:  # noqa: ARG002
        """See ``Place``.

        Raises:
            RemoteUnreachable: The directory is gone, and the remote with it.
        """
        try:
            write_lease(self.directory(remote_id), lease)
        except FileNotFoundError:
            raise RemoteUnreachable(
                f"{remote_id}: its directory is gone; the remote has ended", remote_id=remote_id
            ) from None

    def read(
        self,
        remote_id: str,
        container: str,  # noqa: ARG002
        name: str,
        *,
        most_bytes: int = _MOST_BYTES,
    ) -> str | None:
        """See ``Place``."""
        try:
            return read_untrusted(self.directory(remote_id) / name, most_bytes=most_bytes)
        except OSError:
            return None

    def endpoint(self, remote_id: str, said: str, ports: Mapping[str, Any]) -> Endpoint:  # noqa: ARG002
        """See ``Place``.

        Raises:
            ValueError: It is not in the directory.
        """
        path = PurePosixPath(said.removeprefix("unix:"))
        if not said.startswith("unix:") or str(path.parent) != INSIDE or path.name in ("", ".."):
            raise ValueError(f"{said} is not in {INSIDE}")
        return Endpoint(path=str(self.directory(remote_id) / path.name))

    def remove(self, remote_id: str) -> None:
        """See ``Place``."""
        shutil.rmtree(self.directory(remote_id), ignore_errors=True)


class PublishedPorts:
    """Ports on loopback of the engine's machine, and files that only the engine reaches.

    Args:
        engine: Where the containers are.
        tls: Certificates of the remotes.
    """

    def __init__(self, engine: Engine, tls: TlsFiles | None) -> None:
        self._engine = engine
        self._tls = tls

    def directory(self, remote_id: str) -> None:  # noqa: ARG002
        """See ``Place``."""
        return

    def prepare(self, remote_id: str, lease: LeaseFile) -> None:
        """See ``Place``; the lease is written once it runs."""

    def fill(self, container_id: str) -> None:
        """Puts the certificates into a volume of the container, which ends with it."""
        if self._tls is None:
            return
        data = _tar(self._tls)
        self._engine.ask(
            "putting certificates into a container",
            lambda client: client.api.put_archive(container_id, TLS_INSIDE, data),
        )

    def write_lease(self, remote_id: str, container: str, lease: LeaseFile) -> None:
        """See ``Place``.

        Raises:
            RemoteUnreachable: The container does not run.
        """
        command = _WRITE.format(to=f"{INSIDE}/{LEASE_FILE}")
        text = json.dumps(asdict(lease))
        if self._run(container, ["sh", "-c", command, "sh", text]) is None:
            raise RemoteUnreachable(
                f"{remote_id}: its lease could not be written; the remote has ended",
                remote_id=remote_id,
            )

    def read(
        self,
        remote_id: str,  # noqa: ARG002
        container: str,
        name: str,
        *,
        most_bytes: int = _MOST_BYTES,
    ) -> str | None:
        """See ``Place``."""
        return self._run(container, ["tail", "-c", str(most_bytes), f"{INSIDE}/{name}"])

    def endpoint(self, remote_id: str, said: str, ports: Mapping[str, Any]) -> Endpoint:  # noqa: ARG002
        """See ``Place``.

        Raises:
            ValueError: That port is not published.
        """
        port = said.rpartition(":")[2]
        published = ports.get(f"{port}/tcp") or []
        if not published:
            raise ValueError(f"port {port} is not published")
        is_tls = self._tls is not None and int(port) == RPC_PORT
        return Endpoint(host=self._engine.host, port=int(published[0]["HostPort"]), is_tls=is_tls)

    def remove(self, remote_id: str) -> None:
        """See ``Place``; everything ends with the container."""

    def _run(self, container: str, command: list[str]) -> str | None:
        """Runs a program in a container; returns what it printed, None if it failed."""

        def run(client: Any) -> str | None:
            from docker.errors import APIError

            try:
                made = client.api.exec_create(container, command, stderr=False)
                printed: bytes = client.api.exec_start(made["Id"])
                is_done = client.api.exec_inspect(made["Id"])["ExitCode"] == 0
            except APIError:
                return None
            return printed.decode(errors="replace") if is_done else None

        return self._engine.ask(f"reaching into {container}", run)


def remote_from(
    place: Place, remote_id: str, runtime: str, container_id: str, ports: Mapping[str, Any]
) -> Remote | None:
    """Returns a Remote that listens; None while it does not.

    Args:
        place: Where its files are.
        remote_id: Its name.
        runtime: Name of its Runtime.
        container_id: Of its container. What another one left in the directory does not count.
        ports: What the engine publishes of it.

    Raises:
        ValueError, KeyError, TypeError: What it says makes no sense.
    """
    text = place.read(remote_id, container_id, READY_FILE, most_bytes=_MOST_BYTES)
    if text is None or not text.strip():
        return None
    said = json.loads(text)
    # The engine names a container's host by the start of its id.
    if said["hostname"] != container_id[:_HOSTNAME_CHARS]:
        return None
    if said["runtime"] != runtime:
        raise ValueError(f"it says that it is a {said['runtime']!r}")
    password = place.read(remote_id, container_id, PASSWORD_FILE, most_bytes=_MOST_BYTES) or (
        place.read(remote_id, container_id, TOKEN_FILE, most_bytes=_MOST_BYTES)
    )
    vnc, rewarder, rpc = (
        place.endpoint(remote_id, str(said[kind]), ports) if said.get(kind) else None
        for kind in ("vnc", "rewarder", "rpc")
    )
    return Remote(
        id=remote_id,
        runtime=runtime,
        vnc=vnc,
        rewarder=rewarder,
        rpc=rpc,
        password=Secret(password.strip()) if password and password.strip() else None,
    )


def _tar(tls: TlsFiles) -> bytes:
    user, group = user_and_group(os.getuid(), os.getgid())
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as tar:
        for name, path in (("cert.pem", tls.cert), ("key.pem", tls.key), ("ca.pem", tls.ca)):
            if path is None:
                continue
            data = path.read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.uid, entry.gid = len(data), 0o400, user, group
            tar.addfile(entry, io.BytesIO(data))
    return held.getvalue()
