"""Flax reference models, real data that ships with packages, and shipped weights.

Attribution methods are judged on trained models, so a few live here: small enough to
train in minutes, ordinary enough to be what people have. Every model works on a single
example and on any leading batch axes, because attributions are written for one example
and batched by ``jax.vmap``.

Nothing in igjax imports this package: it needs Flax and Optax, the core does not.
"""

try:
    import flax as _flax
    import optax as _optax
except ImportError as error:
    raise ImportError(
        "igjax.models: the reference models need flax and optax, and one of them "
        'cannot be imported. Install them with: pip install "igjax[models]"'
    ) from error

from igjax.models import (
    data as data,
    reviewer as reviewer,
    sentiment as sentiment,
    training as training,
)
from igjax.models.causal import CausalTransformer as CausalTransformer
from igjax.models.char_lm import CharLM as CharLM
from igjax.models.cnn import CNN as CNN
from igjax.models.lstm import (
    LSTM as LSTM,
    LSTMClassifier as LSTMClassifier,
    SequenceLSTM as SequenceLSTM,
)
from igjax.models.mlp import MLP as MLP
from igjax.models.transformer import (
    SequenceTransformer as SequenceTransformer,
    TransformerClassifier as TransformerClassifier,
)

del _flax, _optax

__all__ = [
    "CNN",
    "LSTM",
    "MLP",
    "CausalTransformer",
    "CharLM",
    "LSTMClassifier",
    "SequenceLSTM",
    "SequenceTransformer",
    "TransformerClassifier",
    "data",
    "reviewer",
    "sentiment",
    "training",
]
