"""The settings of a training run: the flags of ``python -m raygym.train``."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from raygym.config import ObservationConfig, check_range
from raygym.errors import ConfigError
from raygym.policies.a3c import A3CConfig
from raygym.policies.batched import BatchedConfig

Algo = Literal["a3c", "batched", "ppo", "impala", "appo"]
"""What learns: the built-in A3C and batched learner, or one of RLlib's."""
RLLIB_ALGOS = ("ppo", "impala", "appo")
"""Those of RLlib."""


@dataclass(frozen=True, kw_only=True)
class BatchedFlags:
    """Constants of the batched learner; None leaves what suits the environment."""

    gamma: float | None = None
    """Discount of one step."""
    gae_lambda: float | None = None
    """Lambda of generalised advantage estimation and of V-trace."""
    learning_rate: float | None = None
    """Step size of Adam at the start."""
    anneal_steps: int | None = None
    """Environment steps, over all learners, in which step size and entropy bonus fall to their
    ends."""
    final_learning_rate: float | None = None
    """Step size after ``anneal_steps``."""
    entropy_weight: float | None = None
    """Weight of the entropy bonus at the start."""
    final_entropy_weight: float | None = None
    """Weight of the entropy bonus after ``anneal_steps``."""
    value_weight: float | None = None
    """Weight of the value loss, itself half the mean of squares."""
    clip: float | None = None
    """How far the ratio of probabilities may leave 1 before the surrogate is flat."""
    max_grad_norm: float | None = None
    """Longest gradient; a longer one is scaled down to it."""
    rollout_steps: int | None = None
    """Steps of one rollout."""
    epochs: int | None = None
    """How often each rollout is learned from."""
    minibatch_steps: int | None = None
    """Steps of one minibatch of one learner."""

    def over(self, config: BatchedConfig) -> BatchedConfig:
        """Returns ``config`` with what was given in the place of its own."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        return replace(config, **given)


@dataclass(frozen=True, kw_only=True)
class FilmFlags:
    """Which episodes are filmed, into <logdir>/videos."""

    every_episodes: int = 50
    """Films the first episode of a slot and every so many after it; 0: none by count."""
    every_minutes: float = 5.0
    """Films the next episode when as much time went by without a film; 0: none by time."""
    least_gap_s: float = 20.0
    """Least time from the beginning of a film to that of the slot's next."""
    slots: tuple[int, ...] = (0,)
    """Whose episodes are filmed."""
    kept: int = 10
    """How many newest films of a slot stay, beside that of its best episode."""

    @property
    def is_on(self) -> bool:
        """Whether anything is filmed."""
        return bool(self.slots and (self.every_episodes or self.every_minutes))

    def __post_init__(self) -> None:
        check_range("FilmFlags", "every_episodes", self.every_episodes, 0, 1e9)
        check_range("FilmFlags", "every_minutes", self.every_minutes, 0, 1e6)
        check_range("FilmFlags", "least_gap_s", self.least_gap_s, 0, 1e6)
        check_range("FilmFlags", "kept", self.kept, 1, 100_000)
        for slot in self.slots:
            check_range("FilmFlags", "slots", slot, 0, 100_000)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Trains an agent.

    Without --minutes and --steps it goes on until Ctrl-C, which ends it cleanly.
    """

    env: str = "flashgames.NeonRace-v0"
    """EnvId; ``raygym envs`` lists them. Gymnasium's own ids (CartPole-v1, ALE/Pong-v5) are played
    without remotes."""
    algo: Algo = "a3c"
    """What learns: a3c (as universe-starter-agent has it), batched (a clipped surrogate over
    batches of all slots, with V-trace), or RLlib's ppo, impala or appo."""
    workers: int | None = None
    """Number of actors of a3c; by default one for each remote, and one for each core, at most 2,
    where there are none."""
    num_slots: int | None = None
    """Number of environments, over all actors or learners; by default as many as --remotes names,
    else one for each of --workers, else what suits the environment."""
    num_learners: int | None = None
    """Number of learners of batched, which keep their weights together; by default one for each
    core, at most 2."""
    frame_stack: int | None = None
    """Newest observations that the agent sees at once; by default 4, and 1 for a3c, which remembers
    by an LSTM unless it sees more."""
    minutes: float | None = None
    """Longest time, counted from the first step of an environment."""
    steps: int | None = None
    """Most steps over all workers, with those before --resume."""
    target_score: float | None = None
    """Ends the run when the mean score of the last 100 episodes has reached it."""
    seed: int = 0
    """Seeds the weights, the actions drawn and the resets of the environments."""
    seed_episodes: bool = False
    """Resets each episode with a seed; otherwise the remotes start all but the first themselves."""
    logdir: Path | None = None
    """Where checkpoints and TensorBoard's files go; runs/<env>-<time> by default, and where
    it was with --resume."""
    resume: Path | None = None
    """Goes on from a checkpoint, or from the newest in a logdir."""
    summary: Path | None = None
    """Writes what came of the run there, as JSON."""
    remotes: str | None = None
    """A count, or addresses of remotes that already run: vnc://host:5900+15900,...; one a
    worker. Or http://TOKEN@host:port of a gateway, which lends one to each."""
    client_id: str = "train"
    """Name of this client to the remotes; the worker's number is added."""
    backend: Literal["auto", "docker", "process", "local", "fake", "static"] | None = None
    """What makes the remotes: docker (containers), process (processes of this machine), auto
    (docker where an engine and the image are there, else process); local plays gym-core's without
    remotes. By default static for addresses, else the variable RAYGYM_BACKEND, else auto."""
    visualise: bool = False
    """Serves the wall, a page with a live picture of every slot; says for each how to look in over
    VNC, and opens a viewer where there is a display."""
    mode: Literal["lockstep", "realtime"] | None = None
    """Who owns time: the agent, or the environment. By default lockstep where it can be had."""
    frame_skip: int | None = None
    """Frames of one step in lock-step, its action held down; 4 by default for Flash games."""
    fps: float | None = None
    """Agent steps a second in real time; by default 12.5 for Flash games, the environment's own
    for others."""
    height_px: int | None = None
    """Height of an observation; by default 72 for Flash games in lock-step, 128 in real time, 42
    for others."""
    width_px: int | None = None
    """Width of an observation; by default 96 for Flash games in lock-step, 200 in real time, 42
    for others."""
    crop: tuple[int, int, int, int] | None = None
    """The part of the environment's picture that is seen: x, y, width and height in its pixels."""
    colour: bool = False
    """Shows the agent colours instead of grey."""
    learner: A3CConfig = field(default_factory=A3CConfig)
    """Constants of A3C."""
    batched: BatchedFlags = field(default_factory=BatchedFlags)
    """Constants of batched, where they are to be others than what suits the environment."""
    reward_scale: float | None = None
    """Factor between a reward and what is learned from; by default what makes the ceiling 100
    above the floor, at most 1. Scores are not scaled."""
    checkpoint_every_s: float = 30.0
    """Time between two checkpoints."""
    checkpoints_kept: int = 3
    """Number of newest checkpoints that stay."""
    films: FilmFlags = field(default_factory=FilmFlags)
    """Which episodes are filmed."""
    report: bool = True
    """Writes <logdir>/report.html at the end, and <logdir>/curves.png with each checkpoint."""
    start_timeout_s: float = 180.0
    """Longest time to the first step of any worker."""
    dashboard: bool = False
    """Starts Ray's dashboard."""

    def __post_init__(self) -> None:
        if self.workers is not None:
            check_range("TrainConfig", "workers", self.workers, 1, 1024)
        for name in ("num_slots", "num_learners"):
            count = getattr(self, name)
            if count is not None:
                check_range("TrainConfig", name, count, 1, 100_000)
        if self.frame_stack is not None:
            check_range("TrainConfig", "frame_stack", self.frame_stack, 1, 64)
        self._check_algo()
        if self.minutes is not None:
            check_range("TrainConfig", "minutes", self.minutes, 0.01, 1e6)
        if self.steps is not None:
            check_range("TrainConfig", "steps", self.steps, 1, 1e15)
        if self.fps is not None:
            check_range("TrainConfig", "fps", self.fps, 0.1, 1000)
        if self.frame_skip is not None:
            check_range("TrainConfig", "frame_skip", self.frame_skip, 1, 100)
        if self.reward_scale is not None:
            check_range("TrainConfig", "reward_scale", self.reward_scale, 1e-9, 1e9)
        check_range("TrainConfig", "seed", self.seed, 0, 2**63 - 1)
        check_range("TrainConfig", "checkpoint_every_s", self.checkpoint_every_s, 0.1, 1e6)
        check_range("TrainConfig", "checkpoints_kept", self.checkpoints_kept, 1, 1e6)
        check_range("TrainConfig", "start_timeout_s", self.start_timeout_s, 1, 1e5)
        ObservationConfig(height_px=self.height_px, width_px=self.width_px, crop=self.crop)
        if not self.client_id:
            raise ConfigError("TrainConfig.client_id: expected a name, got an empty text")

    def _check_algo(self) -> None:
        if self.algo not in get_args(Algo):
            raise ConfigError(
                f"TrainConfig.algo: expected one of {', '.join(get_args(Algo))}, got {self.algo!r}"
            )
        only = {"workers": ("a3c",), "num_learners": ("batched",)}
        for name, algos in only.items():
            if getattr(self, name) is not None and self.algo not in algos:
                raise ConfigError(
                    f"TrainConfig.{name}: belongs to --algo {algos[0]}, got --algo {self.algo}; "
                    "--num-slots says how many environments there are"
                )

    def run_directory(self) -> Path:
        """Returns the logdir: as given, that of ``resume``, or a new one by name and time."""
        if self.logdir is not None:
            return self.logdir
        if self.resume is not None:
            home = self.resume.parent if self.resume.is_file() else self.resume
            return home.parent if home.name == "checkpoints" else home
        return Path("runs") / f"{self.env}-{time.strftime('%Y%m%d-%H%M%S')}"
