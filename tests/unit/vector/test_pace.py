from __future__ import annotations

from raygym.vector.pace import PaceWatch


def steps(watch: PaceWatch, slot: int, seconds: float, count: int = 20) -> str:
    return [watch.note(slot, seconds) for _ in range(count)][-1]


def test_a_slot_is_compared_with_the_median_of_the_others() -> None:
    watch = PaceWatch(3.0)
    assert not any(steps(watch, slot, 0.010) for slot in (0, 1, 2))
    assert not steps(watch, 3, 0.029)
    assert "slow: a step took 40.0 ms over the last 20, and the others took 10.0 ms" in steps(
        watch, 3, 0.040
    )


def test_one_alone_is_compared_with_itself_at_first() -> None:
    watch = PaceWatch(2.0)
    assert not steps(watch, 0, 0.010)
    assert not steps(watch, 0, 0.019)
    assert "it took 10.0 ms at first" in steps(watch, 0, 0.021)


def test_nothing_is_judged_before_its_mean_is_there_and_after_it_was_forgotten() -> None:
    watch = PaceWatch(2.0)
    steps(watch, 0, 0.010)
    assert not steps(watch, 0, 1.0, count=19)
    watch.forget(0)
    assert not steps(watch, 0, 1.0)


def test_without_a_factor_no_slot_is_slow() -> None:
    watch = PaceWatch(None)
    steps(watch, 0, 0.001)
    assert not steps(watch, 0, 100.0)
