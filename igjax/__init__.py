"""igjax: path attributions for JAX as function transformations, honest about their error."""

from importlib.metadata import version

from igjax import baselines as baselines, paths as paths, rules as rules
from igjax.attribution import Attribution as Attribution, Status as Status
from igjax.integrated import (
    integrated_gradients as integrated_gradients,
    integrated_jacobian as integrated_jacobian,
)

__version__ = version("igjax")
