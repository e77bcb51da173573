"""What a remote's container is started with: pure, from what is wanted to what the SDK takes."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raygym.catalog import Runtime
from raygym.config import TlsFiles, check_range
from raygym.errors import ConfigError
from raygym.version import VERSION

INSIDE = "/run/raygym"
"""The remote's directory, as the container sees it."""
TLS_INSIDE = "/etc/raygym-tls"
"""Where certificates are put before the start."""
VNC_PORT, REWARDER_PORT, RPC_PORT = 5900, 15900, 15901
"""TCP ports inside; the first two as in Universe."""
UNPRIVILEGED_ID = 10001
"""User and group inside, where this process is root."""

CLUSTER = "raygym.cluster"
REMOTE = "raygym.remote"
RUNTIME = "raygym.runtime"
VARIANT = "raygym.variant"
FIRST_CLIENT = "raygym.first_client"
CREATED = "raygym.created"
DIRECTORY = "raygym.directory"
"""Labels, fixed at creation."""

_REMOTE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_SECRET_OPTIONS = ("--password-file", "--password-fd", "--token-file")
_GYM_CORE = "gym-core"


@dataclass(frozen=True, kw_only=True)
class ContainerOptions:
    """How containers are started, the same for all of one store."""

    lease_grace_s: float = 30.0
    """How long a remote waits for its first lease."""
    publish_ports: bool = False
    """TCP ports of the engine's machine, in place of a shared directory."""
    publish_host: str = "127.0.0.1"
    """On which address of that machine."""
    tls: TlsFiles | None = None
    """Certificates of the remote, for published gRPC."""
    container_runtime: str | None = None
    """The engine's runtime, such as ``runsc``; None takes the engine's default."""

    def __post_init__(self) -> None:
        check_range("ContainerOptions", "lease_grace_s", self.lease_grace_s, 1, 3600)
        if self.tls is not None and not self.publish_ports:
            raise ConfigError(
                "tls: a container that shares a directory of sockets speaks no TLS; drop tls, or "
                "say publish_ports=True"
            )
        if self.tls is not None and self.tls.cert is None:
            raise ConfigError("tls: a remote needs a certificate and its key, and got none")


@dataclass(frozen=True, kw_only=True)
class Order:
    """One container to make."""

    remote_id: str
    """Name of the remote."""
    runtime: Runtime
    """What it hosts."""
    image: str
    """Repository and tag."""
    client_id: str
    """For whom it is made first."""
    variant: tuple[str, ...]
    """More arguments of the far end."""
    cluster: str
    """Which cluster it belongs to."""
    created: str
    """ISO 8601, UTC."""
    directory: Path | None
    """On this machine; None where ports are published."""

    def __post_init__(self) -> None:
        check_remote_id(self.remote_id)
        for argument in self.variant:
            if argument.split("=", 1)[0] in _SECRET_OPTIONS:
                raise ConfigError(
                    f"variant: {argument} has no place among a container's arguments, which "
                    "everybody can see who may ask the engine; the remote makes its own password"
                )


def check_remote_id(remote_id: str) -> str:
    """Returns the id of a remote that can name a container and a directory.

    Raises:
        ConfigError: It cannot.
    """
    if _REMOTE_ID.fullmatch(remote_id) is None:
        raise ConfigError(
            f"remote_id: expected 1 to 63 letters, digits, _ and -, got {remote_id!r}"
        )
    return remote_id


def container_name(remote_id: str) -> str:
    """Returns the name of a remote's container, which the engine gives only once."""
    return f"raygym-{remote_id}"


def image_of(runtime: Runtime) -> str:
    """Returns the image of a Runtime, with the tag of this version.

    Raises:
        ConfigError: It has none.
    """
    if runtime.image is None:
        raise ConfigError(
            f"{runtime.name} has no image to run in a container; take backend='process'"
        )
    return f"{runtime.image}:{VERSION}"


def user_and_group(uid: int, gid: int) -> tuple[int, int]:
    """Returns who a container runs as for somebody on this machine: never root."""
    return (uid, gid) if uid != 0 else (UNPRIVILEGED_ID, UNPRIVILEGED_ID)


def labels(order: Order) -> dict[str, str]:
    """Returns what tells of a container whose remote it is."""
    return {
        CLUSTER: order.cluster,
        REMOTE: order.remote_id,
        RUNTIME: order.runtime.name,
        VARIANT: json.dumps(list(order.variant)),
        FIRST_CLIENT: order.client_id,
        CREATED: order.created,
        DIRECTORY: "" if order.directory is None else str(order.directory),
    }


def far_end(order: Order, options: ContainerOptions) -> list[str]:
    """Returns the arguments of the image's entry point, ``python -m raygym.runtimes RUNTIME``."""
    arguments = ["--directory", INSIDE]
    arguments += ["--lease-grace-s", f"{options.lease_grace_s:g}", "--idle-timeout-s", "0"]
    arguments += ["--log-file", f"{INSIDE}/remote.log", *order.variant]
    is_choosy = any(a.split("=", 1)[0] in ("--env", "--any-env") for a in order.variant)
    if order.runtime.name == _GYM_CORE and not is_choosy:
        arguments.append("--any-env")
    if not options.publish_ports:
        return [*arguments, "--contained"]
    arguments += ["--bind", "0.0.0.0"]  # noqa: S104  only published ports reach it
    if not is_lockstep(order.runtime, order.variant):
        return [*arguments, "--vnc-port", str(VNC_PORT), "--rewarder-port", str(REWARDER_PORT)]
    arguments += ["--rpc-port", str(RPC_PORT)]
    if options.tls is None:
        return [*arguments, "--insecure"]
    arguments += ["--tls-cert", f"{TLS_INSIDE}/cert.pem", "--tls-key", f"{TLS_INSIDE}/key.pem"]
    return arguments if options.tls.ca is None else [*arguments, "--tls-ca", f"{TLS_INSIDE}/ca.pem"]


def is_lockstep(runtime: Runtime, variant: Sequence[str]) -> bool:
    """Returns whether the far end will run in lock-step, as its arguments say."""
    for index, argument in enumerate(variant):
        if argument.startswith("--mode="):
            return argument == "--mode=lockstep"
        if argument == "--mode" and index + 1 < len(variant):
            return variant[index + 1] == "lockstep"
    return runtime.name == _GYM_CORE


def creation(
    order: Order, options: ContainerOptions, *, uid: int | None = None, gid: int | None = None
) -> dict[str, Any]:
    """Returns the keyword arguments of the SDK's ``containers.create``.

    Everything that a remote has no use for is taken away: capabilities, a network, a root that
    can be written to, memory beyond its own. The seccomp profile is the engine's default one.

    Args:
        order: What to make.
        options: How.
        uid: Of the user on whose behalf; None takes that of this process.
        gid: Of their group.
    """
    runtime = order.runtime
    user, group = user_and_group(
        os.getuid() if uid is None else uid, os.getgid() if gid is None else gid
    )
    memory = f"{runtime.memory_mib}m"
    tmp_mib = max(64, runtime.memory_mib // 2)
    mine = f"uid={user},gid={group},mode=0700"
    made: dict[str, Any] = {
        "image": order.image,
        "command": far_end(order, options),
        "name": container_name(order.remote_id),
        "labels": labels(order),
        "user": f"{user}:{group}",
        "environment": {"HOME": "/tmp", "TMPDIR": "/tmp"},  # noqa: S108  a tmpfs of its own
        "auto_remove": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "privileged": False,
        "ipc_mode": "private",
        "read_only": True,
        "tmpfs": {"/tmp": f"rw,nosuid,nodev,noexec,size={tmp_mib}m,mode=1777"},  # noqa: S108
        "mem_limit": memory,
        "memswap_limit": memory,
        "nano_cpus": int(runtime.cpus * 1e9),
        "pids_limit": runtime.pids,
        "network_mode": "bridge" if runtime.needs_network or options.publish_ports else "none",
        # The store looks after its containers; a check of the image's would cost a process each.
        "healthcheck": {"test": ["NONE"]},
        "log_config": {"Type": "json-file", "Config": {"max-size": "2m", "max-file": "1"}},
    }
    if options.container_runtime is not None:
        made["runtime"] = options.container_runtime
    if order.directory is not None:
        # Of a directory that the engine does not see, "volumes" would make another.
        made["mounts"] = [{"Type": "bind", "Source": str(order.directory), "Target": INSIDE}]
        return made
    made["tmpfs"][INSIDE] = f"rw,nosuid,nodev,noexec,size=64m,{mine}"
    ports = [RPC_PORT] if is_lockstep(runtime, order.variant) else [VNC_PORT, REWARDER_PORT]
    made["ports"] = {f"{port}/tcp": (options.publish_host, None) for port in ports}
    if options.tls is not None:
        # Files can be put into a volume before the start, and into a read-only root they cannot.
        made["volumes"] = [TLS_INSIDE]
    return made


def docker_run(made: Mapping[str, Any]) -> str:
    """Returns the command line that does what ``creation`` says; there are no secrets in it."""
    words = ["docker", "run", "--detach", "--rm", "--name", made["name"], "--user", made["user"]]
    words += ["--read-only", "--cap-drop", "ALL", "--ipc", made["ipc_mode"]]
    words += [f"--security-opt={option}" for option in made["security_opt"]]
    words += ["--memory", made["mem_limit"], "--memory-swap", made["memswap_limit"]]
    words += ["--cpus", f"{made['nano_cpus'] / 1e9:g}", "--pids-limit", str(made["pids_limit"])]
    words += ["--network", made["network_mode"], "--no-healthcheck"]
    words += [f"--log-opt={key}={value}" for key, value in made["log_config"]["Config"].items()]
    for path, given in made["tmpfs"].items():
        words += ["--tmpfs", f"{path}:{given}"]
    for mount in made.get("mounts", ()):
        words += ["--mount", f"type=bind,source={mount['Source']},target={mount['Target']}"]
    for volume in made.get("volumes", ()):
        words += ["--volume", volume]
    for port, (host, _) in made.get("ports", {}).items():
        words += ["--publish", f"{host}::{port}"]
    if "runtime" in made:
        words += ["--runtime", made["runtime"]]
    for name, value in made["environment"].items():
        words += ["--env", f"{name}={value}"]
    for name, value in made["labels"].items():
        words += ["--label", f"{name}={value}"]
    return shlex.join([*words, made["image"], *made["command"]])
