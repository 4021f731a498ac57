"""Display of progress: a bar on a terminal, lines in a log or notebook."""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any

from jaxseq.train._run import Row

SECONDS = 10.0
"""The least time between two lines."""


def line(row: Row, total: int | None = None) -> str:
    """Returns a row of the history as one line of text.

    >>> line({"step": 20, "epoch": 2.0, "seconds": 3.21, "loss": 0.51234, "validation/loss": 0.6, "skipped": 0.0})
    'step 20, epoch 2, 3.2 s: loss 0.5123, validation/loss 0.6'
    """
    shown = {name: value for name, value in row.items() if name not in ("step", "epoch", "seconds", "gradient_norm")}
    told = [f"{name} {value:.4g}" for name, value in shown.items() if name != "skipped" or value]
    step = f"step {row['step']:.0f}" if total is None else f"step {row['step']:.0f} of {total}"
    return f"{step}, epoch {row['epoch']:.4g}, {row['seconds']:.1f} s: {', '.join(told)}"


class Silent:
    """No display; the interface of the other displays."""

    def update(self, row: Row | None) -> None:
        """Records that a step was made, and the row that it completed, if any."""

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Clears the display while callbacks run, since they may print."""
        yield

    def close(self) -> None:
        """Ends the display."""


class Lines(Silent):
    """Lines on standard error, at least `SECONDS` apart, and one for the last row."""

    def __init__(self, position: int, total: int):
        self._position, self._total = position, total
        self._began, self._start = position, time.monotonic()
        self._last, self._row = self._start, None  # the row that was not printed yet

    def update(self, row):
        """Prints the row, or the number of steps if rows are long."""
        self._position += 1
        if row is not None:
            self._row = row
        if time.monotonic() - self._last >= SECONDS:
            self._print()

    def close(self):
        """Prints the last row."""
        if self._row is not None:
            self._print()

    def _print(self):
        self._last = time.monotonic()
        if self._row is None:
            rate = (self._position - self._began) / max(self._last - self._start, 1e-9)
            text = f"step {self._position} of {self._total}, {rate:.3g} steps a second"
        else:
            text, self._row = line(self._row, self._total), None
        print(text, file=sys.stderr, flush=True)


class Bar(Silent):
    """A progress bar by tqdm."""

    def __init__(self, tqdm: Any, position: int, total: int):
        self._tqdm = tqdm
        self._bar = tqdm(total=total, initial=position, unit="step")

    def update(self, row):
        """Advances the bar."""
        self._bar.update()
        if row is not None:
            shown = [name for name in ("loss", "validation/loss") if name in row]
            self._bar.set_postfix({name: f"{row[name]:.4g}" for name in shown})

    @contextlib.contextmanager
    def paused(self):
        """Hides the bar while others print, and draws it again below."""
        with self._tqdm.external_write_mode():
            yield

    def close(self):
        """Leaves the bar on the screen."""
        self._bar.close()


def progress(wanted: bool) -> Any:
    """Returns the kind of display: a function of a run's position and its total of steps.

    Raises:
      ImportError: a bar is needed, and tqdm is not installed.
    """
    if not wanted or sys.stderr is None:
        return lambda position, total: Silent()
    if not sys.stderr.isatty():
        return Lines
    try:
        from tqdm import tqdm
    except ImportError:
        raise ImportError("`progress=True` needs tqdm: pip install 'jaxseq[logging]'") from None
    return lambda position, total: Bar(tqdm, position, total)
