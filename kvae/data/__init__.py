"""Training data: `load` reads files, `kvae.DataSpec` and `kvae.TableSpec` describe one example.

The file readers are in `kvae_serve.readers`; batches for `fit` are in `kvae.dataloaders`.
"""

from kvae.data.sources import load

__all__ = ["load"]
