"""Propagation: DeepLIFT, LRP and guided gradients, of any function that JAX can trace.

f is read equation by equation as a network of units, and evaluated with other derivatives
at those that have rules. `jax.vjp` does the rest.
"""

from igjax.propagation._deeplift import deeplift as deeplift
from igjax.propagation._guided import (
    deconvnet_gradient as deconvnet_gradient,
    guided_grad_cam as guided_grad_cam,
    guided_gradient as guided_gradient,
)
from igjax.propagation._layers import (
    layer_deeplift as layer_deeplift,
    layer_relevance as layer_relevance,
)
from igjax.propagation._relevance import relevance as relevance
from igjax.propagation._rule import Rule as Rule
from igjax.propagation._table import Entry as Entry, units as units
from igjax.propagation.change_rules import (
    integrated as integrated,
    rescale as rescale,
    reveal_cancel as reveal_cancel,
)
from igjax.propagation.composites import (
    CP as CP,
    EPSILON as EPSILON,
    EPSILON_PLUS as EPSILON_PLUS,
    EPSILON_PLUS_FLAT as EPSILON_PLUS_FLAT,
    RESCALE as RESCALE,
    epsilon_gamma_box as epsilon_gamma_box,
    first as first,
)
from igjax.propagation.layer_rules import (
    alpha_beta as alpha_beta,
    box as box,
    epsilon as epsilon,
    flat as flat,
    gamma as gamma,
    wsquare as wsquare,
    zplus as zplus,
)
from igjax.propagation.unit_rules import (
    deconvolved as deconvolved,
    gradient as gradient,
    guided as guided,
    identity as identity,
    signal_takes_all as signal_takes_all,
    stop as stop,
    uniform as uniform,
)

__all__ = [
    "CP",
    "EPSILON",
    "EPSILON_PLUS",
    "EPSILON_PLUS_FLAT",
    "RESCALE",
    "Entry",
    "Rule",
    "alpha_beta",
    "box",
    "deconvnet_gradient",
    "deconvolved",
    "deeplift",
    "epsilon",
    "epsilon_gamma_box",
    "first",
    "flat",
    "gamma",
    "gradient",
    "guided",
    "guided_grad_cam",
    "guided_gradient",
    "identity",
    "integrated",
    "layer_deeplift",
    "layer_relevance",
    "relevance",
    "rescale",
    "reveal_cancel",
    "signal_takes_all",
    "stop",
    "uniform",
    "units",
    "wsquare",
    "zplus",
]
