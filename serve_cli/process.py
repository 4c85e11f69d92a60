"""Whose process this is."""

ours = False
"""Whether it is the command's own; set by `serve_cli.cli.main`. A program that loads kvae keeps its own settings."""
