"""Functions as programs: jaxprs, what is read off them, and what is made of them.

May import `_tree`, `_checks` and `frameworks`; knows nothing of attributions. What JAX may
change is named in `jax_internals` alone.
"""
