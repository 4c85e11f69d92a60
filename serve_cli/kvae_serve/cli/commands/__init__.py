"""The verbs of the light runtime, one a file."""
