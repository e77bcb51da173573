from __future__ import annotations

from raygym.remote_env.claims import Claims
from tests.support.clocks import Clock


def test_a_claim_is_told_once_with_its_time_and_what_became_of_those_before():
    clock = Clock()
    claims = Claims(clock)
    claims.begin()
    clock.now_s += 2.0
    claims.done()
    assert claims.news() == {"claim_s": 2.0, "claim_causes": ""}
    assert claims.news() == {}
    claims.gone("infra_failure")
    claims.begin()
    clock.now_s += 9.0
    claims.gone("start_failed")
    claims.begin()
    clock.now_s += 0.5
    assert claims.news() == {}, "it has not answered yet"
    claims.done()
    assert claims.news() == {"claim_s": 0.5, "claim_causes": "infra_failure,start_failed"}
    claims.begin()
    claims.done()
    assert claims.news()["claim_causes"] == ""
