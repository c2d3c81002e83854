"""A function that is watched while it is traced: its modules are seen, named and checked.

What is watched is traced anew, jitted functions in it too: a trace that JAX has kept would
call no module.
"""

import contextlib
import sys

from igjax._program.jax_internals import traced_apart
from igjax.frameworks import calls, equinox, haiku, keras, linen, nnx

FRAMEWORKS = {
    "flax.linen": linen.calls,
    "flax.nnx": nnx.calls,
    "equinox": equinox.calls,
    "keras": keras.calls,
    "haiku": haiku.calls,
}


def watched(caller: str, f):
    """Makes the same function, in which a module in training mode is an error.

    Inside `tagging` it names what its modules get and return, too.
    """

    # The name ends the search for what holds a module.
    def igjax_watched(*args):
        if FRAMEWORKS.keys().isdisjoint(sys.modules):
            return f(*args)
        handlers = [calls.refuse_training(caller)]
        if calls.THREAD.tagging and calls.tag not in calls.THREAD.handlers:
            handlers.append(calls.tag)  # and once is enough
        with contextlib.ExitStack() as stack, calls.afresh():
            for handler in handlers:
                stack.enter_context(calls.handled(FRAMEWORKS.values(), handler))
            stack.enter_context(_apart())
            return _run(f, args)

    return igjax_watched


def _run(f, args):
    try:
        return f(*args)
    except calls.Refused as error:
        raise ValueError(*error.args) from None


def _apart():
    """A trace is kept with what was done to it: it may be named, or let pass."""
    named = "names" if calls.THREAD.tagging else "modules"
    return traced_apart(named + " in training mode" * bool(calls.THREAD.allowing))


@contextlib.contextmanager
def allowing():
    """Lets modules be in training mode inside."""
    calls.THREAD.allowing += 1
    try:
        with _apart():
            yield
    finally:
        calls.THREAD.allowing -= 1


@contextlib.contextmanager
def tagging():
    """Names what modules get and return in all that is watched inside."""
    calls.THREAD.tagging += 1
    try:
        yield
    finally:
        calls.THREAD.tagging -= 1
