"""How fast does `fit` train, against a hand-written PyTorch loop and pythae's trainer? Examples a second.

The same networks, batch, Adam and learning rate, MNIST-like bytes in memory, dynamic binarisation, two nets: that of
the preset iwae-paper, 784-200-200-50 tanh in batches of 100 (dense), and two convolutions of stride 2 each way with
latent_dim 16 in batches of 128 (conv). PyTorch is given each of its good forms (Adam as it comes and fused; bytes and
floats; both memory formats where there are convolutions), and the better one is what counts. All take turns of two
epochs, so that a busy moment of the machine hits all of them; a turn in which other processes took more than
`--limit` of the machine does not count. pythae trains the dense net on gray levels, for it does not binarise: once as
it comes, once with batches handed to its trainer whole.

    python benchmarks/training_speed.py --peers peers

PyTorch and TensorFlow live apart: the first run makes the environment of the peers in the folder given. All run with
their default threads. On a machine that is not quiet the ratio moves by a tenth in either direction.
"""

import argparse
import json
import os
import statistics
import subprocess
import time
import venv
from pathlib import Path

BATCH, SHAPE = {"dense": 100, "conv": 128}, (28, 28, 1)
PEERS = ("torch==2.13.0", "pythae==0.1.2")
#: Goal of the ratio to PyTorch, and the examples of an epoch: MNIST's in full batches, and what conv does in as long.
GOALS = {"dense": (1.25, 60_000), "conv": (1.2, 5_120)}
PYTHAE_GOAL = 2.0
EPOCHS = 2  # of one turn
STEPS_PER_EXECUTION = {"dense": 50, "conv": 20}
_DATA = {"dense": ("uint8", "float32"), "conv": ("uint8",)}
_MEMORY = {"dense": ("contiguous_format",), "conv": ("contiguous_format", "channels_last")}


class Fit:
    """kvae: one `fit` a turn."""

    def __init__(self, net, examples, optimizer):
        import keras
        import numpy as np

        from kvae import networks, optimizers
        from kvae.data import pipeline
        from kvae.models import VAE

        generator = np.random.default_rng(0)
        x = generator.integers(0, 256, (examples, *SHAPE)) * (generator.random((examples, *SHAPE)) < 0.2)
        self.batches, self.epoch = pipeline.training_batches(x.astype("uint8"), None, BATCH[net], seed=0), 0
        if net == "dense":
            encoder = networks.dense_encoder(SHAPE, 50, (200, 200), "tanh")
            decoder = networks.dense_decoder(SHAPE, 50, (200, 200), "tanh")
        else:
            encoder = networks.conv_encoder(SHAPE, 16, (32, 64), dense=256)
            decoder = networks.conv_decoder(SHAPE, 16, (64, 32), dense=256)
        self.model = VAE(encoder, decoder)
        adam = optimizers.Adam if optimizer == "fused" else keras.optimizers.Adam
        self.model.compile(adam(1e-3), steps_per_execution=STEPS_PER_EXECUTION[net])

    def turn(self):
        """Seconds of a turn, from the call of `fit` to its return."""
        began = time.perf_counter()
        self.model.fit(
            self.batches.dataset, initial_epoch=self.epoch, epochs=self.epoch + EPOCHS,
            callbacks=[self.batches.callback], shuffle=False, verbose=0,
        )  # fmt: skip
        self.epoch += EPOCHS
        return time.perf_counter() - began


class Peer:
    """torch_loop.py or pythae_trainer.py, in a process of its own that waits between turns."""

    def __init__(self, process, **request):
        self.process, self.request = process, json.dumps(request)

    def turn(self):
        """Seconds of a turn, as the loop measured them."""
        return sum(ask(self.process, self.request)["seconds"] for _ in range(EPOCHS))


def ask(process, line):
    process.stdin.write(line + "\n")
    process.stdin.flush()
    if not (answer := process.stdout.readline()):
        raise SystemExit(f"A peer ended on the request {line}; what it wrote is above.")
    return json.loads(answer)


class Others:
    """The share of the machine that other processes took, where /proc tells; 0 elsewhere."""

    def __init__(self, ours):
        self.ours = ours
        self.last = self._ticks()

    def since_last(self):
        """Share since the last call, 0 to 1."""
        before, self.last = self.last, self._ticks()
        total, busy, own = (now - then for now, then in zip(self.last, before, strict=True))
        return max(0, busy - own) / max(1, total)

    def wait(self, limit, end):
        """Wait until the others leave the machine alone; False where they do not before `end`."""
        while time.monotonic() < end:
            self.since_last()
            time.sleep(0.2)
            if self.since_last() <= limit:
                return True
        return False

    def _ticks(self):
        try:
            user, nice, system, idle, wait, *rest = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
        except OSError:
            return 0, 0, 0
        busy, own = user + nice + system + sum(rest), 0
        for pid in self.ours:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            own += int(fields[11]) + int(fields[12])
        return busy + idle + wait, busy, own


def measure(runners, others, turns, limit, patience):
    """Seconds a turn by runner: up to `turns` of each, taken in rotation after a first one; and how many were void."""
    seconds, void, end = {name: [] for name in runners}, 0, time.monotonic() + patience
    for runner in runners.values():
        runner.turn()
    while min(map(len, seconds.values())) < turns and time.monotonic() < end:
        for name, runner in sorted(runners.items(), key=lambda item: len(seconds[item[0]])):
            if len(seconds[name]) == turns or not others.wait(limit, end):
                continue
            taken = runner.turn()
            if others.since_last() <= limit:
                seconds[name].append(taken)
            else:
                void += 1
    if min(map(len, seconds.values())) < 3:
        raise SystemExit(
            f"Other processes took more than {limit:.0%} of the machine for too long; try when it is quiet."
        )
    return seconds, void


def peers_python(folder):
    """The interpreter of the peers' environment, which is made where it is not there yet."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        venv.create(folder, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PEERS], check=True)
    return str(python)


def start(python, script):
    """A peer's process, and what it says of itself."""
    loop = [python, str(Path(__file__).with_name(script))]
    process = subprocess.Popen(loop, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return process, json.loads(process.stdout.readline())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, default=Path("peers"), help="Folder of the peers' environment.")
    parser.add_argument("--net", choices=[*GOALS, "both"], default="both")
    parser.add_argument("--turns", type=int, default=15, help="Turns of each; the median counts.")
    parser.add_argument("--limit", type=float, default=0.1, help="Share of the machine that others may take in a turn.")
    parser.add_argument(
        "--patience", type=float, default=600.0, help="Seconds for each net, waiting for quiet included."
    )
    arguments = parser.parse_args()

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import tensorflow as tf

    python = peers_python(arguments.peers)
    (torch, facts), (pythae, pythae_facts) = start(python, "torch_loop.py"), start(python, "pythae_trainer.py")
    with torch, pythae:
        threads = os.environ.get("TF_NUM_INTRAOP_THREADS", "default")
        others = Others([os.getpid(), torch.pid, pythae.pid])
        print(
            f"{os.cpu_count()} cores, TensorFlow {tf.__version__}, Keras {keras.__version__}, PyTorch {facts['torch']} "
            f"({facts['threads']} threads), pythae {pythae_facts['pythae']}, threads an operation in TensorFlow: "
            f"{threads}, median of up to {arguments.turns} turns"
        )
        for net in GOALS if arguments.net == "both" else [arguments.net]:
            report(net, torch, pythae, others, arguments)
        for process in (torch, pythae):
            process.stdin.close()


def report(net, torch, pythae, others, arguments):
    goal, examples = GOALS[net]
    runners = {"kvae, kvae.optimizers.Adam": Fit(net, examples, "fused")}
    runners["kvae, keras.optimizers.Adam"] = Fit(net, examples, "keras")
    for memory in _MEMORY[net]:
        for data in _DATA[net]:
            for optimizer in ("", "fused"):
                name = " ".join(["torch,", optimizer or "default", "Adam,", data, memory])
                runners[name] = Peer(
                    torch, net=net, optimizer=optimizer, memory=memory, data=data, batch=BATCH[net], examples=examples
                )
    if net == "dense":
        for loader in ("as it comes", "whole batches"):
            runners[f"pythae, {loader}"] = Peer(pythae, net=net, loader=loader, batch=BATCH[net], examples=examples)
    seconds, void = measure(runners, others, arguments.turns, arguments.limit, arguments.patience)
    speed = {name: EPOCHS * examples / statistics.median(taken) for name, taken in seconds.items()}
    print(f"\n{net}: {EPOCHS} epochs of {examples} examples a turn, in batches of {BATCH[net]}")
    print(f"  {void} turns void because others took the machine")
    for name, value in speed.items():
        spread = max(seconds[name]) / min(seconds[name])
        print(f"  {name:46s} {value:8.0f} examples/s   {len(seconds[name])} turns, slowest / fastest {spread:.2f}")
    for peer, least in (("torch", goal), ("pythae", PYTHAE_GOAL)):
        if rivals := [value for name, value in speed.items() if name.startswith(peer)]:
            ratio = speed["kvae, kvae.optimizers.Adam"] / max(rivals)
            verdict = "reached" if ratio >= least else "missed"
            print(f"  ratio to the best of {peer}: {ratio:.2f} (goal {least}: {verdict})")


if __name__ == "__main__":
    main()
