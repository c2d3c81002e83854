"""Numbers about attributions, each with its error and beside what chance gives.

No number here says that an attribution is right. Each function tells what its number is,
and what is known to mislead. Values are taken as they are: nothing is made absolute,
clipped or normalized unless the definition says so. May import `methods` and what it may.
"""

from igjax.metrics.comparing import (
    AgainstShuffles as AgainstShuffles,
    Paired as Paired,
    against_shuffles as against_shuffles,
    paired as paired,
)
from igjax.metrics.curves import (
    Curve as Curve,
    comprehensiveness as comprehensiveness,
    deletion as deletion,
    insertion as insertion,
    sufficiency as sufficiency,
)
from igjax.metrics.faithfulness import (
    Completeness as Completeness,
    Correlation as Correlation,
    Infidelity as Infidelity,
    completeness as completeness,
    infidelity as infidelity,
    sensitivity_n as sensitivity_n,
)
from igjax.metrics.imputing import imputed as imputed, road as road
from igjax.metrics.localization import (
    mass_inside as mass_inside,
    pointing_game as pointing_game,
    rank_inside as rank_inside,
)
from igjax.metrics.ranking import (
    Agreement as Agreement,
    agreement as agreement,
    kendall as kendall,
    rank_biased_overlap as rank_biased_overlap,
    spearman as spearman,
    top_overlap as top_overlap,
)
from igjax.metrics.robustness import (
    LowerBound as LowerBound,
    local_lipschitz as local_lipschitz,
    max_sensitivity as max_sensitivity,
)
from igjax.metrics.sanity import (
    Randomization as Randomization,
    randomization as randomization,
    randomized as randomized,
)
from igjax.metrics.shape import complexity as complexity, sparseness as sparseness
from igjax.metrics.tables import Table as Table, table as table

__all__ = [
    "AgainstShuffles",
    "Agreement",
    "Completeness",
    "Correlation",
    "Curve",
    "Infidelity",
    "LowerBound",
    "Paired",
    "Randomization",
    "Table",
    "against_shuffles",
    "agreement",
    "completeness",
    "complexity",
    "comprehensiveness",
    "deletion",
    "imputed",
    "infidelity",
    "insertion",
    "kendall",
    "local_lipschitz",
    "mass_inside",
    "max_sensitivity",
    "paired",
    "pointing_game",
    "randomization",
    "randomized",
    "rank_biased_overlap",
    "rank_inside",
    "road",
    "sensitivity_n",
    "sparseness",
    "spearman",
    "sufficiency",
    "table",
    "top_overlap",
]
