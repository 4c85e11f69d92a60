"""Quality of synthetic table rows, each figure with the same figure of real rows.

Rows are arrays `[rows, columns]` as in `kvae_serve.readers.Dataset`: numbers in data units (NaN if missing) and class
indices. `columns` describes them as `data.columns` of docs/format.md does; `name`, `kind` and `classes` are used.
"""
