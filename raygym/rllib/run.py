"""A training run on RLlib, as ``raygym.train`` drives it."""

from __future__ import annotations

import contextlib
import logging
import queue
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium

from raygym.errors import ConfigError, RaygymError
from raygym.rllib.config import discover_spaces, rollout_config
from raygym.rllib.env_runner import ServiceEnvRunner
from raygym.rllib.modules import is_picture
from raygym.rllib.presets import Algorithm, preset
from raygym.rllib.settings import ServiceSettings
from raygym.service.reports import ActorLost, ActorReport
from raygym.service.spectators import Show
from raygym.vector.supervision import Supervision

log = logging.getLogger(__name__)

SAVE_TIMEOUT_S = 120.0
_PREFIX = "rllib-"
_TALKERS = ("ray.rllib", "ray.tune", "ray._common.deprecation")
"""Loggers that warn of RLlib's own defaults and deprecations, which nobody here can change."""
_STATISTICS = {
    "policy_loss": ("policy_loss", "mean_pi_loss"),
    "value_loss": ("vf_loss_unclipped", "mean_vf_loss", "vf_loss"),
    "entropy": ("entropy",),
    "grad_global_norm": ("gradients_default_optimizer_global_norm",),
    "kl": ("mean_kl_loss",),
}
"""What a run says of its learning, and what RLlib's algorithms call it."""


class TrainingFailed(RaygymError):
    """RLlib raised in the middle of a run; the newest checkpoint is all that is left."""


class _Stopped(Exception):
    """Somebody asked the run to end while it was sampling."""


class RLlibRun:
    """Trains in a thread and tells what happens; implements ``Runner``.

    Ray must be initialised. The algorithm, its learner and its service are this process's;
    only the service's actors are Ray's.

    Args:
        algo: ``ppo``, ``impala`` or ``appo``.
        env_id: As ``raygym.make`` takes it, or what makes the Slots of an actor.
        num_slots: Environments.
        make_kwargs: For ``raygym.make``.
        frame_stack: Newest frames in one observation.
        reward_scale: Factor between a reward and what is learned from.
        seed: Of weights, actions and environments.
        learner: More arguments for ``AlgorithmConfig.training``; they go over the presets.
        use_lstm: Whether the network remembers.
        observation_space: With the frames stacked; None asks the environment.
        action_space: The same.
        slots_per_actor: Environments of one actor; None lets the service choose.
        supervision: Time limits of the slots.
        actor_options: Ray's, for the service's actors.
        show: Who looks on; None for nobody.
        restore: A checkpoint that ``save`` made, to go on from.

    Raises:
        ConfigError: A setting makes no sense.
    """

    def __init__(
        self,
        algo: Algorithm,
        env_id: Any,
        *,
        num_slots: int,
        make_kwargs: Mapping[str, Any] | None = None,
        frame_stack: int = 1,
        reward_scale: float = 1.0,
        seed: int = 0,
        learner: Mapping[str, Any] | None = None,
        use_lstm: bool = False,
        observation_space: gymnasium.Space[Any] | None = None,
        action_space: gymnasium.Space[Any] | None = None,
        slots_per_actor: int | None = None,
        supervision: Supervision | None = None,
        actor_options: Mapping[str, Any] | None = None,
        show: Show | None = None,
        restore: Path | None = None,
    ) -> None:
        for name in _TALKERS:
            logging.getLogger(name).setLevel(logging.ERROR)
        settings = ServiceSettings(
            env=env_id,
            num_slots=num_slots,
            frame_stack=frame_stack,
            make_kwargs=dict(make_kwargs or {}),
        )
        if observation_space is None or action_space is None:
            observation_space, action_space = discover_spaces(settings)
        config = preset(algo, num_slots=num_slots, has_pictures=is_picture(observation_space))
        config.training(**(learner or {})).debugging(seed=seed, log_level="ERROR")
        rollout_config(
            config,
            env_id,
            num_slots=num_slots,
            slots_per_actor=slots_per_actor,
            frame_stack=frame_stack,
            make_kwargs=make_kwargs,
            reward_scale=reward_scale,
            use_lstm=use_lstm,
            observation_space=observation_space,
            action_space=action_space,
            seed=seed,
            supervision=supervision,
            actor_options=actor_options,
            show=show,
            # The run has rules of its own for environments that never start.
            patience_s=1e6,
        )
        self._algorithm: Any = config.build_algo()
        self._runner: ServiceEnvRunner = self._algorithm.env_runner
        if restore is not None:
            # RLlib leaves it without annotations.
            self._algorithm.restore_from_path(  # type: ignore[no-untyped-call]
                str(restore.absolute())
            )
        self._steps_before = int(self._runner.num_env_steps_sampled_lifetime)
        self._news: queue.SimpleQueue[ActorReport | ActorLost] = queue.SimpleQueue()
        self._saves: queue.SimpleQueue[tuple[Path, Future[Path]]] = queue.SimpleQueue()
        self._statistics: dict[str, float] = {}
        self._must_stop = threading.Event()
        self._error: Exception | None = None
        self._is_closed = False
        self._runner.on_report = self._news.put
        self._runner.on_wait = self._between_rollouts
        self._thread = threading.Thread(target=self._run, name=f"rllib-{algo}", daemon=True)
        self._thread.start()

    def poll(self, *, timeout_s: float) -> Iterator[ActorReport | ActorLost]:
        """Yields what the actors said, also while no rollout comes.

        The first report after an update carries its statistics.

        Args:
            timeout_s: Longest wait for the first report.

        Raises:
            RaygymError: An environment can never be made, or RLlib failed.
        """
        with contextlib.suppress(queue.Empty):
            yield self._told(self._news.get(timeout=timeout_s))
            while True:
                yield self._told(self._news.get_nowait())
        if self._error is not None:
            raise self._error

    def drain(self, *, timeout_s: float) -> Iterator[ActorReport]:
        """Ends the sampling and yields the reports that are left; losses are left out.

        Args:
            timeout_s: How long to wait for an update that is under way.
        """
        self._stop(timeout_s)
        with contextlib.suppress(queue.Empty):
            while True:
                news = self._told(self._news.get_nowait())
                if isinstance(news, ActorReport):
                    yield news

    def replace(self, slot: int) -> None:
        """Does nothing: the service replaces its actors itself."""
        log.info("slot.left_to_the_service slot=%d", slot)

    def save(self, directory: Path, *, keep: int = 3) -> Path:
        """Writes a checkpoint, between two rollouts or updates.

        Args:
            directory: Where; made if absent.
            keep: How many of the newest stay there.

        Returns:
            Its directory; ``restore`` takes it.

        Raises:
            TrainingFailed: It could not be written, or not within two minutes.
        """
        if not self._thread.is_alive():
            return self._write(directory, keep)
        saved: Future[Path] = Future()
        self._saves.put((directory, saved))
        deadline_s = time.monotonic() + SAVE_TIMEOUT_S
        while not saved.done() and time.monotonic() < deadline_s:
            with contextlib.suppress(TimeoutError):
                return _pruned(saved.result(timeout=0.1), keep)
            if not self._thread.is_alive() and not saved.done() and saved.cancel():
                return self._write(directory, keep)
        if not saved.done():
            raise TrainingFailed(
                f"no checkpoint in {SAVE_TIMEOUT_S:.0f} s: RLlib is inside one update; "
                "smaller batches make it shorter"
            )
        return _pruned(saved.result(), keep)

    def close(self, *, timeout_s: float = 3.0) -> None:
        """Ends learner, actors and environments; may be called twice."""
        if self._is_closed:
            return
        self._is_closed = True
        self._stop(timeout_s)
        self._runner.stop()
        self._algorithm.stop()
        # RLlib makes it for logs that it never writes here.
        with contextlib.suppress(OSError):
            Path(self._algorithm.logdir).rmdir()

    def _run(self) -> None:
        try:
            while not self._must_stop.is_set():
                self._write_asked()
                self._note(self._algorithm.train())
        except _Stopped:
            pass
        except RaygymError as error:
            self._error = error
        # The thread's last resort: the error travels to whoever polls.
        except Exception as error:
            log.exception("rllib.failed")
            self._error = TrainingFailed(
                f"RLlib failed: {type(error).__name__}: {error}; the log has more. Go on from "
                "the newest checkpoint"
            )

    def _between_rollouts(self) -> None:
        """Called by the sampling thread, at least four times a second while it waits."""
        if self._must_stop.is_set():
            raise _Stopped
        self._write_asked()

    def _write_asked(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                directory, saved = self._saves.get_nowait()
                if not saved.set_running_or_notify_cancel():
                    continue
                try:
                    saved.set_result(self._write(directory, keep=None))
                except RaygymError as error:
                    saved.set_exception(error)

    def _write(self, directory: Path, keep: int | None) -> Path:
        target = directory.absolute() / f"{_PREFIX}{self._steps():012d}"
        partial = target.with_name(f".{target.name}.partial")
        try:
            directory.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(partial, ignore_errors=True)
            self._algorithm.save_to_path(str(partial))
            shutil.rmtree(target, ignore_errors=True)
            partial.rename(target)
        except OSError as error:
            raise TrainingFailed(f"checkpoint {target} could not be written: {error}") from error
        return target if keep is None else _pruned(target, keep)

    def _steps(self) -> int:
        return self._steps_before + int(self._runner.steps_lifetime)

    def _note(self, result: Mapping[str, Any]) -> None:
        learned = result.get("learners", {}).get("default_policy", {})
        statistics = {}
        for name, theirs in _STATISTICS.items():
            found = next((learned[key] for key in theirs if key in learned), None)
            if found is not None:
                statistics[name] = float(found)
        if statistics:
            self._statistics = statistics

    def _told(self, news: ActorReport | ActorLost) -> ActorReport | ActorLost:
        statistics = self._statistics
        if isinstance(news, ActorLost) or not statistics:
            return news
        self._statistics = {}
        return replace(news, statistics=statistics, has_gradient=True)

    def _stop(self, timeout_s: float) -> None:
        self._must_stop.set()
        self._thread.join(timeout_s)


def newest_checkpoint(directory: Path) -> Path:
    """Returns the newest checkpoint that ``RLlibRun.save`` wrote.

    Args:
        directory: That of the checkpoints, or one of them.

    Raises:
        ConfigError: There is none.
    """
    if directory.name.startswith(_PREFIX) and directory.is_dir():
        return directory
    found = sorted(directory.glob(f"{_PREFIX}*"))
    if not found:
        raise ConfigError(f"{directory}: no checkpoint of RLlib ({_PREFIX}*) is there")
    return found[-1]


def _pruned(newest: Path, keep: int) -> Path:
    for old in sorted(newest.parent.glob(f"{_PREFIX}*"))[:-keep]:
        if old != newest:
            shutil.rmtree(old, ignore_errors=True)
    return newest
