"""What p(z) is, and the kl of a diagonal Gaussian posterior to it."""

import keras

from kvae.objective import kl_to_standard_normal
from kvae.registry import register


class Prior(keras.layers.Layer):
    """Base of all priors. A layer, so that one with learned parameters is saved with the model."""

    #: The name in the manifest of an exported file.
    kind: str

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.built = True

    def kl(self, z_mean, z_log_var):
        """KL(q || p), float32 `[batch]`, in nats, from `[batch, latent_dim]` mean and log variance of q."""
        raise NotImplementedError

    def manifest(self):
        """What a reader of the exported file must know, as JSON."""
        return {"name": self.kind}


@register
class StandardNormal(Prior):
    """N(0, I): nothing to learn, and nothing to ship beside the decoder."""

    kind = "standard_normal"

    def kl(self, z_mean, z_log_var):
        """KL(q || N(0, I)) in closed form, float32 `[batch]`, in nats."""
        return kl_to_standard_normal(z_mean, z_log_var)
