"""Keras, where it is installed, computes with JAX."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")
