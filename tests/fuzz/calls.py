"""All the valid calls."""

from tests.fuzz import core_calls, export_calls, interop_calls, nn_calls, other_calls, train_calls


def all_calls(folder):
    """The arguments of each call, by the function's name and theirs; files are written to `folder`.

    Two are no arguments: `of` makes the object whose method the call is of, and `then` calls the function that came of
    the call.
    """
    others = other_calls.calls() | nn_calls.calls() | train_calls.calls(folder) | interop_calls.calls(folder)
    others |= export_calls.calls(folder)
    return core_calls.calls(folder) | others
