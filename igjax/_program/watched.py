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
        if calls.THREAD.tagging:
            handlers.append(calls.tag)
        with contextlib.ExitStack() as stack:
            for handler in handlers:
                stack.enter_context(calls.handled(FRAMEWORKS.values(), handler))
            key = "names" if calls.THREAD.tagging else "modules"
            stack.enter_context(traced_apart(key))
            return _run(f, args)

    return igjax_watched


def _run(f, args):
    try:
        return f(*args)
    except calls.Refused as error:
        raise ValueError(*error.args) from None


@contextlib.contextmanager
def tagging():
    """Names what modules get and return in all that is watched inside."""
    calls.THREAD.tagging += 1
    try:
        yield
    finally:
        calls.THREAD.tagging -= 1
