from __future__ import annotations

from raygym.service.node_quarantine import FIRST_S, STRIKES, NodeQuarantine


def strike(quarantine: NodeQuarantine, node: str, now_s: float, times: int = STRIKES) -> None:
    for number in range(times):
        quarantine.note_failure(node, f"failure {number}", now_s)


def test_a_node_is_left_alone_after_some_failures_in_a_row_and_for_a_while():
    quarantine = NodeQuarantine()
    strike(quarantine, "a", 10.0, STRIKES - 1)
    assert not quarantine.holds("a", 10.0)
    strike(quarantine, "a", 10.0, 1)
    assert quarantine.holds("a", 10.0 + FIRST_S - 0.1)
    assert not quarantine.holds("a", 10.0 + FIRST_S)


def test_each_further_quarantine_is_twice_as_long():
    quarantine = NodeQuarantine()
    strike(quarantine, "a", 0.0)
    quarantine.note_failure("a", "again", FIRST_S)
    assert quarantine.holds("a", 3 * FIRST_S - 0.1)
    assert not quarantine.holds("a", 3 * FIRST_S)


def test_a_success_forgets_the_failures():
    quarantine = NodeQuarantine()
    strike(quarantine, "a", 0.0, STRIKES - 1)
    quarantine.note_success("a")
    strike(quarantine, "a", 0.0, STRIKES - 1)
    assert not quarantine.holds("a", 0.0)


def test_the_emptiest_node_that_is_well_is_chosen():
    quarantine = NodeQuarantine()
    load = {"a": 0, "b": 3, "c": 1}
    assert quarantine.choose(["a", "b", "c"], load, 0.0) == "a"
    strike(quarantine, "a", 0.0)
    assert quarantine.choose(["a", "b", "c"], load, 1.0) == "c"
    assert quarantine.choose([], {}, 1.0) is None


def test_where_all_are_in_quarantine_the_one_that_is_free_first_is_chosen():
    quarantine = NodeQuarantine()
    strike(quarantine, "a", 5.0)
    strike(quarantine, "b", 0.0)
    assert quarantine.choose(["a", "b"], {}, 6.0) == "b"


def test_the_rows_tell_the_last_error():
    quarantine = NodeQuarantine()
    strike(quarantine, "a", 0.0)
    strike(quarantine, "", 0.0)
    (row,) = quarantine.rows(20.0)
    assert (row.kind, row.name, row.failures) == ("node", "a", STRIKES)
    assert row.left_s == FIRST_S - 20.0
    assert row.error == f"failure {STRIKES - 1}"
