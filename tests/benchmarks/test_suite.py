import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import __main__ as runner
from benchmarks import measure, report, results, suite
from benchmarks.suite import Case

TINY = (2, 6, 3, 4)
HEADER = {"machine": "this one", "versions": {}}


def test_smoke_writes_every_case_and_a_picture(tmp_path, capsys):
    asked = ["--contenders", "jaxseq", "jaxseq_scan", "--cells", "rnn", "--dtypes", "float32"]
    runner.main(["--smoke", "--out", str(tmp_path), *asked])
    stored = json.loads((tmp_path / "results.json").read_text())
    assert stored["header"] == results.describe()
    found = {(record["mode"], record["contender"]) for record in stored["records"]}
    everywhere = {(mode, name) for mode in suite.MODES for name in ("jaxseq", "jaxseq_scan")}
    assert found == everywhere - {("streaming", "jaxseq_scan")}
    for record in stored["records"]:
        case = report.case_of(record)
        assert case[:1] + case[2:] == ("rnn", "float32", *TINY)
        assert 0 < record["min_s"] <= record["median_s"]
        assert min(record[name] for name in ("trace_s", "compile_s", "peak_bytes", "matmul_gflops")) > 0
        assert record["gflops"] == pytest.approx(suite.flops(case) / record["median_s"] / 1e9)
        assert record["fraction_of_matmul"] == pytest.approx(record["gflops"] / record["matmul_gflops"])
        assert record["error"] < 1e-4
    assert (tmp_path / "ratios.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert stored["header"]["machine"] in printed
    assert all(f"rnn, {mode}, float32" in printed for mode in suite.MODES)


def test_an_unknown_contender_is_an_error(capsys):
    with pytest.raises(SystemExit):
        runner.main(["--smoke", "--contenders", "jaxseq", "nobody"])
    assert "invalid choice: 'nobody'" in capsys.readouterr().err


def test_a_missing_package_leaves_its_contender_out(monkeypatch, capsys):
    monkeypatch.setitem(suite.CONTENDERS, "absent", "absent_package:contend")
    assert list(runner.load(["jaxseq", "absent"])) == ["jaxseq"]
    printed = capsys.readouterr().out
    assert printed.startswith("absent is left out: No module named 'benchmarks.contenders.absent_package'")
    assert "pip install -e '.[bench]'" in printed


def spoiled(name, spoil):
    """A contender whose results are changed."""

    def contender(case, params, xs):
        call = suite.load(name)(case, params, xs)
        assert call is not None
        return call._replace(result=lambda output: spoil(call.result(output)))

    return contender


def test_a_wrong_result_stops_the_run():
    wrong = spoiled("jaxseq", lambda result: {**result, "w_h": result["w_h"] * 1.001})
    with pytest.raises(AssertionError, match=r"wrong in Case\(cell='rnn'.*: \['w_h'\] differs from jaxseq_scan"):
        runner.run_case(Case("rnn", "training", "float32", *TINY), {"wrong": wrong}, rounds=1, longest=10)


def test_bfloat16_gradients_are_checked_in_float32():
    """They lose digits where they are added up: the loss is held to the tolerance, and float32's gradients."""
    case = Case("rnn", "training", "bfloat16", 2, suite.CHECKED + 1, 3, 4)
    params, xs = suite.problem(case)

    def check(contender):
        return suite.check(case, "it", contender, contender(case, params, xs), params, xs)

    assert 0 < check(suite.load("jaxseq_bptt")) < 0.05
    with pytest.raises(AssertionError, match=r"float32', B=2, T=32, .*\['w_h'\]"):
        check(spoiled("jaxseq_bptt", lambda result: {**result, "w_h": result["w_h"] * 1.001}))
    with pytest.raises(AssertionError, match=r"bfloat16', B=2, T=33, .*\['loss'\]"):
        check(spoiled("jaxseq_bptt", lambda result: {**result, "loss": result["loss"] * 1.1}))


def test_a_slow_contender_is_left_out(capsys):
    contenders = {"jaxseq": suite.load("jaxseq")}
    assert runner.run_case(Case("rnn", "inference", "float32", *TINY), contenders, rounds=1, longest=0) == []
    assert "jaxseq is left out of Case(cell='rnn'" in capsys.readouterr().out


@pytest.mark.parametrize(("cell", "gates"), [("rnn", 1), ("gru", 3), ("lstm", 4)])
def test_flops_are_those_of_the_products_that_autodiff_makes(cell, gates):
    """A loop in Python with products of the cell's sizes, and a sum in place of gates; h_0 wants a gradient too."""
    B, T, D, H = 2, 3, 5, 7

    def forward(weights, xs, h):
        w_x, w_h = weights
        for x in xs:
            h = jnp.tanh((x @ w_x + h @ w_h).reshape(B, gates, H).sum(1))
        return h.sum()

    def products(function, *args):
        dots = [eqn for eqn in jax.make_jaxpr(function)(*args).eqns if eqn.primitive.name == "dot_general"]
        operations = 0
        for dot in dots:
            ((axis,), _), _ = dot.params["dimension_numbers"]
            operations += 2 * math.prod(dot.outvars[0].aval.shape) * dot.invars[0].aval.shape[axis]
        return operations

    weights, xs, h = (jnp.ones((D, gates * H)), jnp.ones((H, gates * H))), jnp.ones((T, B, D)), jnp.ones((B, H))
    sizes = ("float32", B, T, D, H)
    assert suite.flops(Case(cell, "inference", *sizes)) == products(forward, weights, xs, h)
    assert suite.flops(Case(cell, "streaming", *sizes)) == products(forward, weights, xs[:1], h)
    assert suite.flops(Case(cell, "training", *sizes)) == products(jax.grad(forward, (0, 2)), weights, xs, h)


def record(contender, median, ratio, **case):
    return {
        **Case("lstm", "training", "float32", *TINY)._asdict(),
        **case,
        "contender": contender,
        "median_s": median,
        "ratio": ratio,
        "min_s": median,
        "gflops": 2.0,
        "error": 1e-7,
        "trace_s": None,
        "compile_s": 0.5,
        "peak_bytes": 2**20,
        "matmul_gflops": 8.0,
        "fraction_of_matmul": 0.25,
    }


def test_a_later_run_replaces_what_it_measured_again_and_keeps_the_rest(tmp_path):
    first = [record("jaxseq", 1.0, 1.0), record("keras", 2.0, 2.0)]
    results.save(tmp_path, HEADER, results.merge(results.load(tmp_path, HEADER), first))
    again = [record("keras", 3.0, 3.0), record("keras", 4.0, 4.0, H=8), record("keras", 5.0, 5.0, dtype="bfloat16")]
    results.save(tmp_path, HEADER, results.merge(results.load(tmp_path, HEADER), again))
    assert results.load(tmp_path, HEADER) == [first[0], *again]
    with pytest.raises(SystemExit, match="another machine"):
        results.load(tmp_path, {**HEADER, "machine": "another"})


def test_the_summary_takes_the_best_peer_of_each_size():
    records = [
        *(record("jaxseq", 1.0, 1.0, H=H) for H in (4, 8)),
        *(record("jaxseq_masked", 0.5, 0.5, H=H) for H in (4, 8)),
        *(record("flax_nnx", ratio, ratio, H=H) for H, ratio in ((4, 2.0), (8, 9.0))),
        *(record("keras", ratio, ratio, H=H) for H, ratio in ((4, 3.0), (8, 8.0))),
        record("torch", 1.0, 1.0, H=8),
        record("haiku", 1.0, None, H=4),
    ]
    lines = [line.split() for line in report.summary(records).splitlines()]
    assert ["best", "JAX", "peer", "4.00", "2.00", "8.00", "2"] in lines
    assert ["best", "peer", "1.41", "1.00", "2.00", "2"] in lines
    assert ["jaxseq_masked", "0.50", "0.50", "0.50", "2"] in lines
    assert not any(line[:1] == ["haiku"] for line in lines)


def test_the_table_is_in_milliseconds_and_the_fastest_comes_first():
    lines = report.table([record("keras", 0.25, 2.0), record("jaxseq", 0.125, 1.0)]).splitlines()
    assert lines[0] == "lstm, training, float32, (B, T, D, H) = (2, 6, 3, 4); matmul 8 GFLOP/s"
    assert lines[2].split() == ["jaxseq", "1e-07", "–", "500", "125.000", "125.000", "1.0", "2.00", "0.250", "1.00"]
    assert lines[3].split()[0] == "keras"


def test_sizes_are_four_numbers():
    assert suite.parse_size("2,6,3,4") == TINY
    for text in ("2,6,3", "2,6,3,x"):
        with pytest.raises(Exception, match="a size is B,T,D,H"):
            suite.parse_size(text)


def test_agreement_is_of_shapes_and_numbers():
    want = {"a": np.array([4.0, 1.0]), "b": np.zeros(2)}
    near = {**want, "a": np.array([4.0, 1.1])}
    assert measure.check_agreement({"one": want, "two": near}, 0.05) == pytest.approx(0.025)
    nan, beside_zero, other_shape = {"a": np.array([4.0, math.nan])}, {"b": np.array([0.0, 1e-9])}, {"a": np.ones(1)}
    for got in ({**want, **wrong} for wrong in (nan, beside_zero, other_shape)):
        with pytest.raises(AssertionError, match=r"two\['[ab]'\]"):
            measure.check_agreement({"one": want, "two": got}, 0.05)


def test_everybody_gets_one_turn_a_round():
    made = {"a": 0, "b": 0}
    rounds = []

    def call(name):
        made[name] += 1
        rounds.append(name)

    times = measure.take_turns({name: lambda name=name: call(name) for name in made}, rounds=3)
    assert made == {"a": 4, "b": 4}
    assert all(set(rounds[start : start + 2]) == {"a", "b"} for start in range(0, 8, 2))
    assert all(0 <= time.minimum <= time.median for time in times.values())


@pytest.mark.parametrize("name", ["jaxseq_remat", "jaxseq_masked", "jaxseq_vmapped"])
def test_jaxseq_agrees(name):
    contender = suite.load(name)
    case = Case("rnn", "training", "float32", 2, 5, 4, 5)
    params, xs = suite.problem(case)
    call = contender(case, params, xs)
    assert call is not None
    assert suite.check(case, name, contender, call, params, xs) < 1e-4
