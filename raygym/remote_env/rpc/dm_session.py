"""One world of a dm_env_rpc server: requests, answers, and the errors in them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Protocol

from google.protobuf.message import DecodeError

from raygym.errors import RemoteError, RemoteProtocolError
from raygym.wire.dm_tensors import tensor_to_message
from raygym.wire.proto import dm_env_rpc_mirror_pb2 as dm

log = logging.getLogger(__name__)

METHOD = "/dm_env_rpc.v1.Environment/Process"
_GOODBYE_TIMEOUT_S = 2.0

Settings = Mapping[str, Any]
"""Numbers, strings and arrays by name."""


class Channel(Protocol):
    """Carries one stream of ``METHOD``."""

    def ask(self, request: bytes, *, timeout_s: float) -> bytes:
        """Sends a message and returns the next that comes back.

        Raises:
            RemoteError: The stream ended, or nothing came in time.
        """

    def close(self) -> None:
        """Ends the stream and its connection; may be called twice."""


class DmRefusal(RemoteError):
    """The server answered a request with an error; the conversation goes on.

    Its field ``code`` is gRPC's number of the kind of error.
    """


class DmSession:
    """One stream to a dm_env_rpc server, joined to a world of its own.

    Args:
        channel: Closed with the session.
        name: Of the server, for messages.
        start_timeout_s: Longest wait for a world, or for the start of a sequence.
        step_timeout_s: Longest wait for a step.
    """

    def __init__(
        self, channel: Channel, *, name: str, start_timeout_s: float, step_timeout_s: float
    ) -> None:
        self._channel = channel
        self._name = name
        self._start_timeout_s = start_timeout_s
        self._step_timeout_s = step_timeout_s
        self._world_name: str | None = None
        self._is_usable = True
        self._is_closed = False

    @property
    def world_name(self) -> str | None:
        """As the server called it."""
        return self._world_name

    def create_world(self, settings: Settings) -> str:
        """Makes a world and returns its name.

        Raises:
            DmRefusal: The server refuses; nothing was made.
            RemoteError: The stream ended, or no answer came in time.
        """
        request = dm.CreateWorldRequest(settings=_tensors(settings))
        answer = self._ask(self._start_timeout_s, create_world=request)
        self._world_name = answer.create_world.world_name
        return self._world_name

    def join_world(self, settings: Settings) -> dm.ActionObservationSpecs:
        """Joins the created world; raises as ``create_world`` does."""
        request = dm.JoinWorldRequest(
            world_name=self._world_name or "", settings=_tensors(settings)
        )
        return self._ask(self._start_timeout_s, join_world=request).join_world.specs

    def reset(self, settings: Settings) -> dm.ActionObservationSpecs:
        """Ends the sequence; raises as ``create_world`` does."""
        request = dm.ResetRequest(settings=_tensors(settings))
        return self._ask(self._start_timeout_s, reset=request).reset.specs

    def reset_world(self, settings: Settings) -> None:
        """Ends the sequence of all players; raises as ``create_world`` does."""
        request = dm.ResetWorldRequest(
            world_name=self._world_name or "", settings=_tensors(settings)
        )
        self._ask(self._start_timeout_s, reset_world=request)

    def step(
        self, actions: Mapping[int, dm.Tensor], uids: list[int], *, is_first: bool
    ) -> dm.StepResponse:
        """Steps, or starts a sequence; raises as ``create_world`` does.

        Args:
            actions: By uid; none with the first step.
            uids: The observations to send.
            is_first: Whether it starts a sequence.
        """
        timeout_s = self._start_timeout_s if is_first else self._step_timeout_s
        request = dm.StepRequest(actions=actions, requested_observations=uids)
        return self._ask(timeout_s, step=request).step

    def close(self) -> None:
        """Leaves and destroys the world as far as the server listens, and hangs up."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            if self._is_usable and self._world_name is not None:
                self._ask(_GOODBYE_TIMEOUT_S, leave_world=dm.LeaveWorldRequest())
                destroy = dm.DestroyWorldRequest(world_name=self._world_name)
                self._ask(_GOODBYE_TIMEOUT_S, destroy_world=destroy)
        except (RemoteError, RemoteProtocolError) as error:
            log.debug("dm_session.goodbye_failed name=%s cause=%s", self._name, error)
        finally:
            self._channel.close()

    def _ask(self, timeout_s: float, **payload: Any) -> dm.EnvironmentResponse:
        request = dm.EnvironmentRequest(**payload)
        (kind,) = payload
        try:
            data = self._channel.ask(request.SerializeToString(), timeout_s=timeout_s)
            response = dm.EnvironmentResponse.FromString(data)
        except DecodeError as error:
            self._is_usable = False
            raise RemoteProtocolError(
                f"{self._name}: what came is no dm_env_rpc.v1.EnvironmentResponse"
            ) from error
        except RemoteError:
            self._is_usable = False
            raise
        came = response.WhichOneof("payload")
        if came == "error":
            status = response.error
            raise DmRefusal(
                f"{self._name} refused {kind}: {status.message or 'it gives no reason'} "
                f"(code {status.code})",
                code=status.code,
            )
        if came != kind:
            self._is_usable = False
            raise RemoteProtocolError(f"{self._name} answered {kind} with {came}")
        return response


def _tensors(settings: Settings) -> dict[str, dm.Tensor]:
    return {name: tensor_to_message(value) for name, value in settings.items()}
