"""Calls of modules, met while a function is traced, in whatever way a model came in.

A model reaches f as a module, in a closure, as parts that are merged inside f, bound to a
method, in a dict: what is the same in all of these is that its modules are called. Each
framework that the user has imported hands every such call to the handlers of this thread.
"""

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.ad_checkpoint import checkpoint_name

MODULE = "module: "  # set before the paths of modules: a user's tags come first
TABLE = "table: "  # set before those of modules that look up tokens
INPUT = ":input"  # set after the path, it names what the module is called with


class Call(NamedTuple):
    """A module that is called, and how."""

    module: Any
    path: str  # "encoder/blocks/0"; empty for the root
    training: str = ""  # what puts it into training mode: "deterministic=False"
    remedy: str = ""  # how to leave it
    table: bool = False  # whether it looks up rows of a table by token


class _Thread(threading.local):
    def __init__(self):
        self.handlers: list[Callable] = []
        self.tagging = 0
        self.allowing = 0
        self.stack: list[Call] = []  # the calls that are open
        self.names: dict[str, Any] = {}  # of frameworks, the paths that are known


THREAD = _Thread()


def dispatch(call: Call, run: Callable, inputs, keywords):
    """Hands a call to the handlers, the latest first; returns the module's output."""
    for handler in THREAD.handlers:
        run = functools.partial(handler, call, run)
    THREAD.stack.append(call)
    try:
        return run(inputs, keywords)
    finally:
        THREAD.stack.pop()


@contextlib.contextmanager
def handled(frameworks, handler):
    """Hands every call of a module inside to `handler(call, run, inputs, keywords)`.

    Args:
        frameworks: for each a context manager in which its calls are dispatched.
        handler: returns the output of the module, for which there is
            `run(inputs, keywords)`.
    """
    first = not THREAD.handlers
    with contextlib.ExitStack() as stack:
        if first:
            for dispatched in frameworks:
                stack.enter_context(dispatched())
        THREAD.handlers.append(handler)
        stack.callback(THREAD.handlers.pop)
        yield


@contextlib.contextmanager
def afresh():
    """Forgets open calls and known paths inside: they are those of another trace."""
    before = THREAD.stack, THREAD.names
    THREAD.stack, THREAD.names = [], {}
    try:
        yield
    finally:
        THREAD.stack, THREAD.names = before


def argument(function, name: str, inputs, keywords):
    """The argument of that name in a call; None where it is not given."""
    if name in keywords:
        return keywords[name]
    try:
        given = inspect.signature(function).bind_partial(None, *inputs)
    except (TypeError, ValueError):
        return None
    return given.arguments.get(name)


def tag(call: Call, run, inputs, keywords):
    """Names what a module gets and what it returns by its path."""
    if call.path:
        inputs, keywords = _named((inputs, keywords), MODULE + call.path + INPUT)
    output = run(inputs, keywords)
    if call.path:
        output = _named(output, MODULE + call.path)
    return _named(output, TABLE + call.path) if call.table else output


def _named(tree, name: str):
    def leaf(a):
        if not isinstance(a, jax.Array):
            return a
        named = checkpoint_name(a, name)
        if (mask := getattr(a, "_keras_mask", None)) is not None:
            named._keras_mask = mask  # Keras keeps masks on the arrays themselves
        return named

    return jax.tree.map(leaf, tree)


class Refused(BaseException):
    """The text of an error, on its way out: no model may catch it, or write into it."""


def refuse_training(caller: str):
    """Makes the handler that raises where a module is in training mode.

    Raises:
        Refused: when the module is called, before it drops or updates anything.
    """

    def check(call: Call, run, inputs, keywords):
        if call.training and not THREAD.allowing:
            kind = getattr(call.module, "__name__", None) or type(call.module).__name__
            raise Refused(
                f"{caller}: the model must be in evaluation mode, got {kind}"
                f"({call.training}) at {call.path or 'its root'}. {call.remedy} If that is "
                "meant (Monte Carlo dropout), explain igjax.in_training_mode(f)."
            )
        return run(inputs, keywords)

    return check


def announce(call: Call):
    """Hands what is no call of a module to the handlers as if it were one."""
    dispatch(call, lambda inputs, keywords: None, (), {})
