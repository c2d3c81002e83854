"""igjax: path attributions for JAX as function transformations, with their own error."""

import importlib
from importlib.metadata import version
from types import ModuleType
from typing import TYPE_CHECKING

from igjax import (
    baselines as baselines,
    diagnostics as diagnostics,
    language as language,
    paths as paths,
    rules as rules,
)
from igjax.attribution import Attribution as Attribution, Status as Status
from igjax.bridges import (
    contrast as contrast,
    in_float64 as in_float64,
    in_training_mode as in_training_mode,
    select as select,
    single as single,
)
from igjax.embeddings import Embedded as Embedded, from_embedding as from_embedding
from igjax.methods.expectations import (
    expected as expected,
    expected_gradients as expected_gradients,
    expected_integrated_gradients as expected_integrated_gradients,
)
from igjax.methods.gradients import (
    gradient as gradient,
    input_x_gradient as input_x_gradient,
)
from igjax.methods.groups import (
    aggregate as aggregate,
    grouped as grouped,
    token_groups as token_groups,
    word_groups as word_groups,
)
from igjax.methods.guided import guided_integrated_gradients as guided_integrated_gradients
from igjax.methods.integrated import (
    adaptive_rule as adaptive_rule,
    integrated_gradients as integrated_gradients,
    integrated_jacobian as integrated_jacobian,
)
from igjax.methods.interactions import (
    TopInteractions as TopInteractions,
    integrated_hessian_product as integrated_hessian_product,
    integrated_hessians as integrated_hessians,
    top_interactions as top_interactions,
)
from igjax.methods.layers import (
    Cut as Cut,
    cut as cut,
    grad_cam as grad_cam,
    internal_influence as internal_influence,
    layer_activation as layer_activation,
    layer_conductance as layer_conductance,
    layer_gradient_x_activation as layer_gradient_x_activation,
    layer_integrated_gradients as layer_integrated_gradients,
    layer_names as layer_names,
    neuron_conductance as neuron_conductance,
)
from igjax.methods.smoothing import (
    smooth as smooth,
    smooth_squared as smooth_squared,
    smooth_variance as smooth_variance,
)
from igjax.running.costs import Cost as Cost, cost as cost
from igjax.running.jobs import attribute_batches as attribute_batches
from igjax.running.progress import progress as progress
from igjax.running.records import to_records as to_records
from igjax.running.sharding import sharded as sharded
from igjax.running.storage import Saved as Saved, load as load, save as save
from igjax.tokens import token_attributions as token_attributions

if TYPE_CHECKING:
    from igjax import (
        metrics as metrics,
        perturbation as perturbation,
        propagation as propagation,
    )

__version__ = version("igjax")


_WINGS = ("metrics", "perturbation", "propagation")


def __getattr__(name: str) -> ModuleType:
    """Imports a wing when it is first named: together they are half of the package."""
    if name in _WINGS:
        return importlib.import_module(f"igjax.{name}")
    raise AttributeError(f"module 'igjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    """All names, those of wings that wait among them."""
    return sorted({*globals(), *_WINGS})
