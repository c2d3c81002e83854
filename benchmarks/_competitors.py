"""Everybody who computes a 50-node Integrated Gradients of a `Case`, baseline zero.

A maker `make(case, setting)` does what may be done once (building, compiling) and
returns a function that computes all attributions as a NumPy array shaped like
`case.inputs`.  `COMPETITORS` maps a name to its settings (the best one is reported),
the package it needs, and how to install that.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _models import LABEL, Case

NODES = 50


def gauss_legendre() -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on [0, 1], in float64."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    return (nodes + 1) / 2, weights / 2


def reference(case: Case) -> np.ndarray:
    """Integrate with the same nodes in float64, one example at a time."""
    with jax.enable_x64(True):
        nodes, weights = map(jnp.asarray, gauss_legendre())
        params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), case.params)

        def attribute(x):
            gradient = jax.vmap(lambda t: jax.grad(case.f)(t * x, LABEL, params))
            return x * jnp.tensordot(weights, gradient(nodes), 1)

        compiled = jax.jit(attribute)
        rows = [compiled(jnp.asarray(x, jnp.float64)) for x in case.inputs]
        return np.stack([np.asarray(row) for row in rows])


def _compiled(function, *args) -> Callable[[], np.ndarray]:
    args = jax.device_put(args)
    compiled = jax.jit(function).lower(*args).compile()
    return lambda: np.asarray(jax.tree.leaves(compiled(*args))[0])


def explained(case: Case, rule, chunk_size: int | None = None, inputs: int | None = None):
    """Integrated Gradients of the first inputs: the whole result, at each call."""
    import igjax

    attribute = igjax.integrated_gradients(case.f, rule=rule, chunk_size=chunk_size)
    explain = jax.vmap(attribute, in_axes=(0, None, 0, None))
    x, labels = case.inputs[:inputs], case.labels[:inputs]
    args = jax.device_put((x, np.zeros_like(x[0]), labels, case.params))
    compiled = jax.jit(explain).lower(*args).compile()
    return lambda: jax.block_until_ready(compiled(*args))


def _igjax(case: Case, chunk_size: int | None):
    import igjax

    run = explained(case, igjax.rules.gauss_legendre(NODES), chunk_size)
    return lambda: np.asarray(run().values)


def _bare(case: Case, setting: tuple[str, int]):
    """What a JAX user would write by hand: no scores, no error, no checks."""
    kind, chunk = setting
    nodes, weights = (a.astype(np.float32) for a in gauss_legendre())
    nodes, weights = (a.reshape(-1, chunk) for a in (nodes, weights))

    def block(x, label, params, t, w):
        gradient = jax.vmap(lambda t: jax.grad(case.f)(t * x, label, params))
        return jnp.tensordot(w, gradient(t), 1)

    def scanned(x, label, params):
        def add(total, tw):
            return total + block(x, label, params, *tw), None

        return x * jax.lax.scan(add, jnp.zeros_like(x), (nodes, weights))[0]

    def unrolled(x, label, params):
        rows = zip(nodes, weights, strict=True)
        return x * sum(block(x, label, params, t, w) for t, w in rows)

    def over_inputs(xs, labels, params):
        return jax.lax.map(lambda xl: unrolled(*xl, params), (xs, labels))

    over_examples = {
        "scan": jax.vmap(scanned, (0, 0, None)),
        "unrolled": jax.vmap(unrolled, (0, 0, None)),
        "map": over_inputs,
    }[kind]
    return _compiled(over_examples, case.inputs, case.labels, case.params)


def _captum(case: Case, internal_batch_size: int | None, compile=lambda module: module):
    import torch
    from captum.attr import IntegratedGradients

    method = IntegratedGradients(compile(case.make_torch()))
    inputs = torch.tensor(case.to_torch(case.inputs))

    def run():
        values = method.attribute(
            *(inputs, torch.zeros_like(inputs)),
            target=LABEL,
            n_steps=NODES,
            method="gausslegendre",
            internal_batch_size=internal_batch_size,
        )
        return case.from_torch(values.detach().numpy())

    return run


def _captum_compiled(case: Case, internal_batch_size: int | None):
    import torch

    if case.name in ("lstm", "text"):
        raise NotImplementedError("not through an LSTM of 100 steps in four minutes")
    return _captum(case, internal_batch_size, torch.compile)


def _unifiedig(case: Case, _):
    from unifiedig import Explainer
    from unifiedig.jax import JaxModel

    f = jax.jit(jax.vmap(lambda x: case.f(x, LABEL, case.params)))
    explainer = Explainer(
        *(JaxModel(f), np.zeros_like(case.inputs[:1])),
        n_steps=NODES,
        check_completeness=False,
    )
    return lambda: explainer(case.inputs).values


def _saliency(case: Case, batch_size: int):
    from saliency.core import INPUT_OUTPUT_GRADIENTS, IntegratedGradients

    params = jax.device_put(case.params)
    gradient = jax.jit(
        jax.vmap(lambda x, params: jax.grad(case.f)(x, LABEL, params), (0, None))
    )

    def call(x, call_model_args=None, expected_keys=None):
        return {INPUT_OUTPUT_GRADIENTS: np.asarray(gradient(x, params))}

    method = IntegratedGradients()

    def run():
        rows = (
            method.GetMask(x, call, x_steps=NODES, batch_size=batch_size)
            for x in case.inputs
        )
        return np.stack(list(rows))

    call(np.zeros((batch_size, *case.inputs.shape[1:])))
    return run


@dataclasses.dataclass(frozen=True)
class Competitor:
    """Who takes part: a maker, its settings, and what must be installed."""

    make: Callable[[Case, Any], Callable[[], np.ndarray]]
    settings: Callable[[int], tuple]
    package: str
    install: str
    note: str = ""

    @property
    def installed(self) -> bool:
        """Whether the package can be found."""
        return importlib.util.find_spec(self.package) is not None


COMPETITORS = {
    "igjax": Competitor(
        *(_igjax, lambda batch: (None,), "igjax", "pip install -e ."),
        "defaults",
    ),
    "igjax, chosen chunk_size": Competitor(
        *(_igjax, lambda batch: (1, 2, 5, 10, 25), "igjax", "pip install -e ."),
    ),
    "bare jit(vmap(grad))": Competitor(
        _bare,
        lambda batch: (
            *(("unrolled", 50), ("unrolled", 10), ("scan", 10), ("scan", 5)),
            *(("scan", 2), ("map", 50)),
        ),
        *("jax", "pip install jax"),
        "values only: no error, no delta",
    ),
    "Captum": Competitor(
        _captum,
        lambda batch: (None, batch, 2 * batch, 5 * batch, 10 * batch),
        *("captum", "pip install torch; pip install --no-deps captum"),
    ),
    "Captum, torch.compile": Competitor(
        _captum_compiled,
        lambda batch: (None, 2 * batch),
        *("captum", "pip install torch; pip install --no-deps captum"),
    ),
    "unifiedig (JAX)": Competitor(
        *(_unifiedig, lambda batch: (None,), "unifiedig"),
        "pip install --no-deps unifiedig cbaseline skgrad treeig",
        "compiles at every call",
    ),
    "PAIR saliency": Competitor(
        *(_saliency, lambda batch: (10, 50), "saliency"),
        "pip install --no-deps saliency",
        "own rule: mean of 50 points",
    ),
}
