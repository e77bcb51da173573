"""A quiz that is learned in seconds, and a wrapper that breaks some of its episodes.

What the quiz is worth is known in closed form, so a test can say what must have been learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import gymnasium
import numpy as np
import numpy.typing as npt

from raygym.core import Float32Array
from raygym.errors import SessionLost

QUESTIONS = 5
ANSWERS = 2
LEAVE = 2
"""The action that ends the quiz with nothing more to win."""
REWARD = 0.2
"""For each right answer."""
CEILING = QUESTIONS * REWARD
"""The best score of an episode."""
PICTURE = (6, 6, 1)

FAILED_SHARE = 0.3
"""How many of the episodes break."""
MISLEADING_REWARD = -10.0
"""What a step of ``adversarial`` says it was worth; dear enough to make leaving at once the best
of all policies where it is believed."""

Kind = Literal["plain", "adversarial", "raising"]


class QuizEnv(gymnasium.Env[npt.NDArray[Any], int]):
    """Five questions; each shows the right answer of two. One may leave at any of them.

    Args:
        is_picture: Observations are uint8[6, 6, 1]: one bright column of the upper half for the
            question, one bright half of the lower for its answer. Otherwise float32[7]: the
            question and the answer, each one-hot.
    """

    def __init__(self, *, is_picture: bool = True) -> None:
        self.is_picture = is_picture
        self.observation_space: gymnasium.Space[Any] = (
            gymnasium.spaces.Box(0, 255, PICTURE, np.uint8)
            if is_picture
            else gymnasium.spaces.Box(0.0, 1.0, (QUESTIONS + ANSWERS,), np.float32)
        )
        self.action_space = gymnasium.spaces.Discrete(ANSWERS + 1)
        self._question = 0
        self._right = 0

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[npt.NDArray[Any], dict[str, Any]]:
        super().reset(seed=seed)
        self._question = 0
        return self._ask(), {}

    def step(self, action: int) -> tuple[npt.NDArray[Any], float, bool, bool, dict[str, Any]]:
        reward = REWARD if action == self._right else 0.0
        self._question += 1
        is_over = action == LEAVE or self._question == QUESTIONS
        return self._ask(), reward, is_over, False, {"outcome": "ok"}

    def _ask(self) -> npt.NDArray[Any]:
        self._right = int(self.np_random.integers(ANSWERS))
        # After the last answer the picture is that of the last question, with a new answer.
        question = min(self._question, QUESTIONS - 1)
        if not self.is_picture:
            vector = np.zeros(QUESTIONS + ANSWERS, np.float32)
            vector[[question, QUESTIONS + self._right]] = 1.0
            return vector
        picture = np.zeros(PICTURE, np.uint8)
        picture[:3, question] = 255
        picture[3:, 3 * self._right : 3 * self._right + 3] = 255
        return picture


def question_of(observations: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Reads the numbers int64[B] of the questions that observations[B, ...] show."""
    is_picture = observations.ndim == 4
    shown = observations[:, 0, :, 0] if is_picture else observations[:, :QUESTIONS]
    return np.asarray(shown[:, :QUESTIONS].argmax(axis=-1), dtype=np.int64)


def right_answer(observations: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Reads the right answers int64[B] to what observations[B, ...] ask."""
    is_picture = observations.ndim == 4
    shown = observations[:, 5, ::3, 0] if is_picture else observations[:, QUESTIONS:]
    return np.asarray(shown.argmax(axis=-1), dtype=np.int64)


def value_of(question: npt.NDArray[np.int64], gamma: float) -> Float32Array:
    """Returns what is won from questions int64[B] on by who knows all answers, float32[B]."""
    powers = REWARD * gamma ** np.arange(QUESTIONS)
    sums = np.cumsum(powers)
    return np.asarray(sums[QUESTIONS - 1 - question], dtype=np.float32)


class FaultyEnv(gymnasium.Wrapper[npt.NDArray[Any], int, npt.NDArray[Any], int]):
    """Breaks some episodes at a random step, as an environment does that lost its Remote.

    Args:
        env: What to break.
        kind: What the step that fails looks like. ``plain``: the last observation again and
            reward 0. ``adversarial``: noise, and a misleading reward. ``raising``: it raises
            SessionLost.
        seed: Of the draws; which episodes fail, and where, depends on nothing else.
        share: Of the episodes that are to fail.
        longest: The step to fail is drawn from the first so many. An episode that ends before
            it does not fail.
    """

    def __init__(
        self,
        env: gymnasium.Env[npt.NDArray[Any], int],
        *,
        kind: Kind,
        seed: int,
        share: float = FAILED_SHARE,
        longest: int = QUESTIONS,
    ) -> None:
        super().__init__(env)
        self.kind = kind
        self.failures = 0
        """How many episodes have failed."""
        self._random, self._noise = np.random.default_rng(seed).spawn(2)
        self._share = share
        self._longest = longest
        self._steps = 0
        self._fails_at: int | None = None
        self._last: npt.NDArray[Any] | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[Any], dict[str, Any]]:
        is_to_fail = self._random.random() < self._share
        at = int(self._random.integers(1, self._longest + 1))
        self._fails_at = at if is_to_fail else None
        self._steps = 0
        self._last, info = self.env.reset(seed=seed, options=options)
        return self._last, info

    def step(self, action: int) -> tuple[npt.NDArray[Any], float, bool, bool, dict[str, Any]]:
        self._steps += 1
        if self._steps == self._fails_at:
            return self._fail()
        self._last, reward, terminated, truncated, info = self.env.step(action)
        return self._last, float(reward), terminated, truncated, info

    def _fail(self) -> tuple[npt.NDArray[Any], float, bool, bool, dict[str, Any]]:
        self.failures += 1
        reason = f"planted at step {self._steps}"
        if self.kind == "raising":
            raise SessionLost(reason)
        info = {"outcome": "infra_failure", "reason": reason}
        assert self._last is not None
        if self.kind == "plain":
            return self._last, 0.0, False, True, info
        space = self.observation_space
        assert isinstance(space, gymnasium.spaces.Box)
        noise = self._noise.integers(256, size=self._last.shape)
        scale = 1.0 if self._last.dtype == np.uint8 else 255.0
        return (noise / scale).astype(self._last.dtype), MISLEADING_REWARD, False, True, info


def quiz(kind: Kind | None, seed: int, *, is_picture: bool = True) -> gymnasium.Env[Any, Any]:
    """Returns a quiz; one that breaks in 30 % of its episodes where a kind is given."""
    env = QuizEnv(is_picture=is_picture)
    return env if kind is None else FaultyEnv(env, kind=kind, seed=seed)
