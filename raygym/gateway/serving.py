"""Starts, finds and ends the gateways of a Ray cluster."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raygym.errors import ConfigError, RaygymError, RemoteError
from raygym.gateway.actor import GatewayActor, Served
from raygym.gateway.config import GatewayConfig
from raygym.gateway.status import GatewayStatus
from raygym.service.detached import NAMESPACE

log = logging.getLogger(__name__)

_PREFIX = "raygym-gateway-"
_THREADS = 8
_ANSWER_TIMEOUT_S = 15.0
_START_TIMEOUT_S = 120.0
_CLOSE_TIMEOUT_S = 75.0


class GatewayUnreachable(RemoteError):
    """A gateway's actor gave no answer in time."""


@dataclass(frozen=True)
class RunningGateway:
    """The actor of one gateway."""

    node: str
    """Id of its Ray node."""
    handle: Any

    def served(self, *, timeout_s: float = _START_TIMEOUT_S) -> Served:
        """Returns where it listens, once it does.

        Raises:
            GatewayUnreachable: No answer came in time.
            RaygymError: It cannot listen, or what it offers makes no sense.
        """
        served: Served = self._ask("served", timeout_s)
        return served

    def status(self) -> GatewayStatus:
        """Returns what it does right now.

        Raises:
            GatewayUnreachable: No answer came in time.
            RaygymError: It does not serve.
        """
        status: GatewayStatus = self._ask("status", _ANSWER_TIMEOUT_S)
        return status

    def stop(self) -> None:
        """Ends it, with all its streams and remotes."""
        try:
            self._ask("close", _CLOSE_TIMEOUT_S)
        # Whatever it raises there, its process must end.
        except (RaygymError, RayError) as error:
            # Its remotes end with its process.
            log.warning("gateway.not_closed node=%s cause=%s", self.node, error)
        with contextlib.suppress(RayError):
            ray.kill(self.handle)

    def _ask(self, method: str, timeout_s: float) -> Any:
        try:
            return ray.get(getattr(self.handle, method).remote(), timeout=timeout_s)
        except RayTaskError as error:
            if isinstance(error.cause, RaygymError):
                raise error.cause from None
            raise
        except (RayError, GetTimeoutError) as error:
            raise GatewayUnreachable(
                f"the gateway of node {self.node[:8]} did not answer {method} within "
                f"{timeout_s:g} s ({type(error).__name__}); see its log with `ray logs actor`"
            ) from error


def start_gateways(
    config: GatewayConfig, nodes: Sequence[str], *, is_left: bool, backends: Any = None
) -> list[RunningGateway]:
    """Starts a gateway on each of the nodes, and waits until all listen.

    Args:
        config: How they serve; the files of TLS must be there on each node.
        nodes: Ids of Ray nodes.
        is_left: Whether they outlive this process; else Ray ends them with it.
        backends: Makes Backends of remotes; None for those that ``config`` names.

    Raises:
        ConfigError: One of them cannot listen, or a gateway runs there already.
        RaygymError: One of them did not start. None is left then.
    """
    taken = {gateway.node for gateway in find_gateways()} & set(nodes)
    if taken:
        raise ConfigError(
            f"a gateway runs already on {_shown(sorted(taken))}; end it with `raygym serve "
            "--stop`, or leave that node out"
        )
    gateways: list[RunningGateway] = []
    try:
        for node in nodes:
            handle = _spawn(config, node, backends, is_left=is_left)
            gateways.append(RunningGateway(node, handle))
        for gateway in gateways:
            gateway.served()
    except BaseException:
        for gateway in gateways:
            gateway.stop()
        raise
    return gateways


def find_gateways() -> list[RunningGateway]:
    """Returns the gateways of this Ray cluster."""
    named: list[dict[str, str]] = ray.util.list_named_actors(all_namespaces=True)
    found = []
    for actor in named:
        if actor["namespace"] != NAMESPACE or not actor["name"].startswith(_PREFIX):
            continue
        # It may be gone by now.
        with contextlib.suppress(ValueError):
            handle = ray.get_actor(actor["name"], namespace=NAMESPACE)
            found.append(RunningGateway(actor["name"].removeprefix(_PREFIX), handle))
    return sorted(found, key=lambda gateway: gateway.node)


def _spawn(config: GatewayConfig, node: str, backends: Any, *, is_left: bool) -> Any:
    return (
        ray.remote(GatewayActor)
        .options(
            name=_PREFIX + node,
            namespace=NAMESPACE,
            lifetime="detached" if is_left else None,
            max_restarts=-1,
            max_concurrency=_THREADS,
            num_cpus=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        )
        .remote(config, node, backends)
    )


def _shown(nodes: Sequence[str]) -> str:
    return ", ".join(f"node {node[:8]}" for node in nodes)
