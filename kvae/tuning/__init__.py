"""Choice of settings: a search or a grid of training runs, compared on validation data.

Optuna searches. Each trial is one or more run folders of `kvae train`, so an interrupted study continues. Needs the
extra `tune`.
"""
