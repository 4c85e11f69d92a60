"""The verbs of the workstation, one a file; `serve_cli.cli` finds them by name."""
