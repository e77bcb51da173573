"""The loop of a run: from the first step to the last checkpoint."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from raygym.core import Outcome
from raygym.errors import RaygymError
from raygym.service.metrics.run_meters import RunMeters
from raygym.service.placement import Notices
from raygym.service.ray_running import ray_running
from raygym.service.reports import ActorLost, ActorReport
from raygym.training.accounts import Accounts
from raygym.training.board import Board
from raygym.training.chronicle import Chronicle
from raygym.training.config import TrainConfig
from raygym.training.files import write_json
from raygym.training.plan import Plan, make_plan
from raygym.training.report.page import REPORT
from raygym.training.runners import Progress, load, make_runner, save
from raygym.training.showing import open_wall, show_of
from raygym.training.table import Display
from raygym.training.viewers import Viewers

POLL_S = 0.25
MOST_FAILED_STARTS = 3
"""If no worker has ever stepped and each has failed as often in a row, the run ends."""
DRAIN_S = 1.0


class NothingStarted(RaygymError):
    """No environment could be started."""


class StopFlag:
    """Becomes true with the first SIGINT or SIGTERM; the second acts as it did before."""

    def __init__(self) -> None:
        self.is_set = False

    def request(self) -> None:
        """Asks the run to end."""
        self.is_set = True

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        """Listens while the block runs; only the main thread can."""
        before: dict[int, Any] = {}

        def on_signal(_number: int, _frame: FrameType | None) -> None:
            self.is_set = True
            restore()

        def restore() -> None:
            for signal_number, handler in before.items():
                signal.signal(signal_number, handler)

        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, on_signal)
        try:
            yield
        finally:
            restore()


class Trainer:
    """One run of training.

    Args:
        config: Its settings.
        plan: The environment.
        console: Where a person reads.
        stop: Ends the run early.
        clock: Seconds, steady.

    Raises:
        ConfigError: The checkpoint to resume is of another environment or network.
    """

    def __init__(
        self,
        config: TrainConfig,
        plan: Plan,
        *,
        console: Console,
        stop: StopFlag,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._plan = plan
        self._clock = clock
        self._stop = stop
        self._resumed = load(config, plan)
        self._logdir = config.run_directory()
        self._logdir.mkdir(parents=True, exist_ok=True)
        self._console = console
        self._accounts = Accounts(
            plan.spec,
            plan.workers,
            seed=config.seed,
            mode=plan.mode,
            target_score=config.target_score,
            env_steps=self._resumed.env_steps,
            episodes=self._resumed.episodes,
        )
        self._viewers: Viewers | None = None

    def run(self) -> dict[str, Any]:
        """Trains until time or steps are up, or it is asked to stop; then writes everything.

        Returns:
            The summary, as ``--summary`` writes it.

        Raises:
            NothingStarted: No environment could be started.
            LearnerLost: The weights were lost.
        """
        config = self._config
        with contextlib.ExitStack() as stack:
            stack.enter_context(ray_running(self._plan.workers + 1, has_dashboard=config.dashboard))
            # Ray takes SIGTERM for itself when it starts, so this comes after it.
            stack.enter_context(self._stop.on_signals())
            self._display = Display(self._accounts, self._console, now_s=self._clock())
            stack.callback(lambda: self._display.close(self._clock()))
            self._board = Board(self._logdir, now_s=self._clock())
            self._chronicle = Chronicle(
                self._config, self._plan, self._logdir, self._accounts, clock=self._clock
            )
            stack.callback(self._board.close)
            if config.visualise:
                self._viewers = Viewers()
                stack.callback(self._viewers.close)
                wall = open_wall()
                stack.callback(wall.close)
                self._display.say(f"the wall, a live picture of every slot: {wall.url}")
            # Before the runner, so that it closes after it: the last film is then there.
            stack.push(self._chronicle.leave)
            self._slots = Notices()
            show = show_of(config, self._plan, self._logdir)
            self._meters = RunMeters(show)
            stack.callback(self._meters.close)
            self._runner = make_runner(
                config,
                self._plan,
                self._resumed,
                show,
            )
            stack.callback(self._runner.close)
            self._display.say(
                f"training {self._plan.spec.id} in {self._plan.pace()}; "
                f"remotes: {self._plan.backend}; {self._logdir}"
            )
            why = self._loop()
            for report in self._runner.drain(timeout_s=DRAIN_S):
                self._note(report)
            return self._finish(why)

    def _loop(self) -> str:
        """Plays until the run is over; returns why it is."""
        started_s = saved_s = self._clock()
        while not (why := self._why_over()):
            for answer in self._runner.poll(timeout_s=POLL_S):
                if isinstance(answer, ActorLost):
                    self._note_lost(answer)
                else:
                    self._note(answer)
            now_s = self._clock()
            self._check_start(now_s - started_s)
            if now_s - saved_s >= self._config.checkpoint_every_s:
                self._save()
                self._chronicle.save()
                saved_s = self._clock()
            if (news := self._slots.news()) is not None:
                self._display.say(news)
            self._display.tick(now_s)
        return why

    def _why_over(self) -> str:
        """Returns why the run is over, for a person; empty while it is not."""
        config, accounts = self._config, self._accounts
        if self._stop.is_set:
            return "stopped by hand"
        if config.steps is not None and accounts.env_steps >= config.steps:
            return f"--steps {config.steps} reached"
        if config.minutes is not None and accounts.minutes(self._clock()) >= config.minutes:
            return f"--minutes {config.minutes:g} reached"
        if accounts.has_reached_target:
            return f"--target-score {config.target_score:g} reached"
        return ""

    def _note(self, report: ActorReport) -> None:
        now_s = self._clock()
        for episode in self._accounts.note(report, now_s):
            if episode.outcome is not Outcome.OK:
                self._display.say(
                    f"worker {episode.slot}: {episode.outcome} after {episode.steps} steps: "
                    f"{episode.reason}"
                )
        self._meters.note(report)
        self._board.note(report, env_steps=self._accounts.env_steps, now_s=now_s)
        self._chronicle.note(report)
        sampler = report.sampler
        if self._viewers is not None and sampler.remote is not None:
            hint = self._viewers.show(sampler.slot, sampler.remote)
            if hint is not None:
                self._display.say(hint)
        if sampler.state == "failed" and not sampler.is_fatal:
            self._display.say(f"worker {sampler.slot}: {sampler.error}")
            self._runner.replace(sampler.slot)

    def _note_lost(self, lost: ActorLost) -> None:
        self._accounts.note_actor_lost(lost.slot, lost.error)
        self._meters.note_lost()
        self._display.say(f"worker {lost.slot}: its actor ended and is replaced: {lost.error}")

    def _check_start(self, waited_s: float) -> None:
        slots = self._accounts.slots
        fatal = next((s for s in slots if s.is_fatal), None)
        if fatal is not None:
            raise NothingStarted(fatal.error)
        if self._accounts.first_step_s is not None:
            return
        tries = [s.start_failures + s.actors_lost for s in slots]
        is_late = waited_s > self._config.start_timeout_s
        if is_late or min(tries) >= MOST_FAILED_STARTS:
            errors = [f"worker {n}: {s.error}" for n, s in enumerate(slots) if s.error]
            raise NothingStarted(
                f"no environment of {self._plan.spec.id} could be started in {waited_s:.0f} s, "
                f"after {sum(tries)} failed starts. `raygym doctor` says what is missing here.\n"
                + "\n".join(errors or ["no worker said why"])
            )

    def _save(self) -> Path:
        accounts = self._accounts
        states = {n: s.random_state for n, s in enumerate(accounts.slots) if s.random_state}
        return save(
            self._runner,
            self._logdir / "checkpoints",
            config=self._config,
            plan=self._plan,
            progress=Progress(
                env_steps=accounts.env_steps, episodes=accounts.episodes, random_states=states
            ),
        )

    def _finish(self, why: str) -> dict[str, Any]:
        now_s = self._clock()
        summary = self._accounts.summary(now_s)
        summary["checkpoint"] = str(self._save())
        if self._config.report:
            summary["report"] = str(self._logdir / REPORT)
        self._chronicle.end(summary, why)
        if self._config.summary is not None:
            write_json(self._config.summary, summary)
        self._display.tick(now_s)
        self._display.close(now_s)
        self._display.say(f"checkpoint {summary['checkpoint']}")
        return summary


def train(
    config: TrainConfig,
    *,
    plan: Plan | None = None,
    console: Console | None = None,
    stop: StopFlag | None = None,
) -> dict[str, Any]:
    """Trains, and returns the summary.

    Args:
        config: Settings of the run.
        plan: The environment; None looks it up by ``config.env``.
        console: Where a person reads; None is stdout.
        stop: Ends the run early from another thread; signals do so in any case.

    Raises:
        ConfigError: A setting makes no sense; nothing was started.
        NothingStarted: No environment could be started.
        LearnerLost: The weights were lost.
    """
    trainer = Trainer(
        config,
        plan or make_plan(config),
        console=console or Console(),
        stop=stop or StopFlag(),
    )
    return trainer.run()
