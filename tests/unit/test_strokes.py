from __future__ import annotations

import pytest

from raygym.strokes import Hand, Point, Tap, grid_of_clicks, is_place

ACTIONS = [("@5,55",), ("@15,80",), (), ("drag",), ("a",), ("ctrl", "c"), ("@",)]
CLICK, OTHER_CLICK, NOTHING, DRAG, LETTER, CHORD, AT_SIGN = range(len(ACTIONS))


def test_a_click_moves_there_presses_and_releases():
    assert Hand(ACTIONS).motions(CLICK) == [
        Point(5, 55, is_down=False),
        Point(5, 55, is_down=True),
        Point(5, 55, is_down=False),
    ]


def test_nothing_is_no_motion():
    assert Hand(ACTIONS).motions(NOTHING) == []


@pytest.mark.parametrize(
    ("action", "keys"), [(LETTER, ("a",)), (CHORD, ("ctrl", "c")), (AT_SIGN, ("@",))]
)
def test_keys_are_tapped_together(action, keys):
    assert Hand(ACTIONS).motions(action) == [Tap(keys)]


def test_drag_makes_the_next_two_clicks_one_and_the_third_a_click_again():
    hand = Hand(ACTIONS)
    assert hand.motions(DRAG) == []
    assert hand.motions(CLICK) == []
    assert hand.motions(OTHER_CLICK) == [
        Point(5, 55, is_down=False),
        Point(5, 55, is_down=True),
        Point(10, 67, is_down=True),
        Point(15, 80, is_down=True),
        Point(15, 80, is_down=False),
    ]
    assert len(hand.motions(CLICK)) == 3


def test_what_is_typed_between_the_places_of_a_drag_does_not_end_it():
    hand = Hand(ACTIONS)
    hand.motions(DRAG)
    hand.motions(CLICK)
    assert hand.motions(LETTER) == [Tap(("a",))]
    assert len(hand.motions(OTHER_CLICK)) == 5


@pytest.mark.parametrize("places", [0, 1])
def test_a_drag_that_is_forgotten_or_begun_anew_has_no_start(places):
    for begin_anew in (True, False):
        hand = Hand(ACTIONS)
        hand.motions(DRAG)
        for _ in range(places):
            hand.motions(CLICK)
        if begin_anew:
            hand.motions(DRAG)
            assert hand.motions(CLICK) == []
        else:
            hand.forget()
            assert len(hand.motions(CLICK)) == 3


def test_a_grid_is_numbered_column_by_column_from_its_top():
    grid = grid_of_clicks(width=160, height=210, top=50, step=10)
    assert len(grid) == 256
    assert grid[:2] == (("@5,55",), ("@5,65",))
    assert grid[15:17] == (("@5,205",), ("@15,55",))
    assert grid[-1] == ("@155,205",)


def test_a_cell_that_is_cut_is_clicked_within_the_region():
    assert grid_of_clicks(width=12, height=8, top=0, step=10) == (("@5,5",), ("@11,5",))


@pytest.mark.parametrize(
    ("names", "expected"),
    [(("@1,2",), True), (("@1",), False), (("@",), False), (("@1,2", "a"), False), ((), False)],
)
def test_a_place_is_one_name_with_two_numbers(names, expected):
    assert is_place(names) is expected
