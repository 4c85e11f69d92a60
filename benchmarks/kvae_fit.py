"""kvae's own `fit`, for training_speed.py: `kvae_fit.py NET` on the engine that `$KERAS_BACKEND` names."""

import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from training_nets import DENSE, NETS, pixels, serve

from kvae.backends import startup


class Run:
    """One model with its data; `train` is one call of `fit`."""

    def __init__(self, net, examples, optimizer):
        import keras

        from kvae import networks, optimizers
        from kvae.dataloaders import batches
        from kvae.models.vae import VAE

        plan = NETS[net]
        self.batches, self.epoch = batches.training_batches(pixels(net, examples), None, plan.batch, seed=0), 0
        if plan.kind == "dense":
            encoder = networks.dense_encoder(plan.shape, plan.latent_dim, plan.widths, "tanh")
            decoder = networks.dense_decoder(plan.shape, plan.latent_dim, plan.widths[::-1], "tanh")
        else:
            encoder = networks.conv_encoder(plan.shape, plan.latent_dim, plan.widths, dense=DENSE)
            decoder = networks.conv_decoder(plan.shape, plan.latent_dim, plan.widths[::-1], dense=DENSE)
        self.model = VAE(encoder, decoder)
        self.parameters = encoder.count_params() + decoder.count_params()
        adam = {"kvae": optimizers.Adam, "keras": keras.optimizers.Adam}[optimizer]
        self.model.compile(adam(1e-3), steps_per_execution=plan.steps_per_execution)

    def train(self, epochs):
        """Return the seconds of `fit` and the loss of the last epoch."""
        began = time.perf_counter()
        history = self.model.fit(
            self.batches.dataset, initial_epoch=self.epoch, epochs=self.epoch + epochs,
            callbacks=[self.batches.callback], shuffle=False, verbose=0,
        )  # fmt: skip
        self.epoch += epochs
        return time.perf_counter() - began, float(history.history["loss"][-1])


def main():
    startup.open_quietly(network=NETS[sys.argv[1]].kind)  # before anything opens Keras, as `kvae train` does
    import keras

    name = keras.backend.backend()
    version = __import__(name).__version__
    serve({"keras": keras.__version__, name: version, "devices": _devices(name)}, Run)


def _devices(name):
    if name == "tensorflow":
        import tensorflow as tf

        return "gpu" if tf.config.list_physical_devices("GPU") else "cpu"
    if name == "jax":
        import jax

        return jax.default_backend()
    import torch

    return "gpu" if torch.cuda.is_available() else "cpu"


if __name__ == "__main__":
    main()
