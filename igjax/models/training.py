"""One training loop for every reference model.

The loop is a function of parameters, a loss and an iterable of batches; it knows no
model and draws no random numbers. What is random, the order of the data, is in
``batches``, which takes its ``key`` first: the same key trains the same model.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

__all__ = ["Fit", "accuracy", "batches", "cross_entropy", "fit", "host_generator"]


class Fit(NamedTuple):
    """A trained model: ``params``, and the loss of every step.

    Use ``params`` with ``model.apply`` and ``losses`` to see whether training settled.

    Example:
        >>> Fit(params={"w": 1.0}, losses=np.array([2.0, 1.0])).losses[-1] < 2
        np.True_
    """

    params: Any
    losses: np.ndarray


def host_generator(key: jax.Array) -> np.random.Generator:
    """Turn a JAX key into a NumPy generator.

    Use it for shuffling and other randomness on the host, so that one kind of seed
    serves everywhere.

    Args:
        key: A JAX random key.

    Returns:
        A generator that depends only on ``key``.

    Example:
        >>> same = [host_generator(jax.random.key(3)).integers(100) for _ in range(2)]
        >>> bool(same[0] == same[1])
        True
    """
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))


def batches(
    key: jax.Array, *arrays: np.ndarray, batch_size: int, epochs: int
) -> Iterator[tuple[np.ndarray, ...]]:
    """Shuffle rows anew every epoch and cut them into full batches.

    Use it to feed ``fit``. The rows left over at the end of an epoch are dropped, so
    that all batches have one shape and compile once.

    Args:
        key: A JAX random key: it decides the order.
        *arrays: Arrays with the same number of rows.
        batch_size: Rows in a batch, at most the number of rows.
        epochs: How many times to go through the data.

    Returns:
        An iterator over tuples with ``batch_size`` rows of each array.

    Raises:
        ValueError: On the first batch, if ``batch_size`` is not between 1 and the
            number of rows.

    Example:
        >>> data = batches(jax.random.key(0), np.arange(5), batch_size=2, epochs=2)
        >>> [len(x) for (x,) in data]
        [2, 2, 2, 2]
    """
    size = len(arrays[0])
    if not 1 <= batch_size <= size:
        raise ValueError(
            f"batches: batch_size must be between 1 and the number of rows {size}, got "
            f"{batch_size}. Choose a smaller batch."
        )
    generator = host_generator(key)
    for _ in range(epochs):
        order = generator.permutation(size)
        for start in range(0, size - batch_size + 1, batch_size):
            rows = order[start : start + batch_size]
            yield tuple(array[rows] for array in arrays)


def fit(
    loss: Callable[..., jax.Array],
    params: Any,
    data: Iterable[tuple[Any, ...]],
    optimizer: optax.GradientTransformation,
) -> Fit:
    """Minimize a loss over batches.

    Use it for any model: the loss closes over it. Compiles once for each batch shape.

    Args:
        loss: ``loss(params, *batch)``, a scalar.
        params: A pytree of floating arrays, where to start.
        data: The batches, each a tuple of arrays; see ``batches``.
        optimizer: From Optax.

    Returns:
        The trained parameters, and the loss of every step as float64 of shape
        ``(steps,)``.

    Example:
        >>> loss = lambda w, x: jnp.mean((x - w) ** 2)
        >>> rows = np.full(8, 2.0, np.float32)
        >>> data = batches(jax.random.key(0), rows, batch_size=4, epochs=20)
        >>> trained = fit(loss, jnp.float32(0), data, optax.sgd(0.2))
        >>> round(float(trained.params), 3)
        2.0
    """

    @jax.jit
    def step(params: Any, state: Any, batch: tuple[Any, ...]) -> tuple[Any, Any, Any]:
        value, gradient = jax.value_and_grad(loss)(params, *batch)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    state = optimizer.init(params)
    losses = []
    for batch in data:
        params, state, value = step(params, state, batch)
        losses.append(value)
    return Fit(params, np.asarray(losses, np.float64))


def cross_entropy(logits: jax.Array, labels: jax.typing.ArrayLike) -> jax.Array:
    """Average the negative log-likelihood of the labels.

    Use it as the loss of a classifier, with one logit for two classes or one logit for
    each class.

    Args:
        logits: Floating, of shape ``(..., outputs)``.
        labels: Integers of shape ``(...)``.

    Returns:
        A scalar.

    Example:
        >>> logits = jnp.zeros((3, 4), jnp.float32)
        >>> labels = jnp.array([0, 1, 2])
        >>> print(round(float(cross_entropy(logits, labels)), 3), round(np.log(4), 3))
        1.386 1.386
    """
    labels = jnp.asarray(labels)
    if logits.shape[-1] == 1:
        targets = labels.astype(logits.dtype)
        return optax.sigmoid_binary_cross_entropy(logits[..., 0], targets).mean()
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def accuracy(logits: jax.typing.ArrayLike, labels: jax.typing.ArrayLike) -> float:
    """Count how often the highest logit is that of the label.

    Use it on held-out data. One logit stands for two classes: positive is class 1.

    Args:
        logits: Floating, of shape ``(..., outputs)``.
        labels: Integers of shape ``(...)``.

    Returns:
        A fraction between 0 and 1.

    Example:
        >>> accuracy(np.array([[2.0], [-1.0]]), np.array([1, 1]))
        0.5
    """
    logits = np.asarray(logits)
    one = logits.shape[-1] == 1
    predicted = logits[..., 0] > 0 if one else np.argmax(logits, axis=-1)
    return float(np.mean(predicted == np.asarray(labels)))
