"""Drivers for the built-in games: each tries out what the next second could bring.

A driver plays a simple model of its game forward for many plans at once and follows the plan
that ends best. It sees the numbers that the game reports of itself and no pixels; what it
scores is the ceiling in the catalog.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

GameState = Mapping[str, float]
"""What ``raygymState`` returns: numbers by name."""
FloatArray = npt.NDArray[np.float64]

# NeonRace: lengths are road segments, speeds shares of cruising speed, sideways -1 to 1.
NEON_LEFT, NEON_RIGHT, NEON_UP, NEON_UP_LEFT, NEON_UP_RIGHT, NEON_NITRO, NEON_IDLE = (
    *(0, 1, 2, 3, 4),
    *(6, 7),
)
_NEON_SEGMENTS_A_FRAME = 1.6
_NEON_HORIZON = 26
_NEON_LANES = np.tile(np.linspace(-0.85, 0.85, 19), 2)
_NEON_HAS_THROTTLE = np.repeat([1.0, 0.0], 19)


def drive_neon_race(state: GameState) -> int:
    """Chooses the lane that a car can drive in without a crash, over pick-ups where it can.

    Returns:
        Index into NeonRace's Discrete actions.
    """
    costs, first_turn = _neon_plans(state)
    best = int(np.argmin(costs))
    turn = int(first_turn[best])
    if not _NEON_HAS_THROTTLE[best]:
        return {-1: NEON_LEFT, 0: NEON_IDLE, 1: NEON_RIGHT}[turn]
    is_calm = abs(state["bend_near"]) < 4.2 and abs(state["bend_far"]) < 4.6
    if turn == 0 and is_calm and state["nitro"] > 0.14 and abs(state["lane"]) < 0.95:
        return NEON_NITRO
    return {-1: NEON_UP_LEFT, 0: NEON_UP, 1: NEON_UP_RIGHT}[turn]


def _neon_plans(state: GameState) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Plays every plan (a lane to head for, throttle or not) forward.

    Returns:
        float64[38] costs and int64[38] first turns: -1 left, 0 none, 1 right.
    """
    count = len(_NEON_LANES)
    lane, steer, speed = (np.full(count, float(state[key])) for key in ("lane", "steer", "speed"))
    place = np.zeros(count)
    costs = 0.04 * np.abs(_NEON_LANES - lane) + 0.03 * np.abs(_NEON_LANES)
    first_turn = np.zeros(count, np.int64)
    for frame in range(_NEON_HORIZON):
        authority = 0.058 * np.minimum(1, 0.25 * np.minimum(1, speed * 6) + 0.8 * speed)
        pull = 0.0068 * _neon_bend(state, place) * speed * speed
        error = _NEON_LANES - lane - 1.9 * steer * authority + 2.0 * pull
        turn = np.where(np.abs(error) > 0.045, np.sign(error), 0)
        if frame == 0:
            first_turn = turn.astype(np.int64)
        gain = 0.01875 * (1 - 0.96 * speed)
        speed = speed + np.where(_NEON_HAS_THROTTLE > 0, gain, -0.0094 - 0.003 * speed)
        steer = steer + (turn - steer) * 0.34
        lane = lane + steer * authority - pull
        before = place
        place = place + speed * _NEON_SEGMENTS_A_FRAME
        costs += _neon_dangers(state, frame, place, lane)
        gap = state["pickup_gap"]
        is_taken = (before < gap) & (gap <= place) & (np.abs(lane - state["pickup_lane"]) < 0.3)
        costs -= np.where(is_taken, 0.6 if state["pickup_kind"] == 0 else 1.2, 0)
    return costs - 0.3 * place, first_turn


def _neon_bend(state: GameState, place: FloatArray) -> FloatArray:
    return np.where(
        place < 2, state["bend"], np.where(place < 10, state["bend_near"], state["bend_far"])
    )


def _neon_dangers(state: GameState, frame: int, place: FloatArray, lane: FloatArray) -> FloatArray:
    """Cost of being at ``place`` and ``lane`` (float64[38]) in that many frames."""
    costs = 5.0 * np.clip(np.abs(lane) - 0.9, 0, None)
    if frame < state["ghost"]:
        return costs
    for index in range(3):
        moved = state[f"rival{index}_speed"] * _NEON_SEGMENTS_A_FRAME * (frame + 1)
        gap = state[f"rival{index}_gap"] + moved - place
        drift = state[f"rival{index}_aim"] - state[f"rival{index}_lane"]
        reach = 0.016 * (frame + 1)
        aside = np.abs(lane - state[f"rival{index}_lane"] - max(-reach, min(reach, drift)))
        is_near = (gap > -1.5) & (gap < 1.9)
        costs += np.where(is_near, 30.0 * np.clip(0.52 - aside, 0, None), 0)
    return costs


# DuskDrive: pixels, frames and radians, seen from the car: x ahead, y to the right.
_DUSK_FIRST, _DUSK_SECOND = 9, 17
# Columns: throttle, brake, turn, handbrake; rows as in the game's Discrete actions.
_DUSK_KEYS = np.array(
    [
        *([0, 0, 0, 0], [1, 0, 0, 0], [1, 0, -1, 0], [1, 0, 1, 0], [0, 0, -1, 0]),
        *([0, 0, 1, 0], [0, 1, 0, 0], [0, 0, -1, 1], [0, 0, 1, 1]),
    ],
    dtype=np.float64,
)
_DUSK_FIRSTS, _DUSK_SECONDS = (grid.ravel() for grid in np.mgrid[0:9, 0:9])
_DUSK_LAMPS = 6


class _DuskCars:
    """The car of DuskDrive, once for each of the 81 plans; all arrays are float64[81]."""

    def __init__(self, state: GameState) -> None:
        count = len(_DUSK_FIRSTS)
        self.x, self.y, self.heading = np.zeros(count), np.zeros(count), np.zeros(count)
        self.vx = np.full(count, float(state["speed"]))
        self.vy = np.full(count, float(state["slip"]))
        self.steer = np.full(count, float(state["steer"]))

    def advance(self, keys: FloatArray) -> None:
        """Moves one frame on with ``keys``, float64[81, 4]."""
        throttle, brake, turn, slide = keys.T
        cos, sin = np.cos(self.heading), np.sin(self.heading)
        forward = self.vx * cos + self.vy * sin
        aside = self.vy * cos - self.vx * sin
        forward = forward + throttle * 0.62 * (1 - forward / 12.5)
        forward = forward - brake * np.where(forward > 0, 0.95, 0.35 * (1 + forward / 4))
        forward = forward * np.where(slide > 0, 0.968, 1.0)
        forward = forward * np.where(throttle + brake > 0, 0.998, 0.972)
        aside = aside * np.where(slide > 0, 0.93, 0.74)
        self.vx, self.vy = forward * cos - aside * sin, forward * sin + aside * cos
        self.steer = self.steer + (turn - self.steer) * 0.45
        grip = np.minimum(1, (np.abs(forward) + 2.0 * np.minimum(1, throttle + brake)) / 4.5)
        rate = np.where(slide > 0, 0.125, 0.086) * (1 - 0.018 * np.abs(forward))
        self.heading = self.heading + self.steer * rate * grip * np.where(forward < -0.4, -1, 1)
        self.x, self.y = self.x + self.vx, self.y + self.vy


def drive_dusk_drive(state: GameState) -> int:
    """Follows the lanterns: tries two actions in a row and keeps the first of the best pair.

    Returns:
        Index into DuskDrive's Discrete actions.
    """
    cars = _DuskCars(state)
    route = np.array(
        [
            [state["last_ahead"], state["last_side"]],
            *([state[f"lamp{k}_ahead"], state[f"lamp{k}_side"]] for k in range(_DUSK_LAMPS)),
        ]
    )
    count = len(_DUSK_FIRSTS)
    reached = np.zeros(count, np.int64)
    costs = np.zeros(count)
    for frame in range(_DUSK_FIRST + _DUSK_SECOND):
        plan = _DUSK_FIRSTS if frame < _DUSK_FIRST else _DUSK_SECONDS
        cars.advance(_DUSK_KEYS[plan])
        place = np.stack([cars.x, cars.y], axis=1)
        gap = np.hypot(*(route[reached + 1] - place).T)
        is_touched = (gap < 38) & (reached < _DUSK_LAMPS - 1)
        reached = reached + is_touched
        costs -= is_touched * 20.0 * (1 - frame / 60)
        costs += _dusk_dangers(state, frame, place)
        costs += 0.04 * np.clip(_aside(place, route[reached], route[reached + 1]) - 34, 0, 40)
    to_go = route[reached + 1] - np.stack([cars.x, cars.y], axis=1)
    gap = np.maximum(1.0, np.hypot(*to_go.T))
    closing = (cars.vx * to_go[:, 0] + cars.vy * to_go[:, 1]) / gap
    facing = (np.cos(cars.heading) * to_go[:, 0] + np.sin(cars.heading) * to_go[:, 1]) / gap
    costs += gap - 80.0 * reached - 5.0 * closing - 25.0 * facing
    return int(_DUSK_FIRSTS[int(np.argmin(costs))])


def _aside(place: FloatArray, start: FloatArray, end: FloatArray) -> FloatArray:
    """Distance of each place (float64[N, 2]) from the line between two points of its own."""
    way = end - start
    length = np.maximum(1.0, (way * way).sum(axis=1))
    along = np.clip(((place - start) * way).sum(axis=1) / length, 0, 1)
    away: FloatArray = np.hypot(*(place - start - along[:, None] * way).T)
    return away


def _dusk_dangers(state: GameState, frame: int, place: FloatArray) -> Any:
    """Cost of being at each place (float64[N, 2]) in that many frames, for the cars around."""
    costs: Any = 0.0
    for index in range(3):
        course = state[f"car{index}_heading"]
        step = state[f"car{index}_speed"] * (frame + 1)
        middle = np.array([state[f"car{index}_ahead"], state[f"car{index}_side"]])
        nose = np.array([np.cos(course), np.sin(course)])
        for end in (-9.0, 9.0):
            away = np.hypot(*(place - middle - nose * (step + end)).T)
            costs = costs + 3.0 * np.clip(36 - away, 0, 20) * (1 - frame / 40)
    return costs
