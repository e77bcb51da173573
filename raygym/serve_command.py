"""``raygym serve``: leases remotes to clients without Ray, over gRPC and HTTP."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raygym.config import TlsFiles
from raygym.errors import ConfigError, RaygymError
from raygym.gateway.config import GatewayConfig, LeaseLimits
from raygym.gateway.tenants import Tenants

if TYPE_CHECKING:
    from raygym.gateway.http_front import HttpConfig
    from raygym.gateway.serving import RunningGateway
    from raygym.gateway.status import GatewayStatus

_LIMITS = LeaseLimits()
_LOOK_S = 5.0
_DEFAULT_PORT = 50700
_DEFAULT_HTTP_PORT = 50701


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """Adds the options of ``raygym serve``."""
    what = verb.add_mutually_exclusive_group()
    what.add_argument(
        "--detach", action="store_true", help="leave the gateways running in the Ray cluster"
    )
    what.add_argument("--stop", action="store_true", help="end the gateways of the Ray cluster")
    what.add_argument("--status", action="store_true", help="say what they do")
    add = verb.add_argument
    add("--json", action="store_true", help="--status for programs")
    add(
        "--nodes",
        choices=["all", "this"],
        default="all",
        help="serve on each node of the Ray cluster, or on this one; all",
    )
    _add_listening(verb.add_argument_group("where it listens, and whom it lets in"))
    _add_leases(verb.add_argument_group("what it leases"))


def _add_listening(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--host", default="127.0.0.1", help="interface; 127.0.0.1")
    add("--port", type=int, default=_DEFAULT_PORT, help=f"of gRPC; 0 any free; {_DEFAULT_PORT}")
    add(
        "--http-port",
        type=int,
        default=_DEFAULT_HTTP_PORT,
        help=f"of HTTP; 0 any free, -1 no HTTP; {_DEFAULT_HTTP_PORT}",
    )
    add("--tokens", type=Path, metavar="FILE", help="YAML of tenants, their tokens and quotas")
    add("--tls-cert", type=Path, metavar="FILE", help="certificate chain of this gateway (PEM)")
    add("--tls-key", type=Path, metavar="FILE", help="its private key (PEM)")
    add(
        "--tls-ca",
        type=Path,
        metavar="FILE",
        help="authority that clients' certificates must come from (PEM)",
    )
    add("--insecure", action="store_true", help="allow plaintext beyond this machine")
    add(
        "--advertise",
        default="",
        metavar="HOST",
        help="host at which HTTP clients are told to dial remotes; the one they asked by",
    )
    add(
        "--forward-ports",
        metavar="FIRST-LAST",
        help="ports of remotes that HTTP clients dial; any",
    )


def _add_leases(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--envs",
        nargs="+",
        default=["*"],
        metavar="ID",
        help="what clients may ask for: ids, and patterns as 'flashgames.*'; all",
    )
    add("--backend", choices=["auto", "docker", "process"], default="auto")
    add("--slots", type=int, default=_LIMITS.slots, help=f"most remotes a node; {_LIMITS.slots}")
    add("--quota", type=int, metavar="SLOTS", help="most of one client's certificate; all")
    for name, what in (
        ("queue_timeout", "longest wait for a slot"),
        ("keep", "how long a remote is kept for its tenant after use"),
        ("idle_timeout", "a client that asks nothing for so long loses its remote; 0 never"),
        ("start_timeout", "longest start of a remote"),
    ):
        default = getattr(_LIMITS, f"{name}_s")
        add(
            f"--{name.replace('_', '-')}",
            type=float,
            default=default,
            metavar="SECONDS",
            help=f"{what}; {default:g}",
        )
    waiting, envs = _LIMITS.max_waiting, _LIMITS.max_envs
    add("--max-waiting", type=int, default=waiting, help=f"most that may wait; {waiting}")
    add("--max-envs", type=int, default=envs, help=f"most environments of one lease; {envs}")


def main(arguments: argparse.Namespace) -> int:
    """Serves until Ctrl-C, or does what else was asked for; returns the exit status.

    Raises:
        ConfigError: The options make no sense, or it cannot listen there.
        RaygymError: A gateway did not start, or gives no answer.
    """
    if arguments.stop or arguments.status:
        return _look(arguments)
    config = gateway_config(arguments)
    if arguments.detach and not os.environ.get("RAY_ADDRESS"):
        raise ConfigError(
            "--detach leaves gateways in a Ray cluster that goes on, and RAY_ADDRESS names none. "
            "Start one with `ray start --head` and set RAY_ADDRESS=auto, or leave --detach out"
        )
    from raygym.service.ray_running import ray_running

    is_stopped = threading.Event()
    _hear_signals(is_stopped)
    with ray_running(1, has_dashboard=False):
        from raygym.gateway.serving import start_gateways

        # Ray puts a handler of its own for SIGTERM there.
        _hear_signals(is_stopped)
        gateways = start_gateways(config, _nodes(arguments.nodes), is_left=arguments.detach)
        for gateway in gateways:
            print(_address(gateway, config), flush=True)
        if arguments.detach:
            print("raygym serve --stop ends it", flush=True)
            return 0
        print("Ctrl-C ends it", flush=True)
        try:
            _watch(gateways, config, is_stopped)
        finally:
            for gateway in gateways:
                gateway.stop()
    return 0


def gateway_config(arguments: argparse.Namespace) -> GatewayConfig:
    """Returns what the options ask for.

    Raises:
        ConfigError: They make no sense, or a file of theirs cannot be read.
    """
    tls = None
    if arguments.tls_cert or arguments.tls_key or arguments.tls_ca:
        if not (arguments.tls_cert and arguments.tls_key):
            raise ConfigError(
                "--tls-cert and --tls-key belong together; `raygym certs init` makes both"
            )
        tls = TlsFiles(
            **{
                name: None if path is None else path.absolute()
                for name, path in (
                    ("cert", arguments.tls_cert),
                    ("key", arguments.tls_key),
                    ("ca", arguments.tls_ca),
                )
            }
        )
    return GatewayConfig(
        tenants=_tenants(arguments),
        host=arguments.host,
        port=arguments.port,
        http=_http(arguments, tls),
        tls=tls,
        is_insecure=arguments.insecure,
        env_ids=tuple(arguments.envs),
        backend=arguments.backend,
        limits=LeaseLimits(
            slots=arguments.slots,
            max_waiting=arguments.max_waiting,
            queue_timeout_s=arguments.queue_timeout,
            keep_s=arguments.keep,
            idle_timeout_s=arguments.idle_timeout,
            start_timeout_s=arguments.start_timeout,
            max_envs=arguments.max_envs,
        ),
    )


def _tenants(arguments: argparse.Namespace) -> Tenants:
    takes_certificates = arguments.tls_ca is not None
    if arguments.tokens is not None:
        return Tenants.of_file(arguments.tokens, takes_certificates=takes_certificates)
    if takes_certificates:
        return Tenants(takes_certificates=True, certificate_quota=arguments.quota)
    return Tenants(is_open=True)


def _http(arguments: argparse.Namespace, tls: TlsFiles | None) -> HttpConfig | None:
    if arguments.http_port == -1:
        return None
    from raygym.gateway.http_front import HttpConfig

    return HttpConfig(
        host=arguments.host,
        port=arguments.http_port,
        advertise=arguments.advertise,
        forward_ports=_ports(arguments.forward_ports),
        tls=tls,
        is_insecure=arguments.insecure,
    )


def _ports(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    first, dash, last = text.partition("-")
    if not (dash and first.isdigit() and last.isdigit()):
        raise ConfigError(f"--forward-ports: expected FIRST-LAST, as in 15900-15999, got {text!r}")
    return int(first), int(last)


def _nodes(which: str) -> Sequence[str]:
    import ray

    from raygym.service.ray_running import alive_nodes

    if which == "this":
        return [ray.get_runtime_context().get_node_id()]
    return alive_nodes()


def _hear_signals(is_stopped: threading.Event) -> None:
    """Sets an event once this process is told to end."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: is_stopped.set())


def _watch(
    gateways: Sequence[RunningGateway], config: GatewayConfig, is_stopped: threading.Event
) -> None:
    """Waits for the end, and says where a gateway that died came back."""
    known = {gateway.node: _address(gateway, config) for gateway in gateways}
    while not is_stopped.wait(_LOOK_S):
        for gateway in gateways:
            try:
                address = _address(gateway, config)
            except RaygymError as error:
                address = f"lost: {error.message}"
            if known[gateway.node] != address:
                known[gateway.node] = address
                print(address, flush=True)


def _address(gateway: RunningGateway, config: GatewayConfig) -> str:
    listening = gateway.served().listening
    grpc = f"grpc{'s' if config.tls else ''}://{listening.grpc}"
    http = (
        ""
        if listening.http_port is None
        else f", http{'s' if config.tls else ''}://{config.host}:{listening.http_port}"
    )
    return f"node {gateway.node[:8]} serves at {grpc}{http}"


def _look(arguments: argparse.Namespace) -> int:
    """Ends the gateways of a cluster, or says what they do."""
    if not os.environ.get("RAY_ADDRESS"):
        raise ConfigError(
            "RAY_ADDRESS names no Ray cluster to look for gateways in; RAY_ADDRESS=auto is the "
            "one that was started on this machine"
        )
    from raygym.service.ray_running import ray_running

    with ray_running(1, has_dashboard=False):
        from raygym.gateway.serving import find_gateways

        gateways = find_gateways()
        if arguments.stop:
            for gateway in gateways:
                gateway.stop()
            print(f"ended {len(gateways)} gateways")
            return 0
        rows = {gateway.node: gateway.status() for gateway in gateways}
        if arguments.json:
            print(json.dumps({node: as_json(status) for node, status in rows.items()}, indent=2))
        else:
            for node, status in rows.items():
                print(_line(node, status))
        return 0 if gateways else 1


def as_json(status: GatewayStatus) -> dict[str, Any]:
    """Returns a status as JSON has it."""
    told = dataclasses.asdict(status)
    buckets = told["streams"]["round_trip_buckets"]
    told["streams"]["round_trip_buckets"] = {f"{top:g}": n for top, n in buckets.items()}
    return told


def _line(node: str, status: GatewayStatus) -> str:
    return (
        f"node {node[:8]}: {status.used} of {status.slots} slots in use, {status.idle} kept, "
        f"{len(status.waiting)} waiting, {status.streams.open} streams, {status.granted} leases "
        f"granted, {status.given_back} given back, {sum(status.refused.values())} refused"
    )
