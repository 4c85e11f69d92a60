"""A VAE trained by a hand-written PyTorch loop, as one who cares for speed writes it, for training_speed.py.

Runs in an environment of its own (PyTorch without TensorFlow). Reads one JSON request a line from standard input,
`{"net": ..., "optimizer": ..., "memory": ..., "data": ..., "batch": B, "examples": N}`, trains one epoch, and answers
with a line `{"seconds": ..., "loss": ...}`. Nothing is read from a step but by the sum of the losses at the end of the
epoch.
"""

import json
import sys
import time

import torch
from torch import nn
from torch.nn import functional


class Dense(nn.Module):
    """784-200-200-50, as kvae.networks.dense_encoder and dense_decoder build it."""

    def __init__(self, latent_dim=50):
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh())
        self.z_mean, self.z_log_var = nn.Linear(200, latent_dim), nn.Linear(200, latent_dim)
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh(), nn.Linear(200, 784),
            nn.Unflatten(1, (1, 28, 28)),
        )  # fmt: skip


class Conv(nn.Module):
    """Two convolutions of stride 2 and a dense layer, and back, as conv_encoder and conv_decoder build it."""

    def __init__(self, latent_dim=16):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 32, 4, stride=2, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 4, stride=2, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(3136, 256), nn.ReLU(),
        )  # fmt: skip
        self.z_mean, self.z_log_var = nn.Linear(256, latent_dim), nn.Linear(256, latent_dim)
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, 256), nn.ReLU(), nn.Linear(256, 3136), nn.ReLU(), nn.Unflatten(1, (64, 7, 7)),
            nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1), nn.ReLU(),
            nn.ConvTranspose2d(32, 32, 4, stride=2, padding=1), nn.ReLU(), nn.ConvTranspose2d(32, 1, 3, padding=1),
        )  # fmt: skip


class Run:
    """One model with its optimiser and its data in memory; `epoch` trains it on all examples once."""

    def __init__(self, net, optimizer, memory, data, batch, examples):
        torch.manual_seed(0)
        self.batch = batch
        self.memory_format = getattr(torch, memory)
        self.model = {"dense": Dense, "conv": Conv}[net]().to(memory_format=self.memory_format)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, **{optimizer: True} if optimizer else {})
        pixels = torch.randint(0, 256, (examples, 1, 28, 28), dtype=torch.uint8)
        pixels *= torch.rand(pixels.shape) < 0.2  # about as many black pixels as MNIST has
        self.data = pixels if data == "uint8" else pixels.float() / 255

    def epoch(self):
        """Seconds and the mean loss of one epoch, in nats per example."""
        began, cpu = time.perf_counter(), time.process_time()
        total, order = torch.zeros(()), torch.randperm(len(self.data))
        steps = len(self.data) // self.batch
        for step in range(steps):
            x = self.data[order[step * self.batch : (step + 1) * self.batch]]
            if x.dtype == torch.uint8:
                x = x.float() / 255
            x = (torch.rand_like(x) < x).to(torch.float32, memory_format=self.memory_format)
            self.optimizer.zero_grad(set_to_none=True)
            state = self.model.encoder(x)
            z_mean, z_log_var = self.model.z_mean(state), self.model.z_log_var(state)
            z = z_mean + torch.exp(0.5 * z_log_var) * torch.randn_like(z_mean)
            logits = self.model.decoder(z)
            reconstruction = functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
            kl = 0.5 * torch.sum(z_mean.square() + z_log_var.exp() - 1.0 - z_log_var)
            loss = (reconstruction + kl) / self.batch
            loss.backward()
            self.optimizer.step()
            total += loss.detach()
        mean = total.item() / steps
        return {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu, "loss": mean}


def main():
    print(json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads()}), flush=True)
    runs = {}
    for line in sys.stdin:
        if line not in runs:
            runs[line] = Run(**json.loads(line))
        print(json.dumps(runs[line].epoch()), flush=True)


if __name__ == "__main__":
    main()
