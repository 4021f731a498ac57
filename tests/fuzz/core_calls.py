"""A valid call of each public function of the core, of `data` and of `diagnostics`: its arguments by name."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.io.wavfile

import jaxseq
from jaxseq import data, kernels, recurrences

T, B, D, H = 4, 2, 3, 2
KEY = jax.random.key(0)
CELL = jaxseq.gru(H)
PARAMS = CELL.init(KEY, D)
CARRY = CELL.carry(PARAMS, (B,))
XS = jnp.linspace(-1, 1, T * B * D).reshape(T, B, D)
MASK = jnp.array([[True, True], [True, True], [True, False], [False, False]])
RESET = jnp.zeros((T, B), bool).at[1, 0].set(True)
SHARDING = jax.sharding.NamedSharding(jax.make_mesh((1,), ("axis",)), jax.sharding.PartitionSpec("axis"))
INIT = jaxseq.initializers.glorot_uniform()
RUN = {"cell": CELL, "params": PARAMS, "xs": XS, "carry": CARRY}
MIN_GRU = jaxseq.min_gru(H)
LINEAR = RUN | {"cell": MIN_GRU, "params": MIN_GRU.init(KEY, D)}
FLAGS = {"mask": MASK, "reset": RESET, "reverse": False}
NEWTON = {"jacobian": "full", "tolerance": 1e-6, "rounds": 4, "damping": 0.1}
INITS = {"input_init": INIT, "recurrent_init": INIT, "bias_init": jax.nn.initializers.zeros}
SIGNAL = jnp.sin(jnp.arange(400.0)).reshape(2, 200)
SERIES = np.arange(20.0).reshape(10, 2)
ROWS = [[1, 2, 3], [4], [5, 6]]
PACKED = data.pack(ROWS, 4)
VOCABULARY = data.Vocabulary.build([["a", "b", "c"]], specials=("<end>",))
NORMALIZER = data.Normalizer.fit(SERIES)
LOADER = data.batches({"xs": np.arange(6)}, 2)


def calls(folder):
    """The arguments by name; see `calls.all_calls`."""
    wav = folder / "sound.wav"
    scipy.io.wavfile.write(wav, 8000, np.zeros(80, np.int16))
    VOCABULARY.save(folder / "vocabulary.json")
    return _core() | _diagnostics() | _sound(wav) | _data(folder)


def _doubled(size):
    return 2 * size


def _core():
    return {
        "rnn": {"size": 2, "activation": jnp.tanh, **INITS},
        "gru": {
            "size": 2,
            "reset_after": True,
            "update_writes": False,
            "candidate": jnp.tanh,
            "forget_bias": 1.0,
            **INITS,
        },
        "lstm": {"size": 2, "peephole": None, "candidate": jnp.tanh, "projection": 2, "coupled": False, "clip": 3.0}
        | {"forget_bias": 1.0, **INITS},
        "slstm": {"size": 2, "heads": 1, "forget": "sigmoid", "forget_bias": 1.0, **INITS},
        "layer_norm_lstm": {"size": 2, "forget_bias": 1.0, "input_init": INIT, "recurrent_init": INIT},
        "layer_norm_gru": {"size": 2, "forget_bias": 1.0, "input_init": INIT, "recurrent_init": INIT},
        "conv_lstm": {"shape": (3, 3), "channels": 2, "window": 3, "peephole": False, "forget_bias": 1.0, **INITS},
        "lru": {"size": 2, "state": 2, "r_min": 0.5, "r_max": 0.9, "max_phase": 1.0},
        "s5": {"size": 2, "state": 2},
        "min_gru": {"size": 2, "candidate": jnp.tanh},
        "min_lstm": {"size": 2},
        "rg_lru": {"size": 2, "heads": 1},
        "mamba": {"size": 2, "state": 2},
        "mamba2": {"size": 2, "heads": 1, "state": 2},
        "gla": {"size": 2, "heads": 1, "key_size": 2},
        "gated_delta_net": {"size": 2, "heads": 1, "key_size": 2, "gated": True, "negative": False},
        "mlstm": {"size": 2, "heads": 1, "key_size": 2},
        "causal_conv": {"size": 2, "width": 3},
        "stack": {"cells": (CELL, CELL)},
        "pipeline": {"layer": CELL, "layers": 2, "sharding": SHARDING, "chunk": 2},
        "backwards": {"cell": CELL},
        "residual": {"cell": CELL},
        "bidirectional": {"forward": CELL, "backward": CELL, "merge": "concat"},
        "dropout": {"cell": CELL, "inputs": 0.1, "outputs": 0.1, "recurrent": 0.1, "per_step": False},
        "zoneout": {"cell": CELL, "h": 0.1, "c": 0.0},
        "learned_carry": {"cell": CELL},
        "recurrences.linear_cell": {
            "size": 2,
            "init": CELL.init,
            "carry": CELL.carry,
            "project": CELL.project,
            "element": lambda params, us: recurrences.Diagonal(us, us),
            "read": lambda params, observed, us: observed,
        },
        "around": {"cell": CELL, "enter": lambda given, u, carry: carry, "given": None, "hears": None},
        "check_bptt": RUN | FLAGS | {"tolerance": 1e-9, "difference_tolerance": 1e-5},
        "unroll": RUN | FLAGS | {"kernel": kernels.scan, "key": KEY},
        "step": {"cell": CELL, "params": PARAMS, "carry": CARRY, "x": XS[0], "reset": RESET[0]},
        "stream": {"cell": CELL, "params": PARAMS, "chunks": [XS], "carry": CARRY},
        "cast": {"tree": PARAMS, "dtype": jnp.bfloat16},
        "factory": {"function": _doubled},
        "lengths_to_mask": {"lengths": np.array([3, 1]), "T": T},
        "last_valid": {"ys": XS, "mask": MASK},
        "initializers.orthogonal": {"scale": 1.0},
        "initializers.scaled_normal": {"deviation": 0.1},
        "initializers.chrono": {"max_length": 10},
        "initializers.per_gate": {"initializer": INIT, "gates": 3},
        "initializers.fan_in_uniform": {},
        "initializers.glorot_normal": {},
        "initializers.glorot_uniform": {},
        "initializers.he_normal": {},
        "initializers.he_uniform": {},
        "kernels.explain": {"cell": CELL, "params": PARAMS, "xs": XS, "kernel": kernels.scan},
        "kernels.peak_bytes": {"cell": CELL, "params": PARAMS, "xs": XS, "kernel": kernels.scan},
        "kernels.chunkwise": {"steps": 2},
        "kernels.newton": NEWTON,
        "kernels.remat": {"segment": 2},
        "kernels.sequence_parallel": {"sharding": SHARDING, "kernel": kernels.scan},
        "kernels.truncated": {"segment": 2},
    }


def _diagnostics():
    jacobians = jnp.tile(jnp.eye(2) / 2, (T, 1, 1))
    score = lambda xs: jnp.sum(xs, axis=(0, 2)) if xs.ndim == 3 else jnp.sum(xs, axis=0)
    names, shares = ["a", "b"], jaxseq.diagnostics.Saturation(jnp.ones(H) / 2, jnp.ones(H) / 4)
    return {
        "diagnostics.carry_gradients": RUN | FLAGS | {"loss": jnp.sum, "key": KEY},
        "diagnostics.gradient_norms": RUN | FLAGS | {"loss": jnp.sum, "key": KEY},
        "diagnostics.gate_traces": RUN | FLAGS | {"key": KEY},
        "diagnostics.jacobians": RUN | {"xs": XS[:, 0], "carry": CELL.carry(PARAMS)},
        "diagnostics.jacobian_singular_values": {"jacobians": jacobians},
        "diagnostics.lyapunov_exponents": {"jacobians": jacobians},
        "diagnostics.gradient_times_input": {"score": jnp.sum, "xs": XS},
        "diagnostics.integrated_gradients": {"score": jnp.sum, "xs": XS, "baseline": 0 * XS, "steps": 2},
        "diagnostics.leave_one_out": {"score_of_mask": score, "mask": MASK},
        "diagnostics.eigenvalues": LINEAR | FLAGS | {"key": KEY},
        "diagnostics.memory_lengths": {"eigenvalues": jnp.full((T, B, H), 0.9), "mask": MASK},
        "diagnostics.plot_eigenvalues": {"eigenvalues": jnp.full((T, B, H), 0.9 + 0.1j)},
        "diagnostics.newton_report": RUN | FLAGS | {"key": KEY} | NEWTON,
        "diagnostics.saturation": {"gate": XS, "low": 0.1, "high": 0.9, "mask": MASK},
        "diagnostics.plot_alignment": {"weights": jnp.eye(2), "source": names, "target": names},
        "diagnostics.plot_gates": {"gates": {"f": XS[:, 0]}},
        "diagnostics.plot_gradient_norms": {"norms": {"h": jnp.ones((T, B))}},
        "diagnostics.plot_saliency": {"attributions": jnp.ones(2), "tokens": names},
        "diagnostics.plot_saturation": {"saturations": {"f": shares}},
        "diagnostics.plot_singular_values": {"singular_values": jnp.ones((T, 2))},
    }


def _sound(wav):
    bands = {"low": 0.0, "high": 4000.0}
    return {
        "data.frame_count": {"n": 10, "size": 4, "hop": 2},
        "data.frames": {"signal": SIGNAL, "size": 4, "hop": 2},
        "data.frame_mask": {"mask": SIGNAL > -2, "size": 4, "hop": 2},
        "data.preemphasis": {"signal": SIGNAL, "coefficient": 0.9},
        "data.power_spectrogram": {"signal": SIGNAL, "size": 4, "hop": 2, "fft_size": 8, "window": "hann"},
        "data.mel_filters": {"bands": 2, "fft_size": 64, "rate": 8000.0, **bands},
        "data.log_mel": {"signal": SIGNAL, "rate": 8000.0, "bands": 2, "size_seconds": 0.008, "hop_seconds": 0.004}
        | {"fft_size": 64, "window": "hann", "floor": 1e-10, **bands},
        "data.mfcc": {"log_mels": XS, "coefficients": 2},
        "data.deltas": {"features": XS, "width": 2, "mask": MASK},
        "data.read_wav": {"path": wav},
    }


def _data(folder):
    lists, ids = ROWS, np.arange(6).reshape(2, 3)
    major = jnp.swapaxes(XS, 0, 1)
    return {
        "data.batches": {"arrays": {"xs": np.arange(6)}, "batch_size": 2, "seed": 0, "last": "pad"},
        "data.bucketed": {"sequences": lists, "arrays": {"y": [0, 1, 2]}, "batch_size": 2, "multiple": 2, "seed": 0},
        "data.streams": {"ids": [0, 1, 2, 3], "batch_size": 1, "length": 2},
        "data.prefetch": {"batches": [{"xs": np.arange(3)}], "size": 2, "sharding": None, "parts": 1},
        "data.Loader": {"count": 1, "plan": lambda number: lambda i: {}},
        "data.Loader.epoch": {"of": lambda: LOADER, "number": 1, "start": 0},
        "data.Loader.part": {"of": lambda: LOADER, "index": 0, "count": 1},
        "data.Loader.map": {"of": lambda: LOADER, "function": lambda batch: batch},
        "data.pad": {"sequences": lists, "length": 4, "multiple": 2, "side": "right", "truncate": "left", "value": 0},
        "data.unpad": {"xs": ids, "mask": np.ones((2, 3), bool)},
        "data.pack": {"sequences": lists, "length": 4, "value": 0},
        "data.place": {"sequences": lists, "packed": PACKED, "value": 0},
        "data.unpack": {"ys": PACKED.xs, "packed": PACKED},
        "data.split": {"n": 6, "fractions": (0.5, 0.5), "seed": 0, "stratify": [0, 1] * 3},
        "data.split_in_time": {"n": 6, "fractions": (0.5, 0.5)},
        "data.unique": {"items": ["a", "b", "a"]},
        "data.cyclic": {"values": [1.0, 2.0], "period": 24.0},
        "data.fill_missing": {"xs": SERIES, "how": "forward", "means": [0.0, 0.0]},
        "data.windows": {"xs": SERIES, "length": 3, "horizon": 1, "stride": 1, "targets": [0], "part": slice(2, 9)},
        "data.Normalizer.fit": {"of": lambda: data.Normalizer, "xs": SERIES},
        "data.Normalizer.apply": {"of": lambda: NORMALIZER, "xs": SERIES, "columns": [0, 1]},
        "data.Normalizer.invert": {"of": lambda: NORMALIZER, "xs": SERIES, "columns": [0, 1]},
        "data.time_mask": {"key": KEY, "xs": major, "spans": 1, "width": 2, "mask": MASK.T, "value": 0.0},
        "data.feature_mask": {"key": KEY, "xs": major, "spans": 1, "width": 2, "value": 0.0},
        "data.jitter": {"key": KEY, "xs": major, "scale": 0.1, "mask": MASK.T},
        "data.token_dropout": {"key": KEY, "ids": ids, "rate": 0.1, "unknown": 1, "mask": np.ones((2, 3), bool)},
        "data.words": {"text": "a b"},
        "data.Vocabulary": {"tokens": ("<pad>", "<unk>", "a"), "unknown": "<unk>", "specials": 2},
        "data.Vocabulary.build": {
            "of": lambda: data.Vocabulary,
            "sequences": [["a"]],
            "size": 9,
            "min_count": 1,
            "padding": "_",
            "unknown": "?",
        }
        | {"specials": ("<end>",)},
        "data.Vocabulary.encode": {"of": lambda: VOCABULARY, "tokens": ["a", "b"], "specials": "read"},
        "data.Vocabulary.decode": {"of": lambda: VOCABULARY, "ids": [1, 2]},
        "data.Vocabulary.from_dict": {"of": lambda: data.Vocabulary, "stored": VOCABULARY.to_dict()},
        "data.Vocabulary.to_dict": {"of": lambda: VOCABULARY},
        "data.Vocabulary.save": {"of": lambda: VOCABULARY, "path": folder / "saved.json"},
        "data.Vocabulary.load": {"of": lambda: data.Vocabulary, "path": folder / "vocabulary.json"},
    }
