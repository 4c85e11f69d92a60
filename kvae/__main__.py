"""The command `kvae`, also run as `python -m kvae`."""

from kvae_serve.cli.main import main

if __name__ == "__main__":
    main()
