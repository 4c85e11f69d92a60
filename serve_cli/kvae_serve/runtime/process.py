"""Whose process this is."""

ours = False
"""Whether this process is the command; set by `cli.main`. A program that imports kvae keeps its own settings."""
