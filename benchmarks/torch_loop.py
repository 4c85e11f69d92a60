"""A VAE trained by a hand-written PyTorch loop that is optimised for speed, for training_speed.py.

The data are on the device. Only the sum of the losses is read back, at the end. Forms: `optimizer` is Adam's default
(empty) or `fused`; `memory` a memory format; `data` is `uint8` or `float32`; `compile` is empty (eager) or the mode of
`torch.compile` for the objective; `threads` is the number of threads per operation, 0 for PyTorch's default.
"""

import itertools
import time

import torch
from torch import nn
from torch.nn import functional
from training_nets import DENSE, NETS, pixels, serve

THREADS = torch.get_num_threads()


class Dense(nn.Module):
    """As kvae.networks.dense_encoder and dense_decoder build it, with tanh."""

    def __init__(self, plan):
        super().__init__()
        values, back = plan.shape[0] * plan.shape[1] * plan.shape[2], plan.widths[::-1]
        self.encoder = nn.Sequential(nn.Flatten(), *_stack((values, *plan.widths), nn.Tanh))
        self.z_mean, self.z_log_var = (nn.Linear(plan.widths[-1], plan.latent_dim) for _ in range(2))
        self.decoder = nn.Sequential(
            *_stack((plan.latent_dim, *back), nn.Tanh), nn.Linear(back[-1], values),
            nn.Unflatten(1, (plan.shape[2], *plan.shape[:2])),
        )  # fmt: skip


class Conv(nn.Module):
    """Convolutions of stride 2 and a dense layer, and back, as conv_encoder and conv_decoder build it."""

    def __init__(self, plan):
        super().__init__()
        channels, back = plan.shape[2], plan.widths[::-1]
        height, width = (side // 2 ** len(plan.widths) for side in plan.shape[:2])
        flat, layers = height * width * plan.widths[-1], []
        for into, out in zip((channels, *plan.widths), plan.widths, strict=False):
            layers += [nn.Conv2d(into, out, 4, stride=2, padding=1), nn.ReLU()]
        self.encoder = nn.Sequential(*layers, nn.Flatten(), *_stack((flat, DENSE), nn.ReLU))
        self.z_mean, self.z_log_var = (nn.Linear(DENSE, plan.latent_dim) for _ in range(2))
        layers = [*_stack((plan.latent_dim, DENSE, flat), nn.ReLU), nn.Unflatten(1, (back[0], height, width))]
        for into, out in zip(back, (*back[1:], back[-1]), strict=True):
            layers += [nn.ConvTranspose2d(into, out, 4, stride=2, padding=1), nn.ReLU()]
        self.decoder = nn.Sequential(*layers, nn.ConvTranspose2d(back[-1], channels, 3, padding=1))


def _stack(widths, activation):
    for into, out in itertools.pairwise(widths):
        yield from (nn.Linear(into, out), activation())


def objective(model, x):
    """Mean of reconstruction + kl over a batch of gray levels in [0, 1], in nats."""
    x = (torch.rand_like(x) < x).to(x.dtype)
    state = model.encoder(x)
    z_mean, z_log_var = model.z_mean(state), model.z_log_var(state)
    z = z_mean + torch.exp(0.5 * z_log_var) * torch.randn_like(z_mean)
    reconstruction = functional.binary_cross_entropy_with_logits(model.decoder(z), x, reduction="sum")
    kl = 0.5 * torch.sum(z_mean.square() + z_log_var.exp() - 1.0 - z_log_var)
    return (reconstruction + kl) / len(x)


class Run:
    """One model with its optimiser and its data on the device."""

    def __init__(self, net, examples, optimizer, memory, data, compile, threads=0):
        torch.manual_seed(0)
        self.threads = threads or THREADS
        plan = NETS[net]
        self.batch, self.device = plan.batch, "cuda" if _has_gpu() else "cpu"
        self.memory_format = getattr(torch, memory)
        model = {"dense": Dense, "conv": Conv}[plan.kind](plan)
        self.model = model.to(self.device, memory_format=self.memory_format)
        self.parameters = sum(each.numel() for each in model.parameters())
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, **{optimizer: True} if optimizer else {})
        x = torch.from_numpy(pixels(net, examples)).permute(0, 3, 1, 2).contiguous().to(self.device)
        self.data = x if data == "uint8" else x.float() / 255
        self.objective = torch.compile(objective, mode=compile) if compile else objective

    def train(self, epochs):
        """Return seconds and the mean loss of the last epoch."""
        torch.set_num_threads(self.threads)
        began = time.perf_counter()
        steps = len(self.data) // self.batch
        for _ in range(epochs):
            total = torch.zeros((), device=self.device)
            order = torch.randperm(len(self.data), device=self.device)
            for step in range(steps):
                x = self.data[order[step * self.batch : (step + 1) * self.batch]]
                if x.dtype == torch.uint8:
                    x = x.float() / 255
                self.optimizer.zero_grad(set_to_none=True)
                loss = self.objective(self.model, x.contiguous(memory_format=self.memory_format))
                loss.backward()
                self.optimizer.step()
                total += loss.detach()
        loss = total.item() / steps  # Waits for all of it.
        return time.perf_counter() - began, loss


def _has_gpu():
    return torch.cuda.is_available()


def main():
    # The default of TensorFlow and JAX on a GPU.
    torch.set_float32_matmul_precision("high")
    devices = "gpu" if _has_gpu() else "cpu"
    serve({"torch": torch.__version__, "threads": THREADS, "devices": devices}, Run)


if __name__ == "__main__":
    main()
