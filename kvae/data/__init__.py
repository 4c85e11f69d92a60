"""Data for training: `kvae.data.load` reads files, `DataSpec` says what one example is.

The readers of files are `kvae_serve.readers`, which the light runtime shares; batches for `fit` are in `pipeline`.
"""

from kvae.data.sources import load

__all__ = ["load"]
