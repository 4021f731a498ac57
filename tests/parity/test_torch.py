"""PyTorch's RNN, LSTM and GRU on the same weights: values and gradients, in float64.

PyTorch keeps `weight_ih_l0 [G, D]`, `weight_hh_l0 [G, H]` and two biases, `_l1` for the next layer, `_reverse` for the
other direction, and `weight_hr_l0 [P, H]` of a projection; its gates are in our order.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jaxseq
from jaxseq import Bidirectional
from tests import zoo

pytestmark = pytest.mark.usefixtures("x64")

T, B, D, H, P = 9, 4, 3, 5, 2
RNN, LSTM, GRU = jaxseq.rnn(H), jaxseq.lstm(H), jaxseq.gru(H)
CASES = {
    "rnn_tanh": (RNN, torch.nn.RNN, {}),
    "rnn_relu": (jaxseq.rnn(H, activation=jax.nn.relu), torch.nn.RNN, {"nonlinearity": "relu"}),
    "lstm": (LSTM, torch.nn.LSTM, {}),
    "gru": (GRU, torch.nn.GRU, {}),
    "lstm_projected": (jaxseq.lstm(H, projection=P), torch.nn.LSTM, {"proj_size": P}),
    "lstm_stacked": (jaxseq.stack(LSTM, LSTM, LSTM), torch.nn.LSTM, {"num_layers": 3}),
    "gru_stacked": (jaxseq.stack(GRU, GRU), torch.nn.GRU, {"num_layers": 2}),
    "rnn_bidirectional": (jaxseq.bidirectional(RNN), torch.nn.RNN, {"bidirectional": True}),
    "gru_bidirectional": (jaxseq.bidirectional(GRU), torch.nn.GRU, {"bidirectional": True}),
    "lstm_stacked_bidirectional": (
        jaxseq.stack(jaxseq.bidirectional(LSTM), jaxseq.bidirectional(LSTM)),
        torch.nn.LSTM,
        {"num_layers": 2, "bidirectional": True},
    ),
    "lstm_projected_stacked_bidirectional": (
        jaxseq.stack(*[jaxseq.bidirectional(jaxseq.lstm(H, projection=P))] * 2),
        torch.nn.LSTM,
        {"num_layers": 2, "bidirectional": True, "proj_size": P},
    ),
}


def parts(tree):
    """Params or carries of single cells by PyTorch's suffix, in its order: layer by layer, forward before backward."""
    layers = tree if type(tree) is tuple else (tree,)
    return {
        f"_l{place}{suffix}": part
        for place, layer in enumerate(layers)
        for suffix, part in (
            zip(("", "_reverse"), layer, strict=True) if isinstance(layer, Bidirectional) else [("", layer)]
        )
    }


def torch_weights(params):
    """A cell's params, or their gradients, as PyTorch names them; its second bias is zero but for the GRU's b_hn."""
    weights = {"weight_ih": params.w_x.T, "weight_hh": params.w_h.T, "bias_ih": params.b}
    weights["bias_hh"] = jnp.zeros_like(params.b)
    if isinstance(params, jaxseq.GruParams):
        weights["bias_hh"] = weights["bias_hh"].at[2 * H :].set(params.b_hn)
    if isinstance(params, jaxseq.LstmParams) and params.w_p is not None:
        weights["weight_hr"] = params.w_p.T
    return {name: np.asarray(value) for name, value in weights.items()}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("lengths", [None, (9, 1, 5, 7)], ids=["whole", "packed"])
def test_values_and_gradients_agree(name, lengths):
    net, module, options = CASES[name]
    params = zoo.random_like(net.init(jax.random.key(0), D), 0)
    carry = zoo.random_like(net.carry(params, (B,)), 1)
    xs, d_ys = (np.random.default_rng(seed).normal(size=(T, B, size)) for seed, size in ((2, D), (3, net.size)))
    mask = None if lengths is None else jaxseq.lengths_to_mask(np.array(lengths), T)

    def loss(params, carry, xs):
        last, ys = jaxseq.unroll(net, params, xs, carry, mask=mask)
        return jnp.vdot(ys, d_ys) + sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(last)), ys

    (_, ys), (d_params, d_carry, d_xs) = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(
        params, carry, jnp.asarray(xs)
    )

    module = module(D, H, dtype=torch.float64, **options)
    weights = {
        key + suffix: torch.tensor(value)
        for suffix, part in parts(params).items()
        for key, value in torch_weights(part).items()
    }
    module.load_state_dict(weights)
    carries = parts(carry).values()
    is_lstm = isinstance(module, torch.nn.LSTM)
    leaves = [[c.h for c in carries], [c.c for c in carries]] if is_lstm else [list(carries)]
    torch_carry = [torch.tensor(np.stack(leaf), requires_grad=True) for leaf in leaves]
    torch_xs = torch.tensor(xs, requires_grad=True)
    inputs = torch_xs
    if lengths is not None:
        inputs = torch.nn.utils.rnn.pack_padded_sequence(torch_xs, torch.tensor(lengths), enforce_sorted=False)
    torch_ys, torch_last = module(inputs, tuple(torch_carry) if is_lstm else torch_carry[0])
    if lengths is not None:
        torch_ys, _ = torch.nn.utils.rnn.pad_packed_sequence(torch_ys, total_length=T)
    last = torch_last if is_lstm else (torch_last,)
    ((torch_ys * torch.tensor(d_ys)).sum() + sum(torch.sin(leaf).sum() for leaf in last)).backward()

    gradients = {key: parameter.grad.numpy() for key, parameter in module.named_parameters()}
    zoo.assert_close(ys, torch_ys.detach().numpy(), 1e-12, "ys")
    zoo.assert_close(d_xs, torch_xs.grad.numpy(), 1e-12, "d_xs")
    d_carries = parts(d_carry).values()
    d_leaves = [[c.h for c in d_carries], [c.c for c in d_carries]] if is_lstm else [list(d_carries)]
    zoo.assert_close([np.stack(leaf) for leaf in d_leaves], [leaf.grad.numpy() for leaf in torch_carry], 1e-12)
    for suffix, part in parts(d_params).items():
        for key, value in torch_weights(part).items():
            want = gradients[key + suffix]
            if key == "bias_hh":
                value, want = value[2 * H :], want[2 * H :]  # only GRU's b_hn is ours, and stands there
                if not isinstance(module, torch.nn.GRU):
                    continue
            zoo.assert_close(value, want, 1e-12, key + suffix)
