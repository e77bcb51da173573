from __future__ import annotations

import re
from pathlib import Path

import pytest

from raygym.catalog import FLASH_ORIGIN_PX, EnvSpec, Region, load_catalog, load_game
from raygym.errors import ConfigError

GAME = """
id: MyGame
title: My Game
swf: game.swf
size: [320, 200]
fps: 30
keys: ["", "ArrowUp", "ArrowUp ArrowLeft"]
score: {source: poll, name: getScore, over: isOver}
"""


@pytest.fixture
def game_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "games" / "mine"
    folder.mkdir(parents=True)
    (folder / "game.yaml").write_text(GAME)
    (folder / "game.swf").write_bytes(b"FWS")
    return folder


def test_a_folder_of_games_becomes_environments_without_code(game_dir):
    catalog = load_catalog([game_dir.parent])

    spec = catalog.env("flashgames.MyGame-v0")
    assert spec.region == Region(*FLASH_ORIGIN_PX, 320, 200)
    assert spec.actions == ((), ("ArrowUp",), ("ArrowUp", "ArrowLeft"))
    assert (spec.fps, spec.title, spec.runtime) == (30.0, "My Game", "flashgames")
    assert catalog.games[spec.id].score.name == "getScore"
    assert catalog.games[spec.id].score.over == "isOver"


def test_a_single_game_s_own_folder_is_found_too(game_dir):
    assert "flashgames.MyGame-v0" in load_catalog([game_dir]).envs


def test_the_variable_names_folders(game_dir, monkeypatch):
    monkeypatch.setenv("RAYGYM_GAMES", str(game_dir.parent))
    assert "flashgames.MyGame-v0" in load_catalog().envs


def test_an_empty_folder_of_games_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ConfigError, match=rf"no game.yaml in {tmp_path}"):
        load_catalog([tmp_path])


def test_two_games_of_one_id_are_an_error_that_names_both(game_dir, tmp_path):
    other = tmp_path / "games" / "other"
    other.mkdir()
    (other / "game.yaml").write_text(GAME)
    (other / "game.swf").write_bytes(b"FWS")
    with pytest.raises(ConfigError, match=r"other.*already taken by .*mine"):
        load_catalog([game_dir.parent])


@pytest.mark.parametrize(
    ("line", "replacement", "named"),
    [
        ("id: MyGame", "id: my-game", "id: expected .*NeonRace.*'my-game'"),
        ("id: MyGame", "", "id: expected a text; got None"),
        ("swf: game.swf", "swf: gone.swf", "gone.swf is not there"),
        ("size: [320, 200]", "size: 320", r"size: expected two whole numbers.*320"),
        ("size: [320, 200]", "size: [4000, 200]", "size: expected .* at most"),
        ("fps: 30", "fps: fast", "fps: expected a number from 1 to 60; got 'fast'"),
        ("fps: 30", "fps: 0", "fps: expected a number from 1 to 60; got 0"),
        ('keys: ["", "ArrowUp", "ArrowUp ArrowLeft"]', "keys: {}", "keys: expected a list"),
        ("source: poll", "source: magic", "score: expected a mapping with source"),
        ("name: getScore, ", "", "score: expected name, as source is poll"),
    ],
)
def test_a_malformed_game_is_an_error_that_names_file_key_and_value(
    game_dir, line, replacement, named
):
    path = game_dir / "game.yaml"
    path.write_text(GAME.replace(line, replacement))
    with pytest.raises(ConfigError, match=named) as caught:
        load_game(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "\xff"])
def test_a_file_that_is_no_yaml_mapping_is_an_error_that_names_it(game_dir, text):
    path = game_dir / "game.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"game\.yaml: (cannot be read|expected a mapping)"):
        load_game(path)


def test_an_unknown_environment_is_an_error_that_lists_the_known():
    with pytest.raises(ConfigError, match=r"flashgames.NeonRase-v0.*Known: .*test.Catch-v0"):
        load_catalog([]).env("flashgames.NeonRase-v0")


def test_an_unknown_runtime_is_an_error_that_lists_the_known():
    with pytest.raises(ConfigError, match=r"'gtav'. Known: catch, flashgames"):
        load_catalog([]).runtime("gtav")


def _spec(floor: float | None, ceiling: float | None) -> EnvSpec:
    return EnvSpec(
        id="test.A-v0",
        runtime="catch",
        title="A",
        fps=25,
        region=Region(0, 0, 1, 1),
        actions=((),),
        max_episode_s=1,
        score_floor=floor,
        score_ceiling=ceiling,
    )


def test_the_share_of_the_ceiling_runs_from_floor_to_ceiling():
    assert [_spec(-1.0, 3.0).share_of_ceiling(s) for s in (-1.0, 1.0, 3.0, 5.0)] == [0, 0.5, 1, 1.5]


def test_the_share_of_an_unmeasured_ceiling_is_unknown():
    assert _spec(0.0, None).share_of_ceiling(3.0) is None


def test_the_catalog_has_both_built_in_flash_games_with_floor_and_ceiling():
    envs = load_catalog([]).envs
    for env_id in ("flashgames.NeonRace-v0", "flashgames.DuskDrive-v0"):
        spec = envs[env_id]
        assert spec.fps == 25
        assert spec.region.width >= 640
        assert spec.region.height >= 480
        assert spec.max_episode_s <= 60
        assert spec.share_of_ceiling(spec.score_ceiling) == 1.0
        assert spec.score_floor < 0.1 * spec.score_ceiling


# Universe's list; DragItem has no page in the package.
UNIVERSE_WOB_MINI = re.findall(
    r"\w+",
    """
    BisectAngle BookFlight ChaseCircle ChooseDate ChooseList CircleCenter ClickButton
    ClickButtonSequence ClickCheckboxes ClickCollapsible ClickCollapsible2 ClickColor
    ClickDialog ClickDialog2 ClickLink ClickMenu ClickMenu2 ClickOption ClickPie ClickScrollList
    ClickShades ClickShape ClickTab ClickTab2 ClickTest ClickTest2 ClickWidget CopyPaste
    CopyPaste2 CountShape CountSides DragBox DragCube DragItems DragItemsGrid DragShapes
    DragSortNumbers EmailInbox EnterDate EnterPassword EnterText EnterText2 EnterTextDynamic
    EnterTime FindMidpoint FindWord FocusText FocusText2 GridCoordinate GuessNumber
    HighlightText HighlightText2 IdentifyShape LoginUser MovingItems NavigateTree
    NumberCheckboxes ReadTable ReadTable2 ResizeTextarea RightAngle ScrollText ScrollText2
    SearchEngine SimonSays SimpleAlgebra SimpleArithmetic SocialMedia Terminal TextEditor
    TextTransform TicTacToe UseAutocomplete UseColorwheel UseColorwheel2 UseSlider UseSlider2
    UseSpinner VisualAddition
    """,
)


def test_wob_has_the_tasks_of_universe_under_their_names_and_pages():
    envs = load_catalog([]).envs
    assert len(UNIVERSE_WOB_MINI) == 79
    for name in UNIVERSE_WOB_MINI:
        spec = envs[f"wob.mini.{name}-v0"]
        words = re.findall("[A-Z][a-z]*|[0-9]", name)
        assert spec.page == "-".join(words).lower()
    assert sum(spec.runtime == "wob" for spec in envs.values()) == 130


def test_wob_clicks_as_universe_did_and_types_each_printable_character():
    spec = load_catalog([]).env("wob.mini.UseColorwheel2-v0")
    assert (spec.fps, spec.max_episode_s, spec.is_momentary) == (15, 7, True)
    assert spec.region == Region(10, 75, 160, 210)
    assert spec.actions[:2] == (("@5,55",), ("@5,65",))
    assert spec.actions[256:259] == ((), ("drag",), ("space",))
    assert {(chr(code),) for code in range(33, 127)} <= set(spec.actions)
    assert len(set(spec.actions)) == len(spec.actions)
    assert load_catalog([]).runtime("wob").modes == ("realtime", "lockstep")


def test_an_unknown_environment_is_an_error_that_names_the_nearest():
    with pytest.raises(ConfigError, match=r"mean .*wob\.mini\.ClickTest-v0"):
        load_catalog([]).env("wob.mini.ClickTast-v0")
