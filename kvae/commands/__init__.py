"""The verbs of the workstation, one a file; `kvae_serve.cli.main` finds them by name."""
