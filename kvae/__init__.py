"""kvae: train variational autoencoders in Keras, run them anywhere as sealed ONNX files.

The import is fast, because each public name imports its own module on first use. `kvae.load` runs an exported model in
ONNX Runtime, without Keras. `kvae.VAE` and the training functions import Keras.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

from kvae_serve import __version__ as __version__

# Keeps TensorFlow's messages about its start off stderr. It reads the level once, on import.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

if TYPE_CHECKING:
    from kvae import data, likelihoods, metrics, networks, objectives, presets, priors, ray_data, report, sample_metrics
    from kvae.data.spec import DataSpec
    from kvae.data.table import TableSpec
    from kvae.exporting.fitted_prior import fit_prior
    from kvae.models.conditions import Categorical, Continuous
    from kvae.models.vae import VAE, BetaVAE, ConditionalBetaVAE, ConditionalVAE, load_model
    from kvae.objectives import schedules
    from kvae.table_vae import TableVAE
    from kvae.training import callbacks
    from kvae.training.defaults import default_settings
    from kvae.training.train import resume, train
    from kvae.tuning.study import tune
    from kvae_serve import errors
    from kvae_serve.model import load

#: Public name to the module that holds it; a name that is its own module stands alone.
_HOME = {
    "VAE": "kvae.models.vae",
    "BetaVAE": "kvae.models.vae",
    "ConditionalVAE": "kvae.models.vae",
    "ConditionalBetaVAE": "kvae.models.vae",
    "load_model": "kvae.models.vae",
    "Categorical": "kvae.models.conditions",
    "Continuous": "kvae.models.conditions",
    "DataSpec": "kvae.data.spec",
    "TableSpec": "kvae.data.table",
    "TableVAE": "kvae.table_vae",
    "default_settings": "kvae.training.defaults",
    "fit_prior": "kvae.exporting.fitted_prior",
    "load": "kvae_serve.model",
    "resume": "kvae.training.train",
    "schedules": "kvae.objectives",
    "train": "kvae.training.train",
    "tune": "kvae.tuning.study",
}
#: Public modules. Two of them lie elsewhere.
_MODULES = {
    name: f"kvae.{name}"
    for name in (
        "data",
        "likelihoods",
        "metrics",
        "networks",
        "objectives",
        "presets",
        "priors",
        "ray_data",
        "report",
        "sample_metrics",
    )
} | {"callbacks": "kvae.training.callbacks", "errors": "kvae_serve.errors"}

__all__ = [
    "VAE",
    "BetaVAE",
    "Categorical",
    "ConditionalBetaVAE",
    "ConditionalVAE",
    "Continuous",
    "DataSpec",
    "TableSpec",
    "TableVAE",
    "callbacks",
    "data",
    "default_settings",
    "errors",
    "fit_prior",
    "likelihoods",
    "load",
    "load_model",
    "metrics",
    "networks",
    "objectives",
    "presets",
    "priors",
    "ray_data",
    "report",
    "resume",
    "sample_metrics",
    "schedules",
    "train",
    "tune",
]

if not TYPE_CHECKING:  # hidden from type checkers, which read the imports above

    def __getattr__(name):
        """Resolve a public name on first use."""
        if name not in __all__:
            raise AttributeError(f"module 'kvae' has no attribute {name!r}")
        try:
            if name in _MODULES:
                return import_module(_MODULES[name])
            value = getattr(import_module(_HOME[name]), name)
            if hasattr(value, "from_preset"):
                import_module("kvae.presets.models")  # the builder of `from_preset`
        except ModuleNotFoundError as error:
            if error.name not in ("keras", "tensorflow", "jax", "torch"):
                raise
            from kvae_serve.errors import MissingExtraError

            extra = error.name if error.name in ("jax", "torch") else "train"
            raise MissingExtraError(
                f"kvae.{name} needs {error.name}, which is not installed: pip install 'kvae-onnx[{extra}]'."
            ) from error
        globals()[name] = value
        return value

    def __dir__():
        """The public names, also those not resolved yet."""
        return sorted({*globals(), *__all__})
