"""Calls a detached, named Ray actor, which may be killed, restarted or not there yet."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RayTaskError

from raygym.errors import RaygymError

log = logging.getLogger(__name__)

NAMESPACE = "raygym"
"""Ray namespace of every actor that outlives the job which made it."""

_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 1.0


def cluster_name() -> str:
    """Returns the name that ties remotes to this Ray cluster, steady across its restarts.

    It is ``$RAYGYM_CLUSTER``, else ``"default"``.
    """
    return os.environ.get("RAYGYM_CLUSTER") or "default"


class _NotNamed(Exception):
    """The name was taken, or given up, while it was looked up."""


class DetachedActor:
    """One detached actor, known by its name; all its methods may be called twice.

    A call whose actor died, restarts or cannot be reached is sent again until its time is
    over, so it may act more than once. May be used from many threads.

    Args:
        name: The actor's name, as it stands in errors.
        get: Finds the actor, or makes it where there is none.
        unreachable: What is raised where no answer comes; whether it acted is not known then.
    """

    def __init__(self, name: str, get: Callable[[], Any], unreachable: type[RaygymError]) -> None:
        self._name = name
        self._get = get
        self._error = unreachable
        self._actor: Any = None
        self._session = ("", "")
        self._lock = threading.Lock()

    def call(self, method: str, *arguments: Any, timeout_s: float, **options: Any) -> Any:
        """Calls a method and returns what it returned.

        Args:
            method: Name of the method.
            *arguments: Its arguments.
            timeout_s: Longest wait in all.
            **options: Its keyword arguments.

        Raises:
            RaygymError, OSError: What the method raised, if it is one of these.
            RaygymError: Of the class ``unreachable``: no answer came within ``timeout_s``.
            RayTaskError: The method raised something else.
        """
        deadline_s = time.monotonic() + timeout_s
        pause_s = _PAUSE_S
        while True:
            left_s = max(0.0, deadline_s - time.monotonic())
            try:
                return ray.get(
                    getattr(self._handle(), method).remote(*arguments, **options), timeout=left_s
                )
            except RayTaskError as error:
                if isinstance(error.cause, RaygymError | OSError):
                    raise error.cause from None
                raise
            except (RayActorError, _NotNamed) as error:
                if not isinstance(error, ActorUnavailableError):
                    self._forget()
                if time.monotonic() + pause_s > deadline_s:
                    raise self._unreachable(method, timeout_s, error) from error
                log.warning(
                    "actor.retry actor=%s method=%s cause=%s", self._name, method, _one_line(error)
                )
            except RayError as error:
                raise self._unreachable(method, timeout_s, error) from error
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _handle(self) -> Any:
        if not ray.is_initialized():
            # Ray would start a cluster of its own at the first call.
            raise self._error(f"{self._name}: this process has left Ray", actor=self._name)
        context = ray.get_runtime_context()
        session = (context.get_node_id(), context.get_job_id())
        with self._lock:
            # A handle from before ray.shutdown() leads nowhere after the next ray.init().
            if self._actor is None or self._session != session:
                try:
                    self._actor = self._get()
                except ValueError as error:
                    raise _NotNamed(str(error)) from error
                self._session = session
            return self._actor

    def _forget(self) -> None:
        with self._lock:
            self._actor = None

    def _unreachable(self, method: str, timeout_s: float, error: Exception) -> RaygymError:
        return self._error(
            f"{self._name} did not answer {method} within {timeout_s:g} s ({_one_line(error)}); "
            f"see its log with `ray logs actor`, or end it with `ray.kill(ray.get_actor("
            f"{self._name!r}, namespace={NAMESPACE!r}))`: the next one finds all remotes again",
            actor=self._name,
            method=method,
        )


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def get_or_make(cls: type, name: str, *arguments: Any, threads: int, **options: Any) -> Any:
    """Returns the handle of a detached actor of a plain class; makes it where there is none.

    It restarts for ever and takes no CPU.

    Args:
        cls: The class.
        name: Name within ``NAMESPACE``.
        *arguments: Of the constructor, which runs again at each restart.
        threads: How many of its methods may run at once.
        **options: More of Ray's options, such as ``scheduling_strategy``.
    """
    return (
        ray.remote(cls)
        .options(
            name=name,
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            max_restarts=-1,
            max_concurrency=threads,
            num_cpus=0,
            **options,
        )
        .remote(*arguments)
    )


def has_actor(name: str) -> bool:
    """Returns whether a detached actor of a name is there; Ray must run."""
    try:
        ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        return False
    return True
