"""The forms of output, one a module; each writes a `Flow` as its pieces come, in memory that does not grow with it."""
