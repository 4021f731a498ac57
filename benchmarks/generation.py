"""How many tokens a second does a model write, beside Flax and PyTorch?

    python -m benchmarks.generation [--nets lstm gru transformer] [--sizes 1,128 1,512 32,512] [--length 256]

Sizes are B, H. One net writes `--length` tokens greedily for each of B rows: an embedding of H features, an LSTM or GRU
of H units or four pre-norm blocks of a Transformer with heads of 64 features and learned positions, and a linear layer
to V = 256 logits, float32, all on the same weights. jaxseq is `decoding.greedy` over `nn.LanguageModel.step`; Flax its
own cells, and its attention with a cache, in one jitted scan; PyTorch its cells, and a cache for
`scaled_dot_product_attention` that is as long as what has been written, from a loop in Python. All write the same
tokens before anything is timed. Tokens a second, of all rows, by the median and the fastest of rounds in which they
take turns, and ours over each one's median.
"""

import argparse
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxseq
from benchmarks import measure
from jaxseq import decoding, nn

V, LAYERS, FEATURES = 256, 4, 64
CHECKED = 32  # first tokens that must agree: later on, rounding decides where two are near
NETS = ("lstm", "gru", "transformer")


def make_model(net: str, H: int, length: int) -> nn.LanguageModel:
    """Returns the net with all its params drawn, biases too, but for what Flax has not: the GRU's second bias."""
    rngs = nnx.Rngs(0)
    if net == "transformer":
        options = {"layers": LAYERS, "heads": max(1, H // FEATURES), "positions": "learned", "max_length": length}
        layer = nn.Transformer(H, H, causal=True, **options, rngs=rngs)
    else:
        layer = {"lstm": jaxseq.lstm, "gru": jaxseq.gru}[net](H)
    graph, params = nnx.split(nn.LanguageModel(layer, V, H, rngs=rngs))
    generator = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: leaf + jnp.asarray(generator.normal(0, 0.05, leaf.shape), leaf.dtype), params)
    model = nnx.merge(graph, params)
    model.embedding.embedding[...] *= 3  # so that what is written depends on what was written
    if net == "gru":
        cast("Any", model.recurrent).params.b_hn[...] = jnp.zeros(H)
    return model


def by_jaxseq(model: nn.LanguageModel, B: int, length: int) -> Callable:
    graph, params = nnx.split(model)

    def write(params):
        model = nnx.merge(graph, params)
        return decoding.greedy(model.step, model.initial_carry((B,)), jnp.zeros(B, jnp.int32), max_length=length).tokens

    return measure.compile_call(write, params).call


def by_flax(model: nn.LanguageModel, B: int, length: int) -> Callable:
    step, state, carry = flax_transformer(model, B, length) if is_transformer(model) else flax_cell(model, B)
    embedding = embeddings(model)

    def write(state, carry):
        def advance(loop, t):
            carry, token = loop
            carry, logits = step(state, carry, embedding[token], t)
            token = jnp.argmax(logits, axis=-1)
            return (carry, token), token

        return jax.lax.scan(advance, (carry, jnp.zeros(B, jnp.int32)), jnp.arange(length))[1]

    return measure.compile_call(write, state, carry).call


def embeddings(model: nn.LanguageModel) -> jax.Array:
    """Returns what the layer is fed for each token."""
    return model.embedding.embedding[...] * getattr(model.recurrent, "embedding_scale", 1.0)


def is_transformer(model):
    return isinstance(model.recurrent, nn.Transformer)


def flax_cell(model, B):
    params, H = model.recurrent._arrays(), model.recurrent.size
    is_lstm = isinstance(params, jaxseq.LstmParams)
    cell = (nnx.OptimizedLSTMCell if is_lstm else nnx.GRUCell)(H, H, rngs=nnx.Rngs(0))
    biased: Any = cell.dense_h if is_lstm else cell.dense_i
    biased.bias[...] = params.b
    cell.dense_i.kernel[...], cell.dense_h.kernel[...] = params.w_x, params.w_h
    graph, state = nnx.split(nnx.List([cell, model.head]))

    def step(state, carry, x, t):
        cell, head = cast("list[Any]", nnx.merge(graph, state, copy=True))
        carry, y = cell(carry, x)
        return carry, head(y)

    return step, state, cell.initialize_carry((B, H), nnx.Rngs(0))


def flax_transformer(model, B, length):
    layer, H = model.recurrent, model.recurrent.size
    N, blocks = layer.blocks[0].attention.heads, []
    for ours in layer.blocks:
        attention = nnx.MultiHeadAttention(N, H, decode=True, rngs=nnx.Rngs(0))
        for name in ("query", "key", "value"):
            theirs, own = getattr(attention, name), getattr(ours.attention, name)
            theirs.kernel[...], theirs.bias[...] = own.kernel[...].reshape(H, N, -1), own.bias[...].reshape(N, -1)
        attention.out.kernel[...] = ours.attention.out.kernel[...].reshape(N, -1, H)
        cast("Any", attention.out).bias[...] = ours.attention.out.bias[...]
        attention.init_cache((B, length, H))
        blocks.append(nnx.List([attention, ours.wide, ours.narrow, *ours.norms]))
    net = nnx.List([nnx.List(blocks), layer.places, layer.last_norm, model.head])
    graph, cache, state = nnx.split(net, nnx.Cache, ...)

    def step(state, cache, x, t):
        blocks, places, last_norm, head = net = nnx.merge(graph, cache, state, copy=True)
        h = (x + places(t))[:, None]
        for attention, wide, narrow, *norms in blocks:
            h = h + attention(norms[0](h))
            h = h + narrow(jax.nn.gelu(wide(norms[1](h))))
        logits = head(last_norm(h[:, 0]))
        return nnx.state(net, nnx.Cache), logits

    return step, state, cache


def contenders() -> dict[str, Callable]:
    """Returns those that are installed."""
    found = {"jaxseq": by_jaxseq, "flax_nnx": by_flax}
    try:
        from benchmarks.generation_torch import by_torch
    except ImportError:
        return found
    return {**found, "torch": lambda model, *sizes: by_torch(model, embeddings(model), *sizes)}


def compare(net: str, B: int, H: int, length: int, rounds: int) -> dict[str, measure.Times]:
    """Returns the seconds of each contender, after their first tokens were found to be the same."""
    model = make_model(net, H, length)
    ways = {name: make(model, B, length) for name, make in contenders().items()}
    first = {name: np.asarray(way())[:CHECKED] for name, way in ways.items()}
    measure.check_agreement(first, tolerance=0.0)
    return measure.take_turns(ways, rounds)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", choices=NETS, nargs="+", default=NETS)
    sizes, size = [(1, 128), (1, 512), (32, 512)], measure.size_parser("B,H")
    parser.add_argument("--sizes", type=size, nargs="+", default=sizes, metavar="B,H")
    parser.add_argument("--length", type=int, default=256, help="tokens to write; default %(default)s")
    parser.add_argument("--rounds", type=int, default=10, help="default %(default)s")
    args = parser.parse_args(argv)
    print(measure.describe_machine())
    print(f"{args.length} tokens a row, V = {V}, float32, {args.rounds} rounds; tokens a second\n")
    print(f"{'net':13}{'B':>4}{'H':>6}  {'':10}{'median':>10}{'fastest':>10}{'ours over it':>14}")
    for net in args.nets:
        for B, H in args.sizes:
            times = compare(net, B, H, args.length, args.rounds)
            for name, time in times.items():
                median, fastest = (B * args.length / seconds for seconds in (time.median, time.minimum))
                ratio = time.median / times["jaxseq"].median
                print(f"{net:13}{B:4}{H:6}  {name:10}{median:10,.0f}{fastest:10,.0f}{ratio:14.2f}", flush=True)


if __name__ == "__main__":
    main()
