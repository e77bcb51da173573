"""Addresses into environments."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode

from raygym.config import ObservationConfig, TlsFiles, check_range
from raygym.core import Remote, Secret
from raygym.errors import ConfigError, HandshakeRefused
from raygym.remote_env.address import parse_remotes
from raygym.remote_env.rpc.answers import check_arguments
from raygym.remote_env.rpc.channel import MethodUnknown
from raygym.remote_env.rpc.connect import Access, open_session
from raygym.remote_env.rpc.dm_env import DmEnv
from raygym.remote_env.rpc.dm_session import METHOD as DM_METHOD
from raygym.remote_env.rpc.env import Failures, RpcEnv
from raygym.remote_env.rpc.grpc_channel import GrpcChannel
from raygym.remote_env.rpc.link import Link
from raygym.remote_env.rpc.pictures import picture_message
from raygym.remote_env.rpc.session import MakeOptions
from raygym.remote_env.rpc.vector import RpcVectorEnv
from raygym.wire.proto import raygym_v1_pb2 as pb

log = logging.getLogger(__name__)

_AUTORESET = {
    AutoresetMode.NEXT_STEP: pb.NEXT_STEP,
    AutoresetMode.SAME_STEP: pb.SAME_STEP,
    AutoresetMode.DISABLED: pb.DISABLED,
}
_ENTRY_POINT = "raygym.remote_env.rpc.remote:RemoteEnv"
_NO_NAME = "raygym/Remote-v0"


@dataclass(frozen=True, kw_only=True)
class RpcOptions:
    """How environments at an address are reached and played, apart from where they are."""

    env_id: str = ""
    """One of the server's ids; empty: its only one."""
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """For the environment's factory."""
    render_mode: str | None = None
    """``rgb_array`` or None."""
    frame_skip: int = 1
    """Frames of one step, the action held down."""
    observation: ObservationConfig | None = None
    """What becomes of observations that are pictures, at the far end."""
    token: Secret | str | None = None
    """What the server asks for; it goes before one in the address."""
    tls: TlsFiles | None = None
    """Authority of the server's certificate, and this client's own."""
    is_insecure: bool = False
    """Whether plaintext may go to other machines."""
    connect_timeout_s: float = 10.0
    """Longest wait for a connection."""
    step_timeout_s: float = 70.0
    """Longest wait for a step; the server's own deadline should be shorter."""
    start_timeout_s: float = 75.0
    """Longest wait for making or resetting environments."""
    failures: Failures = "raise"
    """What a step does about an environment that broke; see RpcEnv."""
    client_id: str = ""
    """Names this client in the server's logs."""
    uses_local_socket: bool = True
    """Whether a server on this machine may be spoken to over its unix socket."""
    uses_shared_memory: bool = True
    """Whether a server on this machine may put observations into shared memory."""

    def __post_init__(self) -> None:
        check_arguments(self.failures, self.render_mode)
        check_range("RpcOptions", "frame_skip", self.frame_skip, 1, 10_000)
        for name in ("connect_timeout_s", "step_timeout_s", "start_timeout_s"):
            check_range("RpcOptions", name, getattr(self, name), 0.001, 86400)

    def make_options(self, count: int, autoreset: AutoresetMode) -> MakeOptions:
        """Returns what a server is asked for."""
        return MakeOptions(
            env_id=self.env_id,
            count=count,
            autoreset=_AUTORESET[autoreset],
            render_mode=self.render_mode,
            env_kwargs=self.env_kwargs,
            picture=picture_message(self.observation),
            frame_skip=self.frame_skip,
            wants_shared_memory=self.uses_shared_memory,
        )


def open_env(address: str, **options: Any) -> RpcEnv | DmEnv:
    """Opens an environment in lock-step.

    A gRPC server that speaks no raygym.v1 is spoken to in dm_env_rpc, as remote-gym's are;
    a warning says what that lacks.

    Args:
        address: ``grpc://host:port``, ``grpcs://host:port?token=...``, or
            ``grpc+unix:///path/of/a.sock``.
        **options: See RpcOptions.

    Raises:
        ConfigError: An argument makes no sense, or the server refuses one.
        RemoteUnreachable, HandshakeRefused: See ``connect``.
        RemoteEnvError: The environment's factory raised.
    """
    settings = _options(options)
    access, where = _access(address, settings)
    try:
        link = _link(access, settings, 1, AutoresetMode.DISABLED)
    except MethodUnknown:
        return _open_dm(access, settings)
    try:
        env = RpcEnv(
            link,
            failures=settings.failures,
            render_mode=settings.render_mode,
            step_timeout_s=settings.step_timeout_s,
            start_timeout_s=settings.start_timeout_s,
        )
    except BaseException:
        link.close()
        raise
    env.spec = _spec(settings.env_id, {**options, "address": where, "token": access.token})
    return env


def open_vector_env(
    address: str,
    count: int,
    *,
    autoreset: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    **options: Any,
) -> RpcVectorEnv:
    """Opens environments in lock-step, many in one conversation.

    Args:
        address: As for ``open_env``.
        count: How many.
        autoreset: What follows the end of an episode.
        **options: See RpcOptions.

    Raises:
        ConfigError: As ``open_env``; or the server speaks no raygym.v1.
        RemoteUnreachable, HandshakeRefused, RemoteEnvError: As ``open_env``.
    """
    settings = _options(options)
    check_range("open_vector_env", "count", count, 1, 1_000_000)
    try:
        mode = AutoresetMode(autoreset)
    except ValueError as error:
        known = ", ".join(mode.name for mode in AutoresetMode)
        raise ConfigError(f"autoreset: expected {known}, got {autoreset!r}") from error
    access, _ = _access(address, settings)
    try:
        link = _link(access, settings, count, mode)
    except MethodUnknown as error:
        raise ConfigError(
            f"{access.endpoint} speaks no raygym.v1, and only that carries many environments; "
            "open single ones with open_env"
        ) from error
    try:
        return RpcVectorEnv(
            link,
            count,
            autoreset=mode,
            failures=settings.failures,
            render_mode=settings.render_mode,
            step_timeout_s=settings.step_timeout_s,
            start_timeout_s=settings.start_timeout_s,
        )
    except BaseException:
        link.close()
        raise


def _options(options: Mapping[str, Any]) -> RpcOptions:
    try:
        return RpcOptions(**{"env_kwargs": {}, **_without_nones(options)})
    except TypeError as error:
        known = ", ".join(RpcOptions.__dataclass_fields__)
        raise ConfigError(f"open_env: {error}; known: {known}") from error


def _without_nones(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value is not None}


def _access(address: str, options: RpcOptions) -> tuple[Access, str]:
    remotes = parse_remotes(address)
    remote = remotes[0] if isinstance(remotes, list) and len(remotes) == 1 else None
    if not isinstance(remote, Remote) or remote.rpc is None:
        raise ConfigError(
            "open_env: expected one address, such as grpc://127.0.0.1:50051, grpcs://host:50051 "
            "or grpc+unix:///run/game/rpc.sock"
        )
    token = Secret(options.token) if isinstance(options.token, str) else options.token
    access = Access(
        endpoint=remote.rpc,
        token=token or remote.password,
        tls=options.tls,
        is_insecure=options.is_insecure,
    )
    return access, remote.id


def _link(access: Access, options: RpcOptions, count: int, autoreset: AutoresetMode) -> Link:
    opener = functools.partial(
        open_session,
        access,
        client_id=options.client_id,
        uses_local_socket=options.uses_local_socket,
    )
    return Link(
        opener,
        options.make_options(count, autoreset),
        connect_timeout_s=options.connect_timeout_s,
        start_timeout_s=options.start_timeout_s,
    )


def _open_dm(access: Access, options: RpcOptions) -> DmEnv:
    if options.observation is not None or options.frame_skip != 1:
        raise ConfigError(
            f"{access.endpoint} speaks no raygym.v1, and only that carries frame_skip and "
            "observation; wrap the environment instead"
        )

    def open_channel() -> GrpcChannel:
        return access.channel(method=DM_METHOD)

    args = {"entrypoint_kwargs": dict(options.env_kwargs)} if options.env_kwargs else {}
    if options.env_id:
        args["entrypoint"] = options.env_id  # type: ignore[assignment]
    try:
        env = DmEnv(
            open_channel,
            name=str(access.endpoint),
            remote_args=args or None,
            render_mode=options.render_mode,
            start_timeout_s=options.start_timeout_s,
            step_timeout_s=options.step_timeout_s,
        )
    except MethodUnknown as error:
        raise HandshakeRefused(
            f"{access.endpoint} is a gRPC server and speaks neither raygym.v1 nor dm_env_rpc; is "
            "the port right?",
            problem="protocol",
        ) from error
    log.warning(
        "rpc.dm_env_rpc name=%s: the server speaks no raygym.v1; info and options do not come "
        "through%s",
        access.endpoint,
        ", nor do seeds, and every end is called terminated" if env.is_remote_gym else "",
    )
    return env


def _spec(env_id: str, kwargs: dict[str, Any]) -> EnvSpec:
    make = functools.partial(
        EnvSpec,
        entry_point=_ENTRY_POINT,
        kwargs=kwargs,
        # The far end wraps the environment already.
        order_enforce=False,
        disable_env_checker=True,
    )
    try:
        return make(env_id or _NO_NAME)
    except gymnasium.error.Error:
        return make(_NO_NAME)
