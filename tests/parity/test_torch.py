"""PyTorch's RNN, LSTM and GRU on the same weights: values and gradients, in float64.

PyTorch keeps `weight_ih_l0 [G, D]`, `weight_hh_l0 [G, H]` and two biases; its gates are in our order.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jaxseq
from tests import zoo

pytestmark = pytest.mark.usefixtures("x64")

T, B, D, H = 9, 4, 3, 5
CASES = {
    "rnn_tanh": (jaxseq.rnn(H), lambda: torch.nn.RNN(D, H, dtype=torch.float64)),
    "rnn_relu": (
        jaxseq.rnn(H, activation=jax.nn.relu),
        lambda: torch.nn.RNN(D, H, nonlinearity="relu", dtype=torch.float64),
    ),
    "lstm": (jaxseq.lstm(H), lambda: torch.nn.LSTM(D, H, dtype=torch.float64)),
    "gru": (jaxseq.gru(H), lambda: torch.nn.GRU(D, H, dtype=torch.float64)),
}


def to_torch(array):
    return torch.tensor(np.asarray(array), requires_grad=True)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("lengths", [None, (9, 1, 5, 7)], ids=["whole", "packed"])
def test_values_and_gradients_agree(name, lengths):
    cell, make = CASES[name]
    params = zoo.random_like(cell.init(jax.random.key(0), D), 0)
    carry = zoo.random_like(cell.carry(params, (B,)), 1)
    xs, d_ys = (np.random.default_rng(seed).normal(size=(T, B, size)) for seed, size in ((2, D), (3, H)))
    mask = None if lengths is None else jaxseq.lengths_to_mask(np.array(lengths), T)

    def loss(params, carry, xs):
        last, ys = jaxseq.unroll(cell, params, xs, carry, mask=mask)
        return jnp.vdot(ys, d_ys) + sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(last)), ys

    (_, ys), (d_params, d_carry, d_xs) = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(
        params, carry, jnp.asarray(xs)
    )

    module = make()
    b_hh = np.zeros(params.b.shape)
    if name == "gru":
        b_hh[2 * H :] = params.b_hn
    weights = {"weight_ih_l0": params.w_x.T, "weight_hh_l0": params.w_h.T, "bias_ih_l0": params.b, "bias_hh_l0": b_hh}
    module.load_state_dict({key: torch.tensor(np.asarray(value)) for key, value in weights.items()})
    torch_xs, torch_carry = to_torch(xs), jax.tree.map(to_torch, carry)
    hx = tuple(leaf[None] for leaf in torch_carry) if name == "lstm" else torch_carry[None]
    inputs = torch_xs
    if lengths is not None:
        inputs = torch.nn.utils.rnn.pack_padded_sequence(torch_xs, torch.tensor(lengths), enforce_sorted=False)
    torch_ys, torch_last = module(inputs, hx)
    if lengths is not None:
        torch_ys, _ = torch.nn.utils.rnn.pad_packed_sequence(torch_ys, total_length=T)
    last = torch_last if isinstance(torch_last, tuple) else (torch_last,)
    ((torch_ys * torch.tensor(d_ys)).sum() + sum(torch.sin(leaf).sum() for leaf in last)).backward()

    gradients = {key: parameter.grad.numpy() for key, parameter in module.named_parameters()}
    zoo.assert_close(ys, torch_ys.detach().numpy(), 1e-12, "ys")
    zoo.assert_close(d_xs, torch_xs.grad.numpy(), 1e-12, "d_xs")
    zoo.assert_close(
        jax.tree.leaves(d_carry), [leaf.grad.numpy() for leaf in jax.tree.leaves(torch_carry)], 1e-12, "d_carry"
    )
    zoo.assert_close(d_params.w_x, gradients["weight_ih_l0"].T, 1e-12, "w_x")
    zoo.assert_close(d_params.w_h, gradients["weight_hh_l0"].T, 1e-12, "w_h")
    zoo.assert_close(d_params.b, gradients["bias_ih_l0"], 1e-12, "b")
    if name == "gru":
        zoo.assert_close(d_params.b_hn, gradients["bias_hh_l0"][2 * H :], 1e-12, "b_hn")
