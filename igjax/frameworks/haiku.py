"""Haiku: its modules know their names, and their calls can be intercepted."""

import contextlib
import sys
import threading

from igjax.frameworks.calls import THREAD, Call, announce, argument, dispatch

_REMEDY = "Call the model with is_training=False, or what it names it."


@contextlib.contextmanager
def calls():
    """Dispatches the calls of modules inside."""
    haiku = sys.modules.get("haiku")
    if haiku is None:
        yield
        return
    with _DROPOUT, haiku.intercept_methods(_intercept):
        yield


def _intercept(call, inputs, keywords, context):
    if context.method_name != "__call__" or not THREAD.handlers:
        return call(*inputs, **keywords)
    module, haiku = context.module, sys.modules["haiku"]
    training = _training(module, inputs, keywords)
    table = isinstance(module, haiku.Embed)
    made = Call(module, module.module_name, training, _REMEDY, table)

    def run(inputs, keywords):
        with haiku.custom_setter(_setter):
            return call(*inputs, **keywords)

    return dispatch(made, run, inputs, keywords)


def _training(module, inputs, keywords) -> str:
    kind = type(module)
    if kind.__module__.partition(".")[0] != "haiku":
        return ""  # its parts speak for themselves
    for flag in ("is_training", "update_stats"):
        if argument(kind.__call__, flag, inputs, keywords) is True:
            return f"{flag}=True"
    return ""


def _setter(following, value, context):
    """Takes a state that changes for one of training."""
    announce(THREAD.stack[-1]._replace(training="its state changes"))
    return following(value)


def _dropped(original):
    def dropout(rng, rate, x, *more, **keywords):
        if THREAD.handlers and not (isinstance(rate, int | float) and rate == 0):
            path = THREAD.stack[-1].path if THREAD.stack else ""
            announce(Call(dropout, path, f"rate={rate}", _REMEDY))
        return original(rng, rate, x, *more, **keywords)

    return dropout


class _Dropout:
    """`haiku.dropout`, a function that no interceptor sees, for as long as any traces."""

    def __init__(self):
        self.lock, self.users = threading.Lock(), 0

    def __enter__(self):
        with self.lock:
            self.users += 1
            if self.users == 1:
                room = vars(sys.modules["haiku"])
                self.original = room["dropout"]
                room["dropout"] = _dropped(self.original)

    def __exit__(self, *error):
        with self.lock:
            self.users -= 1
            if not self.users:
                vars(sys.modules["haiku"])["dropout"] = self.original


_DROPOUT = _Dropout()
