"""Zoneout, in the mean."""

import numpy as np

import jaxseq
from tests import reference_nets
from tests.forms.entry import Entry
from tests.reference import Form


def zoneout(form, *rates):
    """The mean of zoneout: each part of the carry keeps its rate of the step before; the output is the first part."""

    def step(p, carry, x):
        new, _, cache = form.step(p, carry, x)
        new = tuple(rate * old + (1 - rate) * part for rate, old, part in zip(rates, carry, new, strict=True))
        return new, new[0], cache

    def back(p, cache, d_carry, d_y):
        d_new = (d_carry[0] + d_y, *d_carry[1:])
        d_cell = tuple((1 - rate) * d for rate, d in zip(rates, d_new, strict=True))
        d_p, d_carry, d_x = form.back(p, cache, d_cell, np.zeros_like(d_y))
        return d_p, tuple(d + rate * d_part for d, rate, d_part in zip(d_carry, rates, d_new, strict=True)), d_x

    return Form(step, back)


def zoned(entry):
    """Of the parts h and c; of h where the other parts are scaled by one another."""
    parts = [part[0] for part in entry.net.start(None, 1)]
    rates = {"h": 0.2, "c": 0.3} if len(parts) == 2 else {"h": 0.2}
    form = zoneout(entry.form, *[*rates.values(), 0.0, 0.0, 0.0][: len(parts)])
    return Entry(jaxseq.zoneout(entry.cell, **rates), reference_nets.cell(form, parts), form)


WRAPPERS = {"zoneout": zoned}
