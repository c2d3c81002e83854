"""The path methods and what is built around them: short recipes, a public name each.

May import `integration` and what it may; a user finds all of them at `igjax.<name>`.
"""
