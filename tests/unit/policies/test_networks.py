from __future__ import annotations

import pytest
import torch

from raygym.errors import ConfigError
from raygym.policies.networks import (
    ActorCritic,
    FeedForward,
    NetworkConfig,
    SameConv,
    make_network,
)

SMALL = NetworkConfig(observation_shape=(10, 7, 3), action_count=4, filter_count=8, lstm_size=16)


def pictures(steps: int, batch: int = 2) -> torch.Tensor:
    return torch.randint(0, 256, (steps, batch, 10, 7, 3), dtype=torch.uint8)


def nowhere(steps: int, batch: int = 2) -> torch.Tensor:
    return torch.zeros(steps, batch, dtype=torch.bool)


@pytest.fixture
def network() -> ActorCritic:
    torch.manual_seed(1)
    return ActorCritic(SMALL)


def test_logits_and_values_come_time_major(network: ActorCritic):
    logits, values, (hidden, cell) = network(pictures(5), network.initial_state(2), nowhere(5))
    assert logits.shape == (5, 2, 4)
    assert values.shape == (5, 2)
    assert hidden.shape == cell.shape == (2, 16)


def test_the_default_network_has_the_sizes_of_universe_starter_agent():
    network = ActorCritic(NetworkConfig(observation_shape=(42, 42, 1), action_count=6))
    convolutions = [m for m in network.convolutions if isinstance(m, SameConv)]
    assert [m.out_channels for m in convolutions] == [32] * 4
    # 42 -> 21 -> 11 -> 6 -> 3
    assert network.lstm.input_size == 32 * 3 * 3
    assert network.lstm.hidden_size == 256


@pytest.mark.parametrize(("size", "first_row"), [(6, 0), (7, -1)])
def test_padding_is_that_of_tensorflow(size: int, first_row: int):
    convolution = SameConv(1, 1)
    with torch.no_grad():
        convolution.weight.fill_(1.0)
    ramp = torch.arange(float(size)).view(1, 1, 1, size).expand(1, 1, size, size)
    answer = convolution(ramp)
    assert answer.shape[-1] == -(-size // 2)
    columns = [c for c in range(first_row, first_row + 3) if 0 <= c < size]
    assert answer[0, 0, 1, 0].item() == pytest.approx(3 * sum(columns))


def test_one_run_over_time_equals_steps_one_by_one(network: ActorCritic):
    observations = pictures(6)
    logits, values, end = network(observations, network.initial_state(2), nowhere(6))
    state = network.initial_state(2)
    for t in range(6):
        step_logits, step_values, state = network(observations[t : t + 1], state, nowhere(1))
        assert torch.allclose(step_logits[0], logits[t], atol=1e-5)
        assert torch.allclose(step_values[0], values[t], atol=1e-5)
    assert torch.allclose(state[0], end[0], atol=1e-5)


def test_the_state_is_forgotten_where_an_episode_starts_and_only_in_that_slot(
    network: ActorCritic,
):
    observations = pictures(4)
    starts = nowhere(4)
    starts[2, 0] = True
    logits, _, _ = network(observations, network.initial_state(2), starts)
    fresh, _, _ = network(observations[2:], network.initial_state(2), nowhere(2))
    whole, _, _ = network(observations, network.initial_state(2), nowhere(4))
    assert torch.allclose(logits[2:, 0], fresh[:, 0], atol=1e-5)
    assert torch.allclose(logits[:, 1], whole[:, 1], atol=1e-5)
    assert not torch.allclose(logits[2:, 0], whole[2:, 0], atol=1e-7)


def test_the_first_policy_is_nearly_uniform_and_the_first_values_are_not(network: ActorCritic):
    assert network.policy.weight.norm(dim=1).tolist() == pytest.approx([0.01] * 4)
    assert network.value.weight.norm(dim=1).tolist() == pytest.approx([1.0])
    logits, _, _ = network(pictures(3), network.initial_state(2), nowhere(3))
    assert torch.allclose(logits.softmax(-1), torch.full_like(logits, 0.25), atol=0.02)


def test_the_forget_gate_starts_open(network: ActorCritic):
    bias = network.lstm.bias_ih + network.lstm.bias_hh
    assert bias[16:32].tolist() == [1.0] * 16
    assert bias[:16].abs().sum() + bias[32:].abs().sum() == 0


@pytest.mark.parametrize("shape", [(10, 7), (10, 0, 3), (10, 7, 3, 1)])
def test_an_observation_shape_that_is_no_picture_is_refused(shape: tuple[int, ...]):
    with pytest.raises(ConfigError, match="observation_shape"):
        NetworkConfig(observation_shape=shape, action_count=2)


def test_a_network_without_actions_is_refused():
    with pytest.raises(ConfigError, match="action_count: expected at least 1, got 0"):
        NetworkConfig(observation_shape=(10, 7, 3), action_count=0)


def test_the_cell_is_torchs(network: ActorCritic):
    observations = pictures(3)
    state = expected = (torch.randn(2, 16), torch.randn(2, 16))
    features = network.convolutions(observations.flatten(0, 1).permute(0, 3, 1, 2) / 255.0)
    for picture in features.flatten(1).unflatten(0, (3, 2)):
        expected = network.lstm(picture, expected)
    *_, seen = network(observations, state, nowhere(3))
    for ours, theirs in zip(seen, expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


PONG = NetworkConfig(
    observation_shape=(40, 40, 4), action_count=6, core="feedforward", filter_count=16
)
VECTOR = NetworkConfig(observation_shape=(5,), action_count=3, core="feedforward", hidden_size=8)


def test_the_core_decides_which_network_is_made():
    assert isinstance(make_network(SMALL), ActorCritic)
    assert isinstance(make_network(PONG), FeedForward)


def test_a_feedforward_network_answers_each_picture_by_itself_whatever_leads():
    network = make_network(PONG)
    seen = torch.randint(0, 256, (3, 2, 40, 40, 4), dtype=torch.uint8)
    logits, values, state = network(seen, (), torch.zeros(3, 2, dtype=torch.bool))
    assert logits.shape == (3, 2, 6)
    assert values.shape == (3, 2)
    assert state == () == network.initial_state(2)
    flat_logits, flat_values, _ = network(seen.flatten(0, 1), (), None)
    assert torch.allclose(flat_logits.view(3, 2, 6), logits, atol=1e-5)
    assert torch.allclose(flat_values.view(3, 2), values, atol=1e-5)


def test_a_feedforward_network_of_pong_has_the_size_of_its_recipe():
    network = make_network(PONG)
    assert isinstance(network, FeedForward)
    # 40 -> 20 -> 10 -> 5 -> 3
    assert network.hidden[0].in_features == 16 * 3 * 3
    assert sum(p.numel() for p in network.parameters()) == 46_471


def test_a_feedforward_network_starts_orthogonal_with_a_nearly_uniform_policy():
    network = make_network(VECTOR)
    weight = network.policy.weight
    assert torch.allclose(weight @ weight.T, 1e-4 * torch.eye(3), atol=1e-8)
    logits, _, _ = network(torch.randn(4, 5), (), None)
    assert torch.allclose(logits.softmax(-1), torch.full_like(logits, 1 / 3), atol=0.02)


def test_the_value_of_a_vector_has_layers_of_its_own():
    network = make_network(VECTOR)
    network(torch.randn(4, 5), (), None)[1].sum().backward()
    assert all(p.grad is None for p in network.hidden.parameters())
    assert all(p.grad is not None for p in network.value_hidden.parameters())


def test_the_scale_of_inputs_is_part_of_the_state_and_is_not_learned():
    network, other = make_network(PONG), make_network(PONG)
    network.set_input(mean=100.0, deviation=50.0)
    other.load_state_dict(network.state_dict())
    assert other.input_mean.item() == 100.0
    assert other.input_scale.item() == pytest.approx(1 / 50)
    assert {"input_mean", "input_scale"}.isdisjoint(dict(network.named_parameters()))
    seen = torch.full((1, 40, 40, 4), 100, dtype=torch.uint8)
    with torch.no_grad():
        zeros = torch.relu(network.hidden[0].bias)
        assert torch.allclose(network(seen, (), None)[0][0], network.policy(zeros), atol=1e-6)


def test_an_lstm_takes_no_vectors():
    with pytest.raises(ConfigError, match=r"observation_shape: expected \(height"):
        NetworkConfig(observation_shape=(5,), action_count=2)


def test_a_core_that_is_unknown_is_refused():
    with pytest.raises(ConfigError, match="core: expected lstm or feedforward, got 'gru'"):
        NetworkConfig(observation_shape=(5,), action_count=2, core="gru")  # type: ignore[arg-type]
