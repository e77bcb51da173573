from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from raygym.config import ObservationConfig
from raygym.errors import ConfigError
from raygym.policies import checkpoint as checkpoints
from raygym.policies.a3c import A3CConfig, SharedParameters
from raygym.policies.batched import BatchedConfig, BatchedLearner
from raygym.policies.checkpoint import Checkpoint
from raygym.policies.networks import NetworkConfig

NETWORK = NetworkConfig(observation_shape=(12, 12, 1), action_count=3, filter_count=4, lstm_size=8)


@pytest.fixture
def checkpoint() -> Checkpoint:
    shared = SharedParameters(NETWORK, A3CConfig(), seed=0)
    shared.apply(np.ones_like(shared.weights()[1]))
    return Checkpoint(
        env="test.Catch-v0",
        observation=ObservationConfig(height_px=12, width_px=12, is_grey=True),
        fps=12.5,
        network=NETWORK,
        learner=A3CConfig(gamma=0.9),
        parameters=shared.state(),
        env_steps=100,
        episodes=7,
        seed=3,
        random_states={0: np.random.default_rng(5).bit_generator.state},
    )


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path, checkpoint: Checkpoint):
    path = checkpoints.save(checkpoint, tmp_path)
    held = checkpoints.load(path)
    assert replace(held, parameters={}) == replace(checkpoint, parameters={})
    version, weights = SharedParameters(NETWORK, A3CConfig(), seed=9).restore(dict(held.parameters))
    assert version == 1
    expected = SharedParameters(NETWORK, A3CConfig(), seed=9)
    assert np.array_equal(weights, expected.restore(dict(checkpoint.parameters))[1])


def test_a_random_state_goes_on_where_it_was(tmp_path: Path, checkpoint: Checkpoint):
    held = checkpoints.load(checkpoints.save(checkpoint, tmp_path))
    random = np.random.default_rng()
    random.bit_generator.state = held.random_states[0]
    assert random.random() == np.random.default_rng(5).random()


def test_the_network_of_a_checkpoint_has_its_weights(tmp_path: Path, checkpoint: Checkpoint):
    network = checkpoints.load(checkpoints.save(checkpoint, tmp_path)).actor_critic()
    assert torch.equal(network.policy.weight, checkpoint.parameters["network"]["policy.weight"])


def test_only_the_newest_checkpoints_stay(tmp_path: Path, checkpoint: Checkpoint):
    for steps in (5, 30, 100, 2000):
        checkpoints.save(replace(checkpoint, env_steps=steps), tmp_path, keep=2)
    found = checkpoints.list_checkpoints(tmp_path)
    assert [checkpoints.load(p).env_steps for p in found] == [100, 2000]
    assert sorted(p.name for p in tmp_path.iterdir()) == [p.name for p in found]


def test_a_logdir_means_its_newest_checkpoint(tmp_path: Path, checkpoint: Checkpoint):
    for steps in (99, 1000):
        checkpoints.save(replace(checkpoint, env_steps=steps), tmp_path / "checkpoints")
    assert checkpoints.load(tmp_path).env_steps == 1000
    assert checkpoints.load(tmp_path / "checkpoints").env_steps == 1000


def test_a_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
):
    path = checkpoints.save(checkpoint, tmp_path)
    before = path.read_bytes()

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints.os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(replace(checkpoint, episodes=8), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == before


def test_a_missing_checkpoint_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"no checkpoint at .*nowhere"):
        checkpoints.load(tmp_path / "nowhere")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", pickle.dumps({"format": 1})])
def test_another_file_is_refused_by_name(tmp_path: Path, content: bytes):
    path = tmp_path / "other.pt"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"other\.pt: "):
        checkpoints.load(path)


def test_a_file_cut_short_is_refused(tmp_path: Path, checkpoint: Checkpoint):
    path = checkpoints.save(checkpoint, tmp_path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ConfigError, match="cannot be read as a checkpoint"):
        checkpoints.load(path)


def test_a_later_format_is_refused_with_both_numbers(tmp_path: Path):
    path = tmp_path / "later.pt"
    torch.save({"format": 2}, path)
    with pytest.raises(ConfigError, match="expected a raygym checkpoint of format 1, got 2"):
        checkpoints.load(path)


class Trap:
    """Runs code when it is unpickled the unsafe way."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("trap-was-sprung"),)


def test_loading_runs_no_code_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"format": 1, "env": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(ConfigError):
        checkpoints.load(tmp_path / "trap.pt")
    assert not (tmp_path / "trap-was-sprung").exists()


def test_a_checkpoint_of_the_batched_learner_comes_back_as_it_was(
    tmp_path: Path, checkpoint: Checkpoint
):
    network = NetworkConfig(
        observation_shape=(12, 12, 4), action_count=3, core="feedforward", filter_count=4
    )
    config = BatchedConfig(gamma=0.9)
    learner = BatchedLearner(network, config, seed=0)
    checkpoint = replace(
        checkpoint,
        network=network,
        learner=config,
        parameters=learner.state(),
        frame_stack=4,
    )
    held = checkpoints.load(checkpoints.save(checkpoint, tmp_path))
    assert replace(held, parameters={}) == replace(checkpoint, parameters={})
    other = BatchedLearner(network, config, seed=9)
    other.restore(held.parameters)
    assert np.array_equal(other.weights(), learner.weights())
    assert torch.equal(held.actor_critic().policy.weight, learner.network.policy.weight)


def test_a_checkpoint_from_before_there_was_another_learner_still_loads(
    tmp_path: Path, checkpoint: Checkpoint
):
    path = checkpoints.save(checkpoint, tmp_path)
    content = torch.load(path, weights_only=True)
    for name in ("algorithm", "frame_stack"):
        del content[name]
    for name in ("core", "hidden_size"):
        del content["network"][name]
    torch.save(content, path)
    held = checkpoints.load(path)
    assert replace(held, parameters={}) == replace(checkpoint, parameters={})
