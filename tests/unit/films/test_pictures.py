from __future__ import annotations

import numpy as np
import pytest

from raygym.films.pictures import (
    SHEET_PICTURES,
    Still,
    Stills,
    Traces,
    can_be_shown,
    contact_sheet,
    newest_picture,
)


def still(step: int, value: int = 0) -> Still:
    return Still(step, step / 10, np.full((6, 8, 1), value, np.uint8))


@pytest.mark.parametrize(("channels", "stack"), [(1, 4), (3, 4), (1, 1), (3, 1), (1, 3)])
def test_the_newest_of_stacked_pictures_is_shown(channels: int, stack: int):
    stacked = np.concatenate([np.full((4, 5, channels), n, np.uint8) for n in range(stack)], axis=2)
    newest = newest_picture(stacked, channels)
    assert newest.shape == (4, 5, channels)
    assert (newest == stack - 1).all()


def test_channels_that_are_no_such_stack_give_their_last():
    assert newest_picture(np.zeros((4, 5, 4), np.uint8), 3).shape == (4, 5, 1)
    assert newest_picture(np.zeros((4, 5), np.uint8), 3).shape == (4, 5, 1)


@pytest.mark.parametrize(
    ("observation", "can"),
    [
        (np.zeros((4, 5, 1), np.uint8), True),
        (np.zeros((4, 5), np.uint8), True),
        (np.zeros(4, np.float32), True),
        (np.zeros(400, np.float32), False),
        (np.zeros((4, 5, 1), np.float32), False),
        (np.zeros((), np.int64), False),
    ],
)
def test_pictures_and_short_vectors_can_be_shown(observation, can: bool):
    assert can_be_shown(observation) == can


def test_traces_move_on_with_each_vector_and_bear_what_is_no_number():
    traces = Traces()
    first = traces.picture(np.array([0.0, np.nan], np.float32))
    second = traces.picture(np.array([1.0, np.inf], np.float32))
    assert first.shape == second.shape == (480, 640, 3)
    assert first.dtype == np.uint8
    assert (first != second).any()


@pytest.mark.parametrize("count", [1, 2, 11, 12, 13, 48, 49, 500, 7001])
def test_stills_are_few_evenly_spaced_and_have_both_ends(count: int):
    stills = Stills()
    for step in range(count):
        stills.add(still(step))
    steps = [one.step for one in stills.chosen()]
    assert len(steps) == min(count, SHEET_PICTURES)
    assert (steps[0], steps[-1]) == (0, count - 1)
    gaps = np.diff(steps)
    if count > 50:
        assert gaps.max() < 2.1 * gaps.min()


def test_a_sheet_has_a_cell_a_picture_and_a_red_line_for_a_warning():
    stills = [still(step, 255) for step in range(12)]
    plain = contact_sheet(stills, title="t", subtitle="s")
    warned = contact_sheet(stills, title="t", subtitle="s", warning="CUT: " + "it broke " * 99)
    assert warned.height > plain.height
    assert plain.width == warned.width

    def reds(sheet) -> int:
        colours = np.asarray(sheet).astype(int)
        return int(((colours[..., 0] - colours[..., 1]) > 60).sum())

    assert reds(plain) == 0
    assert reds(warned) > 100
    assert contact_sheet(stills[:1], title="t", subtitle="s").height < plain.height
