"""`python -m serve_cli` is the command `kvae`."""

from serve_cli.cli import main

main()
