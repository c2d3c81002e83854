"""Many examples: what they cost, devices that share them, jobs, files, tables of results.

May import everything below the package itself, `igjax.methods` among it.
"""
