"""The integral along a path, by fixed rules and by the adaptive one.

`path_integral` is the idea. May import `_program` and what it may, and what a user names
of nodes, curves and results: `rules`, `paths`, `attribution`.
"""
