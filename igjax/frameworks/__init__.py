"""What igjax knows of each framework, a file for each.

Nothing is imported here that the user has not imported. Any room may import these files;
they import `_checks` at most.
"""
