"""What primitives are to relevance: each stands in one table, or is refused.

Nothing is silently taken for its derivative. What is linear needs no rule, because its
derivative is its multiplier; what is in no table has no rule, and using it is an error
that says so, until the caller gives it one.
"""


def _set(names: str) -> frozenset[str]:
    return frozenset(names.split())


# Linear in the operands at these places, the others being conditions and indices.
_EACH = slice(None)
LINEAR: dict[str, slice] = {
    **dict.fromkeys(
        _set(
            "add add_any all_gather all_to_all broadcast_in_dim broadcast_to concatenate "
            "convert_element_type copy copy_p cumsum device_put expand_dims "
            "layout_constraint name neg optimization_barrier pad pcast ppermute psum "
            "psum_invariant pvary reduce_precision reduce_scatter reduce_sum "
            "reduce_window_sum reshape reshard rev sharding_constraint slice split squeeze "
            "stack sub tile transpose unstack"
        ),
        _EACH,
    ),
    **dict.fromkeys(("gather", "dynamic_slice"), slice(1)),
    **dict.fromkeys(("scatter", "scatter-add", "scatter-sub"), slice(0, 3, 2)),
    "dynamic_update_slice": slice(2),
    "select_n": slice(1, None),
}
# Views of one operand: its numbers in another order, shape or precision.
VIEWS = _set(
    "broadcast_in_dim convert_element_type copy copy_p expand_dims name reshape squeeze "
    "transpose"
)
PRODUCTS = _set("conv_general_dilated dot_general mul")
LAYERS = _set("conv_general_dilated dot_general")
QUOTIENTS = _set("div")
MAXIMA = _set("max min")
POOLS = _set("reduce_max reduce_min reduce_window_max reduce_window_min")
# Functions of one number, applied to each. Those of several are so where only one moves,
# or where all are functions of the same one.
CURVES = _set(
    "abs acos acosh asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp cos "
    "cosh digamma erf erf_inv erfc exp exp2 expm1 floor igamma igammac integer_pow lgamma "
    "log log1p log2 logistic nextafter one_minus_square polygamma pow rem round rsqrt sign "
    "sin sinh sqrt square tan tanh zeta"
)
# Those that are flat between jumps: they have a change, but no slope.
STEPS = _set("ceil floor round sign")
# Through these no relevance goes: they tell, and are not told.
STILL = _set(
    "and argmax argmin eq eq_to ge gt is_finite le le_to lt lt_to ne not or "
    "population_count reduce_and reduce_or reduce_xor stop_gradient xor zeros_like"
)
LOOPS = _set("scan")
BRANCHES = _set("cond")

# Number by number, in operands of one shape; inside such a function anything goes.
ELEMENTWISE = (
    CURVES
    | MAXIMA
    | _set("add add_any convert_element_type copy copy_p div mul name neg reduce_precision")
    | _set("select_n sub and eq ge gt is_finite le lt ne not or stop_gradient xor")
)
# What a composite can select by.
KINDS = (
    "activation",
    "choice",
    "gate",
    "layer",
    "maximum",
    "normalization",
    "pool",
    "product",
    "quotient",
    "relu",
    "softmax",
    "unknown",
)
