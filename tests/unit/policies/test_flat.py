from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from raygym.errors import ConfigError
from raygym.policies.flat import FlatParameters
from raygym.policies.networks import NetworkConfig, make_network

NETWORK = NetworkConfig(
    observation_shape=(8, 8, 2),
    action_count=3,
    core="feedforward",
    filter_count=4,
    conv_count=2,
    hidden_size=8,
)


def seen() -> torch.Tensor:
    return torch.randint(0, 256, (5, 8, 8, 2), dtype=torch.uint8)


def test_a_network_answers_the_same_after_its_weights_were_laid_flat():
    network = make_network(NETWORK)
    before = copy.deepcopy(network)
    FlatParameters(network)
    pictures = seen()
    assert torch.allclose(network(pictures, (), None)[0], before(pictures, (), None)[0], atol=1e-6)


def test_gradients_gather_in_one_vector_that_is_cleared_at_once():
    network = make_network(NETWORK)
    flat = FlatParameters(network, spare=1)
    network(seen(), (), None)[1].sum().backward()
    norm = torch.stack([p.grad.norm() for p in network.parameters()]).norm()
    assert flat.gradient.norm().item() == pytest.approx(norm.item(), rel=1e-5)
    flat.sums.zero_()
    assert all((p.grad == 0).all() for p in network.parameters())


def test_moving_the_vector_moves_the_network():
    network = make_network(NETWORK)
    flat = FlatParameters(network)
    flat.weights.fill_(0.5)
    assert all((p == 0.5).all() for p in network.parameters())


def test_packed_weights_carry_the_scale_of_inputs_to_another_network():
    network, other = make_network(NETWORK), make_network(NETWORK)
    flat, other_flat = FlatParameters(network), FlatParameters(other)
    network.set_input(mean=7.0, deviation=2.0)
    other_flat.unpack(flat.pack())
    pictures = seen()
    assert torch.equal(network(pictures, (), None)[0], other(pictures, (), None)[0])
    assert other.input_mean.item() == 7.0


def test_weights_of_another_network_are_refused():
    flat = FlatParameters(make_network(NETWORK))
    with pytest.raises(ConfigError, match="they belong to another network"):
        flat.unpack(np.zeros(3, np.float32))
