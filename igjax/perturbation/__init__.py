"""Attributions without gradients: of any model that can be scored, JAX or not.

Every method asks a model for scores of points where some features are at x and the others
at the baseline, and reads them: `_games` is the first half, each module one reading.
"""

from igjax.perturbation.ablation import ablation as ablation, occlusion as occlusion
from igjax.perturbation.shapley import (
    banzhaf_values as banzhaf_values,
    shapley_values as shapley_values,
)
