"""The same dense VAE trained by pythae's own trainer, for training_speed.py.

Needs pythae and PyTorch. The form is `loader`, `as it comes` or `whole batches`. An epoch is one call of
`BaseTrainer.train_step`. pythae trains on gray levels, because it does not binarise.

As it comes, pythae's loader reads one example at a time and stacks them. With `whole batches` the trainer receives
batches from one index operation, which measures the trainer without the loader.
"""

import logging
import tempfile
import time
from importlib.metadata import version

import torch
from pythae.data.datasets import BaseDataset, DatasetOutput
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from torch import nn
from training_nets import NETS, pixels, serve

LATENT_DIM = 50


class Encoder(BaseEncoder):
    """784-200-200-50, as torch_loop.Dense."""

    def __init__(self):
        super().__init__()
        self.stack = nn.Sequential(nn.Flatten(), nn.Linear(784, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh())
        self.z_mean, self.z_log_var = nn.Linear(200, LATENT_DIM), nn.Linear(200, LATENT_DIM)

    def forward(self, x):
        """Return mean and log variance of z."""
        state = self.stack(x)
        return ModelOutput(embedding=self.z_mean(state), log_covariance=self.z_log_var(state))


class Decoder(BaseDecoder):
    """50-200-200-784; pythae's loss asks for probabilities, not logits."""

    def __init__(self):
        super().__init__()
        self.stack = nn.Sequential(
            nn.Linear(LATENT_DIM, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh(), nn.Linear(200, 784), nn.Sigmoid(),
            nn.Unflatten(1, (1, 28, 28)),
        )  # fmt: skip

    def forward(self, z):
        """Return the probability of each pixel."""
        return ModelOutput(reconstruction=self.stack(z))


class WholeBatches:
    """Replacement of the DataLoader that makes each batch by one index operation."""

    def __init__(self, dataset, batch):
        self.dataset, self.batch = dataset, batch

    def __len__(self):
        return len(self.dataset) // self.batch

    def __iter__(self):
        order = torch.randperm(len(self.dataset))
        for start in range(0, len(self) * self.batch, self.batch):
            index = order[start : start + self.batch]
            yield DatasetOutput(data=self.dataset.data[index], labels=self.dataset.labels[index])


class Run:
    """One trainer with its data in memory; `epoch` is one call of its `train_step`."""

    def __init__(self, net, examples, loader):
        if net != "dense-100":
            raise SystemExit(f"pythae is compared on the net dense-100 alone, got {net}.")
        batch = NETS[net].batch
        x = torch.from_numpy(pixels(net, examples)).permute(0, 3, 1, 2)
        dataset = BaseDataset(x.float() / 255, torch.zeros(examples))
        config = VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENT_DIM, reconstruction_loss="bce")
        settings = BaseTrainerConfig(
            output_dir=tempfile.mkdtemp(), per_device_train_batch_size=batch, learning_rate=1e-3, no_cuda=True
        )
        self.trainer = BaseTrainer(VAE(config, Encoder(), Decoder()), dataset, training_config=settings)
        self.trainer.prepare_training()
        # Without its progress bars and printed metrics.
        self.trainer.callback_handler.callbacks = self.trainer.callback_handler.callbacks[:1]
        if loader == "whole batches":
            self.trainer.train_loader = WholeBatches(dataset, batch)
        self.parameters = sum(each.numel() for each in self.trainer.model.parameters())
        self.count = 0

    def train(self, epochs):
        """Return seconds and the mean loss of the last epoch."""
        began = time.perf_counter()
        for _ in range(epochs):
            self.count += 1
            loss = self.trainer.train_step(self.count)
        return time.perf_counter() - began, float(loss)


def main():
    logging.disable(logging.INFO)
    facts = {"torch": torch.__version__, "threads": torch.get_num_threads(), "pythae": version("pythae")}
    serve(facts | {"devices": "cpu"}, Run)


if __name__ == "__main__":
    main()
