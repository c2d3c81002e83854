"""Attributions without gradients: of any model that can be scored, JAX or not.

Every method asks a model for scores of points where some features are at x and the others
at the baseline, and reads them: `_games` is the first half, each module one reading. May
import `methods` and what it may.
"""

from igjax.perturbation.boxes import black_box as black_box
from igjax.perturbation.importance import permutation_importance as permutation_importance
from igjax.perturbation.interactions import (
    sampled_interactions as sampled_interactions,
    shapley_interactions as shapley_interactions,
)
from igjax.perturbation.removal import ablation as ablation, occlusion as occlusion
from igjax.perturbation.shapley import (
    banzhaf_values as banzhaf_values,
    shapley_values as shapley_values,
)
from igjax.perturbation.surrogates import lime as lime, rise as rise
from igjax.perturbation.unions import owen_values as owen_values

__all__ = [
    "ablation",
    "banzhaf_values",
    "black_box",
    "lime",
    "occlusion",
    "owen_values",
    "permutation_importance",
    "rise",
    "sampled_interactions",
    "shapley_interactions",
    "shapley_values",
]
