"""``python -m raygym.evaluate``: plays a trained agent or a baseline, and says how well."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
import tyro

import raygym
from raygym.catalog import EnvSpec
from raygym.config import check_range
from raygym.core import Outcome, UInt8Array
from raygym.errors import ConfigError, RaygymError, RemoteError
from raygym.policies import checkpoint as checkpoints
from raygym.policies.baselines import HoldPolicy, RandomPolicy, ScriptedPolicy
from raygym.policies.checkpoint import Checkpoint
from raygym.training.factories import EnvSettings, make_env
from raygym.training.files import write_json
from raygym.training.place import find_spec, lockstep_frames, needs_realtime
from raygym.training.players import Player, TrainedPlayer
from raygym.training.presets import preset_of
from raygym.training.video import Video

EXIT_FAILED = 1
EXIT_USAGE = 2
RESAMPLES = 10_000
_UP = (("ArrowUp",), ("up",))


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Plays a trained agent, or a baseline, and prints its score."""

    checkpoint: tyro.conf.Positional[Path | None] = None
    """A checkpoint, or a logdir of raygym.train; leave it out with --policy."""
    episodes: int = 20
    """Number of episodes that count."""
    policy: Literal["random", "hold", "scripted"] | None = None
    """A baseline instead of a trained agent."""
    hold_action: int | None = None
    """The action that the baseline hold takes; by default the key up, or else the second one."""
    env: str | None = None
    """EnvId; needed with --policy, known from the checkpoint otherwise."""
    greedy: bool = False
    """Takes the agent's likeliest action instead of drawing one."""
    seed: int = 0
    """Seeds the resets and the actions drawn."""
    video: Path | None = None
    """Writes all that was played there, as MP4."""
    json: Path | None = None
    """Writes the result there, as JSON."""
    remotes: str | None = None
    """Address of a remote that already runs, or of a gateway that lends one; by default one is
    started."""
    client_id: str = "evaluate"
    """Name of this client to the remote."""
    backend: Literal["auto", "docker", "process", "fake", "static"] | None = None
    """What makes the remote, as in the training."""
    mode: Literal["lockstep", "realtime"] | None = None
    """Who owns time; by default as in the training, or lockstep where it can be had."""
    frame_skip: int | None = None
    """Frames of one step in lock-step; by default those of the training."""
    fps: float | None = None
    """Agent steps a second in real time; by default those of the training."""
    most_failures: int = 5
    """Ends with an error when as many episodes have failed; they do not count."""

    def __post_init__(self) -> None:
        check_range("EvaluateConfig", "episodes", self.episodes, 1, 1e6)
        check_range("EvaluateConfig", "most_failures", self.most_failures, 1, 1e6)
        check_range("EvaluateConfig", "seed", self.seed, 0, 2**31 - 1)
        if (self.checkpoint is None) == (self.policy is None):
            raise ConfigError(
                "give a checkpoint or a baseline, as in `python -m raygym.evaluate runs/mine` or "
                "`python -m raygym.evaluate --policy random --env flashgames.NeonRace-v0`"
            )
        if self.policy is not None and self.env is None:
            raise ConfigError(f"--policy {self.policy} needs --env; `raygym envs` lists them")


@dataclass(frozen=True)
class Match:
    """Who plays what."""

    player: Player
    name: str
    """Of the player, for a person."""
    spec: EnvSpec
    settings: EnvSettings


def make_match(config: EvaluateConfig) -> Match:
    """Builds the player and the settings of its environment.

    Raises:
        ConfigError: There is no such checkpoint or environment, or they do not fit.
    """
    held = checkpoints.load(config.checkpoint) if config.checkpoint is not None else None
    if held is not None and config.env not in (None, held.env):
        raise ConfigError(
            f"{config.checkpoint} was trained on {held.env}, not on {config.env}; drop --env"
        )
    spec, _ = find_spec(held.env if held else str(config.env))
    frame_skip = _frames(config, spec, held)
    preset = preset_of(spec, is_lockstep=frame_skip is not None, memory="lstm", sees_vectors=False)
    observation, fps = preset.observation, preset.fps
    if held is not None:
        observation, fps = held.observation, held.fps
    player: Player
    if held is not None:
        player = TrainedPlayer(held, seed=config.seed, is_greedy=config.greedy)
        name = f"agent after {held.env_steps} steps"
    else:
        player, name = _baseline(config, spec), f"baseline {config.policy}"
    return Match(
        player=player,
        name=name,
        spec=spec,
        settings=EnvSettings(
            env=spec.id,
            addresses=None if config.remotes is None else (config.remotes,),
            client_id=config.client_id,
            backend=config.backend,
            observation=observation,
            fps=config.fps or fps,
            frame_skip=frame_skip,
            render_mode="rgb_array" if config.video else None,
        ),
    )


def _frames(config: EvaluateConfig, spec: EnvSpec, held: Checkpoint | None) -> int | None:
    """Returns the frames of one step, as in the training unless told otherwise."""
    mode, frame_skip = config.mode, config.frame_skip
    if held is not None and mode is None and config.fps is None and frame_skip is None:
        mode = "realtime" if held.frame_skip is None else "lockstep"
        frame_skip = held.frame_skip
    return lockstep_frames(
        spec,
        mode=mode,
        frame_skip=frame_skip,
        fps=config.fps,
        needs_realtime=needs_realtime(config.remotes, config.backend),
    )


def _steps_per_s(match: Match) -> float:
    """Returns the agent's steps in a second of the environment's own time."""
    if match.settings.frame_skip is not None:
        return match.spec.fps / match.settings.frame_skip
    return match.settings.fps or match.spec.fps


def evaluate(
    config: EvaluateConfig,
    match: Match,
    *,
    env_factory: Callable[[EnvSettings, int], gymnasium.Env[UInt8Array, Any]] = make_env,
    on_episode: Callable[[int, float], None] | None = None,
) -> dict[str, Any]:
    """Plays, and returns the result.

    Args:
        config: How much to play.
        match: Who plays what.
        env_factory: Makes the environment from its settings and a slot's number.
        on_episode: Called after each episode that counts, with its number and score.

    Raises:
        RemoteError: Too many episodes failed.
    """
    env = env_factory(match.settings, 0)
    video = Video(config.video, _steps_per_s(match))
    scores: list[float] = []
    failures: list[str] = []
    steps = 0
    try:
        while len(scores) < config.episodes:
            seed = config.seed + len(scores) + len(failures)
            score, length, failure = play_episode(env, match.player, seed=seed, video=video)
            steps += length
            if failure is None:
                scores.append(score)
                if on_episode is not None:
                    on_episode(len(scores), score)
                continue
            failures.append(failure)
            if len(failures) >= config.most_failures:
                raise RemoteError(
                    f"{len(failures)} episodes of {match.spec.id} failed, {len(scores)} did not; "
                    f"the last: {failure}"
                )
    finally:
        video.close()
        # Gymnasium leaves it without annotations.
        env.close()  # type: ignore[no-untyped-call]
    low, high = confidence_interval(scores)
    mean = float(np.mean(scores))
    share = match.spec.share_of_ceiling
    return {
        "env": match.spec.id,
        "player": match.name,
        "episodes": len(scores),
        "env_steps": steps,
        "mean_score": mean,
        "confidence_95": [low, high],
        "best_score": max(scores),
        "floor": match.spec.score_floor,
        "ceiling": match.spec.score_ceiling,
        "share_of_ceiling": share(mean),
        "share_confidence_95": [share(low), share(high)],
        "scores": scores,
        "failures": failures,
        "seed": config.seed,
        "version": raygym.__version__,
    }


def play_episode(
    env: gymnasium.Env[UInt8Array, Any], player: Player, *, seed: int, video: Video
) -> tuple[float, int, str | None]:
    """Plays one episode.

    Returns:
        Its score, its steps, and what failed, or None if nothing did.
    """
    observation, info = env.reset(seed=seed)
    player.reset(seed)
    score, steps, is_over = 0.0, 0, False
    while not is_over:
        video.add(env)
        observation, reward, terminated, truncated, info = env.step(player.act(observation, info))
        score += float(reward)
        steps += 1
        is_over = terminated or truncated
    outcome = Outcome(info.get("outcome", Outcome.OK))
    failure = None if outcome is Outcome.OK else f"{outcome}: {info.get('reason', '')}"
    return score, steps, failure


def confidence_interval(scores: Sequence[float], *, seed: int = 0) -> tuple[float, float]:
    """Returns the 95 % interval of the mean, by the percentile bootstrap.

    Args:
        scores: At least one; a single one gives an interval of no width.
        seed: Seeds the resampling.
    """
    values = np.asarray(scores, dtype=np.float64)
    random = np.random.default_rng(seed)
    means = random.choice(values, size=(RESAMPLES, values.size)).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def describe(result: Mapping[str, Any]) -> str:
    """Returns the result as a person reads it."""
    low, high = result["confidence_95"]
    lines = [
        f"{result['env']}, {result['player']}: {result['episodes']} episodes",
        f"score      {result['mean_score']:.2f}   (95 % interval {low:.2f} to {high:.2f}, "
        f"best {result['best_score']:.2f})",
    ]
    if result["share_of_ceiling"] is not None:
        share_low, share_high = result["share_confidence_95"]
        lines.append(
            f"of ceiling {100 * result['share_of_ceiling']:.1f} %   (95 % interval "
            f"{100 * share_low:.1f} % to {100 * share_high:.1f} %; floor {result['floor']:g}, "
            f"ceiling {result['ceiling']:g})"
        )
    if result["failures"]:
        lines.append(f"{len(result['failures'])} episodes failed and do not count")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the flags and plays; returns the exit status."""
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(name)s: %(message)s")
    # One observation at a time gains nothing from more, and two evaluations would contend for them.
    torch.set_num_threads(1)
    try:
        config = tyro.cli(EvaluateConfig, prog="python -m raygym.evaluate", args=arguments)
        result = evaluate(
            config,
            make_match(config),
            on_episode=lambda number, score: print(
                f"episode {number}/{config.episodes}: score {score:.2f}", flush=True
            ),
        )
        if config.json is not None:
            write_json(config.json, result)
    except ConfigError as error:
        print(f"raygym.evaluate: {error}", file=sys.stderr)
        return EXIT_USAGE
    except RaygymError as error:
        print(f"raygym.evaluate: {type(error).__name__}: {error}", file=sys.stderr)
        return EXIT_FAILED
    print(describe(result))
    return 0


def _baseline(config: EvaluateConfig, spec: EnvSpec) -> Player:
    if config.policy == "random":
        return RandomPolicy(len(spec.actions))
    if config.policy == "scripted":
        return ScriptedPolicy(spec.id)
    action = config.hold_action
    if action is None:
        action = next((n for n, keys in enumerate(spec.actions) if keys in _UP), 1)
    check_range("EvaluateConfig", "hold_action", action, 0, len(spec.actions) - 1)
    return HoldPolicy(action)


if __name__ == "__main__":
    sys.exit(main())
