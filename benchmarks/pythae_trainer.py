"""The same dense VAE trained by pythae's own trainer, for training_speed.py.

Runs in an environment of its own (pythae and PyTorch). Reads one JSON request a line from standard input, `{"net":
"dense", "loader": "as it comes" or "whole batches", "batch": B, "examples": N}`, trains one epoch by
`BaseTrainer.train_step`, and answers with a line `{"seconds": ..., "loss": ...}`. pythae trains on gray levels: it has
no binarisation to pay for.

As it comes, pythae's loader picks one example at a time and stacks them. `whole batches` hands its trainer batches
cut by one index, so that the trainer and not the loader is what is measured.
"""

import json
import logging
import os
import sys
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
    """What the trainer needs of a DataLoader, with each batch cut by one index."""

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

    def __init__(self, net, loader, batch, examples):
        if net != "dense":
            raise SystemExit(f"pythae is compared on the dense net alone, got {net}.")
        pixels = torch.randint(0, 256, (examples, 1, 28, 28), dtype=torch.uint8)
        pixels *= torch.rand(pixels.shape) < 0.2  # about as many black pixels as MNIST has
        dataset = BaseDataset(pixels.float() / 255, torch.zeros(examples))
        config = VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENT_DIM, reconstruction_loss="bce")
        settings = BaseTrainerConfig(
            output_dir=tempfile.mkdtemp(), per_device_train_batch_size=batch, learning_rate=1e-3, no_cuda=True
        )
        self.trainer = BaseTrainer(VAE(config, Encoder(), Decoder()), dataset, training_config=settings)
        self.trainer.prepare_training()
        # Its progress bars and printed metrics are left out of what is measured.
        self.trainer.callback_handler.callbacks = self.trainer.callback_handler.callbacks[:1]
        if loader == "whole batches":
            self.trainer.train_loader = WholeBatches(dataset, batch)
        self.count = 0

    def epoch(self):
        """Seconds and the mean loss of one epoch, in nats per example."""
        self.count += 1
        began = time.perf_counter()
        loss = self.trainer.train_step(self.count)
        return {"seconds": time.perf_counter() - began, "loss": float(loss)}


def main():
    answers = os.fdopen(os.dup(1), "w")
    # pythae prints and logs; standard output is for the answers, standard error for what ends it.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    logging.disable(logging.INFO)
    facts = {"torch": torch.__version__, "threads": torch.get_num_threads(), "pythae": version("pythae")}
    print(json.dumps(facts), flush=True, file=answers)
    runs = {}
    for line in sys.stdin:
        if line not in runs:
            runs[line] = Run(**json.loads(line))
        print(json.dumps(runs[line].epoch()), flush=True, file=answers)


if __name__ == "__main__":
    main()
