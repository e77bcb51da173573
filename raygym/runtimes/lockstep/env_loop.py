"""raygym.v1 for environments of this process: a request in, a response out, no sockets."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from google.protobuf.message import DecodeError

from raygym.errors import RaygymError
from raygym.gym_ids import ANY_ENV
from raygym.runtimes.lockstep.answers import (
    Face,
    Refused,
    error_of,
    error_response,
    indices,
    refused,
)
from raygym.runtimes.lockstep.group import EnvGroup, Options
from raygym.runtimes.lockstep.limits import Limits
from raygym.runtimes.lockstep.memory import SharedMemory
from raygym.runtimes.lockstep.rows import RowsEncoder
from raygym.runtimes.lockstep.slot import BROKEN
from raygym.wire.leaves import (
    LeafValue,
    are_members,
    array_to_message,
    explain,
    leaf_spaces,
    leaves_from_messages,
    shared_memory_bytes,
    unstack_values,
)
from raygym.wire.proto import raygym_v1_pb2 as pb
from raygym.wire.spaces import space_to_message
from raygym.wire.values import map_from_message, map_to_message, value_from_message

EnvFactory = Callable[[str, Mapping[str, Any]], gymnasium.Env[Any, Any]]
"""Makes an environment of an id (empty where there is only one) and keyword arguments."""


class EnvLoop:
    """The environments of one conversation, from Hello to its end.

    Not thread-safe. What an environment raises becomes part of a response; what it never
    returns from blocks.

    Args:
        factory: Makes environments. ``render_mode`` is among its keyword arguments where the
            client wants one.
        env_ids: What a client may ask for; none: one environment without a name; ``ANY_ENV``:
            the factory knows.
        runtime: Name of the Runtime.
        limits: What a client may ask for.
        local_socket: Where the same is spoken over a unix socket.
        memory: To hold observations; None makes some where a client of this machine wants it.
        memory_directory: Where that is made, if it must have a name there.
    """

    def __init__(
        self,
        factory: EnvFactory,
        *,
        env_ids: Sequence[str] = (),
        runtime: str = "",
        limits: Limits | None = None,
        local_socket: str = "",
        memory: SharedMemory | None = None,
        memory_directory: Path | None = None,
    ) -> None:
        self._factory = factory
        self._face = Face(runtime=runtime, env_ids=tuple(env_ids), local_socket=local_socket)
        self._limits = limits or Limits()
        self._memory = memory
        self._memory_directory = memory_directory
        self._is_local: bool | None = None
        self._group: EnvGroup | None = None
        self._handlers: dict[str | None, Callable[[pb.Request], pb.Response]] = {
            "step": self._step,
            "reset": self._reset,
            "render": self._render,
            "hello": self._hello,
            "make": self._make,
        }

    @property
    def group(self) -> EnvGroup | None:
        """The environments, once a Make succeeded."""
        return self._group

    def handle(self, request: pb.Request) -> pb.Response:
        """Does what a request says; returns the answer, which is an Error if it did nothing."""
        handler = self._handlers.get(request.WhichOneof("body"))
        if handler is None:
            return error_response(
                request.id,
                pb.Error.INVALID_ARGUMENT,
                "this is no request of raygym.v1, or one of a kind that is not known here",
            )
        try:
            response = handler(request)
        except Refused as refusal:
            return error_response(request.id, refusal.code, refusal.message)
        except RaygymError as error:
            return error_response(request.id, pb.Error.INVALID_ARGUMENT, error.message)
        response.id = request.id
        return response

    def serialise(self, response: pb.Response) -> bytes:
        """Returns an answer as bytes, or one that says that it is too long."""
        data = response.SerializeToString()
        if len(data) <= self._limits.max_message_bytes:
            return data
        return error_response(
            response.id,
            pb.Error.RESOURCE_EXHAUSTED,
            f"the answer would be {len(data)} bytes long, and this server sends at most "
            f"{self._limits.max_message_bytes}; ask for fewer environments at a time",
        ).SerializeToString()

    def handle_bytes(self, data: bytes) -> bytes:
        """Does what a serialised request says; returns the serialised answer."""
        return self.serialise(self.handle(parse(data)))

    def close(self) -> None:
        """Closes the environments. May be called twice."""
        if self._group is not None:
            self._group.close()
            self._group = None
        if self._memory is not None:
            self._memory.close()
            self._memory = None

    def _hello(self, request: pb.Request) -> pb.Response:
        if self._is_local is not None:
            raise refused(pb.Error.FAILED_PRECONDITION, "hello: it was said already")
        welcome = self._face.welcome(request.hello, self._limits)
        self._is_local = self._face.is_shared_with(request.hello)
        return pb.Response(welcome=welcome)

    def _make(self, request: pb.Request) -> pb.Response:
        if self._is_local is None:
            raise refused(pb.Error.FAILED_PRECONDITION, "make: say Hello first")
        if self._group is not None:
            raise refused(
                pb.Error.FAILED_PRECONDITION,
                "make: this conversation has its environments; open another for more",
            )
        make = request.make
        factory = self._factory_of(make)
        encoders: list[RowsEncoder] = []
        try:
            group = EnvGroup(factory, make, lambda *final: encoders[0].final(*final))
        except BROKEN as error:
            if isinstance(error, Refused):
                raise
            return pb.Response(error=error_of(error))
        try:
            made = pb.Made(
                observation_space=space_to_message(group.observation_space),
                action_space=space_to_message(group.action_space),
                metadata=map_to_message(group.metadata),
            )
            view = self._share(made, group) if make.wants_shared_memory else None
            encoders.append(RowsEncoder(group, view))
        except BaseException:
            group.close()
            raise
        self._action_leaves = leaf_spaces(group.action_space)
        self._encoder = encoders[0]
        self._group = group
        return pb.Response(made=made)

    def _factory_of(self, make: pb.Make) -> Callable[[], gymnasium.Env[Any, Any]]:
        known = self._face.env_ids
        is_any = known == (ANY_ENV,)
        if is_any and not make.env_id:
            raise refused(pb.Error.NOT_FOUND, "make: say which environment, as in CartPole-v1")
        if not is_any and make.env_id not in known and (make.env_id or len(known) > 1):
            raise refused(
                pb.Error.NOT_FOUND,
                f"make: there is no environment {make.env_id!r} here. Known: "
                + (", ".join(known) or "one without a name"),
            )
        if make.count > self._limits.max_envs:
            raise refused(
                pb.Error.RESOURCE_EXHAUSTED,
                f"make: {make.count} environments are too many for one conversation; "
                f"at most {self._limits.max_envs}",
            )
        if make.kwargs.items and not self._limits.are_kwargs_allowed:
            raise refused(
                pb.Error.INVALID_ARGUMENT,
                f"make: this server allows no kwargs, and got {', '.join(make.kwargs.items)}",
            )
        kwargs = map_from_message(make.kwargs)
        if make.render_mode:
            kwargs["render_mode"] = make.render_mode
        env_id = make.env_id or (known[0] if known else "")
        return functools.partial(self._factory, env_id, kwargs)

    def _share(self, made: pb.Made, group: EnvGroup) -> memoryview | None:
        """Offers shared memory where both ends can use it; it is not there for small things."""
        size = shared_memory_bytes(group.observation_space, len(group.slots))
        if not self._is_local or not 0 < size <= self._limits.max_shared_memory_bytes:
            return None
        try:
            memory = self._memory or SharedMemory(directory=self._memory_directory)
            self._memory = memory
            view = memory.resize(size)
        except OSError:
            return None
        made.shared_memory = memory.path
        made.shared_memory_bytes = size
        return view

    def _made(self, what: str) -> EnvGroup:
        if self._group is None:
            raise refused(
                pb.Error.FAILED_PRECONDITION, f"{what}: there is no environment yet; Make first"
            )
        return self._group

    def _step(self, request: pb.Request) -> pb.Response:
        group = self._made("step")
        step = request.step
        envs = indices(step.envs, len(group.slots))
        leaves = leaves_from_messages(step.actions, self._action_leaves, len(envs))
        is_used = group.uses_actions(envs)
        if not are_members(self._action_leaves, leaves):
            _refuse_actions(group.action_space, leaves, envs, is_used)
        # An environment may work on its action in place.
        owned = [leaf if isinstance(leaf, list) else leaf.copy() for leaf in leaves]
        actions = unstack_values(group.action_space, owned, len(envs))
        return pb.Response(batch=self._encoder.batch(group.step(envs, actions)))

    def _reset(self, request: pb.Request) -> pb.Response:
        group = self._made("reset")
        reset = request.reset
        envs = indices(reset.envs, len(group.slots))
        if reset.seeds and len(reset.seeds) != len(envs):
            raise refused(
                pb.Error.INVALID_ARGUMENT,
                f"reset: {len(reset.seeds)} seeds for {len(envs)} environments; give one each",
            )
        if any(seed < -1 for seed in reset.seeds):
            raise refused(pb.Error.INVALID_ARGUMENT, "reset: a seed is 0 or more; -1 means none")
        seeds = [None if s < 0 else s for s in reset.seeds] or [None] * len(envs)
        rows = group.reset(envs, seeds, _options(reset, len(envs)))
        return pb.Response(batch=self._encoder.batch(rows))

    def _render(self, request: pb.Request) -> pb.Response:
        group = self._made("render")
        envs = indices(request.render.envs, len(group.slots))
        try:
            pictures = group.render(envs)
        except BROKEN as error:
            return pb.Response(error=error_of(error))
        return pb.Response(pictures=pb.Pictures(pictures=[_picture(p) for p in pictures]))


def parse(data: bytes | bytearray) -> pb.Request:
    """Returns a request; one without a body where the bytes are none."""
    try:
        return pb.Request.FromString(data)  # type: ignore[arg-type]  # any buffer will do
    except DecodeError:
        return pb.Request()


def _refuse_actions(
    space: gymnasium.Space[Any],
    leaves: Sequence[LeafValue],
    envs: Sequence[int],
    is_used: Sequence[bool] | None,
) -> None:
    """Finds an action outside of its space, unless its environment ignores actions now."""
    actions = unstack_values(space, leaves, len(envs))
    for row, (env, action) in enumerate(zip(envs, actions, strict=True)):
        why = explain(space, action, where=f"the action of environment {env}")
        if why is not None and (is_used is None or is_used[row]):
            raise refused(pb.Error.INVALID_ARGUMENT, f"step: {why}")


def _options(reset: pb.Reset, count: int) -> list[Options | None]:
    kind = reset.options.WhichOneof("kind")
    if kind in (None, "null"):
        return [None] * count
    options = value_from_message(reset.options)
    per_env = options if kind == "list" else [options] * count
    if len(per_env) != count:
        raise refused(
            pb.Error.INVALID_ARGUMENT,
            f"reset: {len(per_env)} options for {count} environments; give one each, or a Map",
        )
    if not all(option is None or isinstance(option, dict) for option in per_env):
        raise refused(pb.Error.INVALID_ARGUMENT, "reset: options are a Map, or a List of Maps")
    return per_env


def _picture(rendered: Any) -> pb.Array:
    """Returns uint8[H, W, 3], or an empty shape for what is no picture."""
    is_picture = isinstance(rendered, np.ndarray) and rendered.ndim == 3
    if not is_picture or rendered.dtype != np.uint8 or rendered.shape[2] != 3:
        return pb.Array()
    return array_to_message(rendered)
