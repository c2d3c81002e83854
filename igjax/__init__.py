"""igjax: path attributions for JAX as function transformations, with their own error."""

from importlib.metadata import version

from igjax import (
    baselines as baselines,
    diagnostics as diagnostics,
    paths as paths,
    rules as rules,
)
from igjax.attribution import Attribution as Attribution, Status as Status
from igjax.bridges import (
    Embedded as Embedded,
    from_embedding as from_embedding,
    select as select,
    single as single,
)
from igjax.combinators import (
    smooth as smooth,
    smooth_squared as smooth_squared,
    smooth_variance as smooth_variance,
)
from igjax.expectations import (
    expected as expected,
    expected_gradients as expected_gradients,
    expected_integrated_gradients as expected_integrated_gradients,
)
from igjax.gradients import gradient as gradient, input_x_gradient as input_x_gradient
from igjax.integrated import (
    adaptive_rule as adaptive_rule,
    integrated_gradients as integrated_gradients,
    integrated_jacobian as integrated_jacobian,
)
from igjax.storage import Saved as Saved, load as load, save as save

__version__ = version("igjax")
