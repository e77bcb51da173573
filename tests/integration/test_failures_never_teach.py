"""What fails is no lesson: with 30 % of the episodes broken, all is learned as without.

Where the mask is taken out the same checks fail, so they can.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import pytest
from ray.rllib.algorithms.appo import APPOConfig
from ray.rllib.algorithms.impala import IMPALAConfig

from raygym.service.ray_running import ray_running
from tests.support.faulty_env import CEILING, Kind
from tests.support.quiz_learners import NETWORK, Lesson, Teach, teach_a3c, teach_batched
from tests.support.quiz_rllib import teach_rllib

pytestmark = pytest.mark.timeout(400)

SEEDS = (1, 2, 3)
NEAR_CEILING = 0.9 * CEILING
AREA_APART = 0.1 * CEILING
"""More than the seeds of one learner lie apart."""
AREA_APART_BY_THE_CLOCK = 0.2 * CEILING
"""The same where learner and runners do not wait for each other: a busy machine alone moves the
area by 0.12."""
VALUE_ERROR = 0.15

LEARNERS: dict[str, Teach] = {
    "a3c": teach_a3c,
    "batched": teach_batched,
    "batched-lstm": functools.partial(teach_batched, network=NETWORK),
    "ppo": teach_rllib,
    "impala": functools.partial(teach_rllib, algo=IMPALAConfig),
    "appo": functools.partial(teach_rllib, algo=APPOConfig),
}
REPEATABLE = ("a3c", "batched", "batched-lstm", "ppo")
"""Those that learn the same twice."""


@pytest.fixture(scope="module", autouse=True)
def a_ray() -> Iterator[None]:
    """RLlib asks for one, though all of it learns in this process."""
    with ray_running(1, has_dashboard=False):
        yield


@functools.cache
def lessons(learner: str, kind: Kind | None) -> tuple[Lesson, ...]:
    return tuple(LEARNERS[learner](kind, seed) for seed in SEEDS)


def check_curve(
    found: tuple[Lesson, ...], unbroken: tuple[Lesson, ...], apart: float = AREA_APART
) -> None:
    """The ceiling is reached, and as soon."""
    final = np.mean([lesson.final for lesson in found])
    assert final >= NEAR_CEILING, f"final score {final:.2f}"
    areas = [np.mean([lesson.area for lesson in some]) for some in (found, unbroken)]
    assert abs(areas[0] - areas[1]) <= apart, f"mean scores {areas}"


def check_values(found: tuple[Lesson, ...]) -> None:
    """Each question is worth what it is worth to who knows all answers."""
    error = np.mean([lesson.value_error for lesson in found])
    assert error <= VALUE_ERROR, f"values are {error:.2f} off"


@pytest.mark.parametrize("learner", LEARNERS)
def test_the_quiz_is_learned_where_nothing_fails(learner: str):
    unbroken = lessons(learner, None)
    assert {lesson.failures for lesson in unbroken} == {0}
    check_curve(unbroken, unbroken)
    check_values(unbroken)


@pytest.mark.parametrize("learner", LEARNERS)
def test_failures_change_neither_the_curve_nor_the_values(learner: str):
    broken = lessons(learner, "adversarial")
    assert all(lesson.failures > 100 for lesson in broken)
    apart = AREA_APART if learner in REPEATABLE else AREA_APART_BY_THE_CLOCK
    check_curve(broken, lessons(learner, None), apart)
    check_values(broken)


@pytest.mark.parametrize("learner", LEARNERS)
def test_both_checks_fail_where_the_mask_is_taken_out(learner: str):
    unmasked = (LEARNERS[learner]("adversarial", SEEDS[0], has_mask=False),)
    with pytest.raises(AssertionError, match="final score"):
        check_curve(unmasked, lessons(learner, None))
    with pytest.raises(AssertionError, match="values are"):
        check_values(unmasked)


@pytest.mark.parametrize("learner", REPEATABLE)
@pytest.mark.parametrize("kind", ["plain", "raising"])
def test_what_a_failed_step_said_moves_no_weight_by_a_single_bit(learner: str, kind: Kind):
    teach, adversarial = LEARNERS[learner], lessons(learner, "adversarial")[0]
    other = teach(kind, SEEDS[0])
    assert other.failures == adversarial.failures
    assert (other.weights == adversarial.weights).all()
