"""Some of the spoiled calls of `make fuzz`; and the fuzzer: it knows every public function, and sees every fault."""

import random
import time

import jax.numpy as jnp
import pytest

from tests.fuzz import fuzzer
from tests.fuzz.spoils import REFUSED, SPOILS

pytestmark = pytest.mark.xdist_group("fuzz")  # which makes the calls once

SOME = 120


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    from tests.fuzz.calls import all_calls  # which takes seconds, and other workers need not

    return all_calls(tmp_path_factory.mktemp("fuzz"))


def test_pytest_xdist_keeps_groups_of_tests_together(request):
    """It tells the groups by the names of the tests, which pytest 9.2 does not let it change."""
    if getattr(request.config.option, "loadgroup", False):
        assert request.node.nodeid.endswith("@fuzz")


@pytest.mark.learn
def test_every_public_function_has_a_valid_call(calls):
    public = fuzzer.public_functions() | fuzzer.public_methods()
    called = {name.split(" ")[0] for name in calls}
    assert public - called == set(fuzzer.NOT_CALLED) & public
    assert {name.split(" ")[0] for name, arguments in calls.items() if "of" not in arguments} <= public


@pytest.mark.learn
def test_every_argument_of_nn_and_train_is_spoiled(calls):
    spoiled = {}
    for name, arguments in calls.items():
        spoiled.setdefault(name.split(" ")[0], set()).update(arguments)
    for name, arguments in spoiled.items():
        if name.startswith(("nn.", "train.")):
            function = fuzzer.function_of(name, calls[name])
            assert set(fuzzer.parameters_of(function)) <= arguments, name


@pytest.mark.learn
def test_a_spoiled_argument_is_refused_by_its_name(calls):
    """Some of the calls that are wrong of kind: most end at the public edge, before anything is compiled.

    Of all public functions; `make fuzz` makes all the calls.
    """
    chosen = random.Random(0).sample(fuzzer.cases(calls, REFUSED), SOME)
    faults = [fault for case in chosen if (fault := fuzzer.run(case, calls[case.function], 30))]
    assert not faults, "\n".join(map(str, faults))


def refuses(xs):
    raise ValueError("`xs` must be [T, B]")


def says_nothing(xs):
    raise TypeError("unsupported operand")


def says_too_much(xs):
    raise ValueError("`xs` must be " + "long " * 100)


def breaks(xs):
    raise AttributeError("'xs' has no attribute")


@pytest.mark.parametrize(
    ("function", "spoil", "kind"),
    [
        (refuses, "NaN", None),
        (says_nothing, "NaN", "names nothing"),
        (says_too_much, "NaN", "513 characters"),
        (breaks, "NaN", "a raw error"),
        (lambda xs: 0, "complex", "accepted"),
        (lambda xs: 0, "None", "accepted"),
        (lambda xs=None: 0, "None", None),
        (lambda xs: jnp.log(-xs), "NaN", None),
        (lambda xs: jnp.log(-xs), "an entry less", "not finite"),
        (lambda xs: time.sleep(5), "an entry less", "hangs"),
        (lambda xs: (x for x in [0]), "an entry less", None),
    ],
)
def test_each_kind_of_fault_is_seen(function, spoil, kind):
    xs = jnp.ones(3)
    fault = fuzzer.judge(fuzzer.Case("f", "xs", spoil), function, {"xs": SPOILS[spoil](xs)}, 0.2)
    assert (fault and fault.kind) == kind
