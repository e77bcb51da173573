from __future__ import annotations

import sys

import pytest

from raygym.errors import ConfigError
from raygym.gateway.offers import Offers
from raygym.gateway.pool import Wanted

CARTPOLE = "gym-core.CartPole-v1"


@pytest.fixture(scope="module")
def everything() -> Offers:
    return Offers()


@pytest.mark.parametrize("env_id", ["CartPole-v1", CARTPOLE])
def test_gymnasiums_ids_are_found_with_and_without_our_prefix(
    everything: Offers, env_id: str
) -> None:
    assert everything.find(env_id, "lockstep", client_id="a") == Wanted(
        env_id=CARTPOLE, runtime="gym-core", mode="lockstep", client_id="a"
    )


def test_games_are_found_in_both_modes(everything: Offers) -> None:
    for mode in ("lockstep", "realtime"):
        found = everything.find("flashgames.NeonRace-v0", mode)  # type: ignore[arg-type]
        assert (found.runtime, found.mode) == ("flashgames", mode)


@pytest.mark.parametrize(
    ("env_id", "said"),
    [
        ("", "say which environment"),
        ("CartPool-v1", "CartPole"),
        ("flashgames.NeonRase-v0", "Did you mean flashgames.NeonRace-v0"),
        ("x" * 300, "at most 256"),
        ("a\nb", "at most 256 printable"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is_near(
    everything: Offers, env_id: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        everything.find(env_id, "lockstep")


def test_a_mode_that_the_runtime_lacks_is_refused(everything: Offers) -> None:
    with pytest.raises(ConfigError, match="runs in realtime only"):
        everything.find("test.Catch-v0", "lockstep")


@pytest.mark.parametrize("env_id", ["antigravity:Its-v0", "gym-core.antigravity:Its-v0"])
def test_no_pattern_has_a_package_imported_that_a_client_names(
    everything: Offers, env_id: str
) -> None:
    with pytest.raises(ConfigError, match="does not offer"):
        everything.find(env_id, "lockstep")
    assert "antigravity" not in sys.modules


class TestListed:
    def test_only_those_are_offered_and_the_first_to_whom_names_none(self) -> None:
        offers = Offers(("CartPole-v1", "flashgames.*"))
        assert offers.env_ids == (CARTPOLE,)
        assert offers.find("", "lockstep").env_id == CARTPOLE
        assert offers.find("flashgames.NeonRace-v0", "lockstep").runtime == "flashgames"
        with pytest.raises(ConfigError, match=r"does not offer 'gym-core\.Acrobot-v1'.*CartPole"):
            offers.find("Acrobot-v1", "lockstep")

    @pytest.mark.parametrize("env_id", ["Nonsense-v0", "flashgames.Nonsense-v0"])
    def test_one_that_nobody_knows_is_found_out_at_once(self, env_id: str) -> None:
        with pytest.raises(ConfigError, match="unknown environment"):
            Offers((env_id,))

    def test_there_must_be_one(self) -> None:
        with pytest.raises(ConfigError, match="at least one"):
            Offers(())
