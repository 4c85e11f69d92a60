"""Is `fit` of kvae as fast as hand-written PyTorch and JAX loops and pythae's trainer? Examples per second.

    python benchmarks/training_speed.py --peers peers                 # on the CPU
    python benchmarks/training_speed.py --device gpu --json speed.json

All train the same networks (training_nets.py) with the same batches, Adam and learning rate, on MNIST-like bytes with
dynamic binarisation: 784-200-200-50 in batches of 100 and 1024, convolutions at 28 x 28 and at 64 x 64. Each engine
runs in its own process: kvae under TensorFlow, JAX and PyTorch, a PyTorch loop (eager and compiled), a JAX loop, and
pythae. Each peer runs in several forms, and the fastest counts. The engines take turns of some epochs, so that a busy
moment of the machine affects all of them. A turn is void if other processes used more than `--limit` of the
processors.

Engines that are not installed are skipped. An engine uses the interpreter of `--python ENGINE=PATH`, else the
environment `--peers`, which is created if it does not exist (PyTorch, pythae and JAX from PyPI), else this interpreter.
pythae does not binarise, so it trains on gray levels: once as it is, once with whole batches passed to its trainer. All
engines use their default threads, kvae those of `kvae train`. On a CPU the fastest form of PyTorch for dense networks
also runs with one thread.
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

from training_nets import NETS

PEERS = ("torch==2.13.0", "pythae==0.1.2", "jax==0.10.2")
SCRIPTS = {
    "kvae-tensorflow": "kvae_fit.py",
    "kvae-jax": "kvae_fit.py",
    "kvae-torch": "kvae_fit.py",
    "torch": "torch_loop.py",
    "jax": "jax_loop.py",
    "pythae": "pythae_trainer.py",
}
#: Lowest acceptable ratio of kvae to the best form of a peer, by device.
GOALS = {
    "cpu": {"torch, eager": 1.25, "torch, compiled": None, "jax": None, "pythae": 2.0},
    "gpu": {"torch, eager": 2.0, "torch, compiled": None, "jax": 0.8},
}
EPOCHS = {"cpu": 2, "gpu": 10}  # per turn


def forms(engine, net, device):
    """Return the forms of an engine: the name in the table, and the fields of a request."""
    if engine.startswith("kvae"):
        return {f"{engine}, {adam}.Adam": {"optimizer": adam} for adam in ("kvae", "keras")}
    if engine == "jax":
        both = itertools.product(("scan", "step"), ("threefry2x32", "rbg"))
        return {f"jax, {loop}, {random}": {"loop": loop, "random": random} for loop, random in both}
    if engine == "pythae":
        loaders = ("as it comes", "whole batches") if net == "dense-100" and device == "cpu" else ()
        return {f"pythae, {loader}": {"loader": loader} for loader in loaders}
    convolutional, found = NETS[net].kind == "conv", {}
    for memory in ("contiguous_format", "channels_last") if convolutional else ("contiguous_format",):
        for optimizer, data in (("", "uint8"), ("fused", "uint8"), ("fused", "float32")):
            name = f"torch, eager, {optimizer or 'default'} Adam, {data}, {memory}"
            found[name] = {"optimizer": optimizer, "memory": memory, "data": data, "compile": ""}
        if device == "cpu" and not convolutional:
            form = {"optimizer": "fused", "memory": memory, "data": "uint8", "compile": "", "threads": 1}
            found[f"torch, eager, fused Adam, uint8, {memory}, one thread"] = form
        for mode in ("default", "reduce-overhead")[: 2 if device == "gpu" else 1]:
            form = {"optimizer": "fused", "memory": memory, "data": "uint8", "compile": mode}
            found[f"torch, compiled ({mode}), {memory}"] = form
    return found


class AbsentError(Exception):
    """An engine is not installed, or does not see the device."""


class Engine:
    """Process of an engine, which waits between turns."""

    def __init__(self, name, python, device, net):
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - as long as the process
        environment = os.environ | {"KERAS_BACKEND": name.removeprefix("kvae-"), "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
        environment |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # they share one GPU
        if device == "cpu":
            environment |= {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
        environment["PYTHONPATH"] = os.pathsep.join(
            [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        )
        self._process = subprocess.Popen(
            [python, str(Path(__file__).with_name(SCRIPTS[name])), net], text=True, env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said,
        )  # fmt: skip
        self.pid, first = self._process.pid, self._process.stdout.readline()
        if not first:
            self._process.wait()
            *_, last = self._errors() or ["it ended without a message"]
            if "ImportError" in last or "ModuleNotFoundError" in last:
                raise AbsentError(last)
            raise SystemExit(f"{name} does not start: {last}")
        self.metadata = json.loads(first)
        if self.metadata.pop("devices") != device:
            self.stop()
            raise AbsentError(f"it sees no {device}")

    def ask(self, request):
        """Run one turn; return seconds and loss."""
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        if answer := self._process.stdout.readline():
            return json.loads(answer)
        raise SystemExit("\n".join([f"An engine ended on the request {request}:", *self._errors()[-20:]]))

    def stop(self):
        """End the process, between turns."""
        self._process.stdin.close()
        self._process.wait()

    def _errors(self):
        self._said.seek(0)
        return self._said.read().strip().splitlines()


class Others:
    """Share of the processors that other processes used, from /proc; 0 without /proc."""

    def __init__(self, ours):
        self.ours = ours
        self.last = self._ticks()

    def since_last(self):
        """Return the share since the last call, 0 to 1."""
        before, self.last = self.last, self._ticks()
        total, busy, own = (now - then for now, then in zip(self.last, before, strict=True))
        return max(0, busy - own) / max(1, total)

    def wait(self, limit, end):
        """Wait until the machine is quiet; return False if it is not before `end`."""
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


def measure(turns_of, others, turns, limit, patience):
    """Return up to `turns` answers of each form, taken in rotation after a first turn, and the number of void turns."""
    kept, void = {name: [] for name in turns_of}, 0
    for name, turn in turns_of.items():
        began = time.monotonic()
        turn()
        print(f"  {name}: first turn, compiling included, {time.monotonic() - began:.0f} s", file=sys.stderr)
    end = time.monotonic() + patience
    while min(map(len, kept.values())) < turns and time.monotonic() < end:
        for name, turn in sorted(turns_of.items(), key=lambda item: len(kept[item[0]])):
            if len(kept[name]) == turns or not others.wait(limit, end):
                continue
            answer = turn()
            if others.since_last() <= limit:
                kept[name].append(answer)
            else:
                void += 1
    if min(map(len, kept.values())) < 3:
        raise SystemExit(
            f"Other processes took more than {limit:.0%} of the machine for too long; try when it is quiet."
        )
    return kept, void


def peers_python(folder):
    """Return the interpreter of the peers' environment, which is created if it does not exist."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEERS], check=True)
    return str(python)


def start(arguments, net):
    """Return the installed engines by name, for one network, and print which are skipped."""
    named = dict(each.split("=", 1) for each in arguments.python)
    engines = {}
    for name in arguments.engine or SCRIPTS:
        python = named.get(name, sys.executable)
        if arguments.peers and name not in named and not name.startswith("kvae"):
            python = peers_python(arguments.peers)
        try:
            engines[name] = Engine(name, python, arguments.device, net)
            print(f"{name}: {', '.join(f'{what} {value}' for what, value in engines[name].facts.items())}")
        except AbsentError as reason:
            print(f"{name}: skipped, {reason}")
    if not engines:
        raise SystemExit("No engine is installed.")
    return engines


def report(net, engines, others, arguments):
    """Measure one net, print its table, and return it."""
    plan, device = NETS[net], arguments.device
    examples, epochs = arguments.examples or plan.examples[device], arguments.epochs or EPOCHS[device]
    turns_of = {}
    for engine, process in engines.items():
        for name, form in forms(engine, net, device).items():
            request = {"net": net, "examples": examples, "epochs": epochs, **form}
            if any(name.startswith(wanted) for wanted in arguments.only or [""]):
                turns_of[name] = lambda process=process, request=request: process.ask(request)
    kept, void = measure(turns_of, others, arguments.turns, arguments.limit, arguments.patience)
    sizes = {name: each[0]["parameters"] for name, each in kept.items()}
    if len(set(sizes.values())) > 1:
        raise SystemExit(f"The networks differ in their number of parameters: {sizes}")
    trained = epochs * (examples // plan.batch) * plan.batch
    speed = {name: trained / statistics.median(each["seconds"] for each in kept[name]) for name in kept}
    print(f"\n{net}: {epochs} epochs of {examples} examples a turn, in batches of {plan.batch}; {void} turns were void")
    rows = {}
    for name, value in speed.items():
        seconds = [each["seconds"] for each in kept[name]]
        spread, loss = max(seconds) / min(seconds), kept[name][-1]["loss"]
        rows[name] = {"examples_per_second": value, "turns": len(seconds), "spread": spread, "loss": loss}
        print(
            f"  {name:58s} {value:9.0f} examples/s   {len(seconds)} turns, slowest / fastest {spread:.2f}, "
            f"loss after {(len(seconds) + 1) * epochs} epochs or more {loss:.1f}"
        )
    ratios = {}
    for own in ("kvae-tensorflow", "kvae-jax", "kvae-torch"):
        ours = max((value for name, value in speed.items() if name.startswith(own)), default=None)
        for peer, least in GOALS[device].items():
            rivals = [value for name, value in speed.items() if name.startswith(peer)]
            if ours and rivals:
                ratio = ratios[f"{own} / {peer}"] = ours / max(rivals)
                verdict = f" (goal {least}: {'reached' if ratio >= least else 'missed'})" if least else ""
                print(f"  ratio of {own} to the best of {peer}: {ratio:.2f}{verdict}")
    return {"epochs": epochs, "examples": examples, "batch": plan.batch, "void": void, "forms": rows, "ratios": ratios}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--net", choices=NETS, action="append", help="Network; may be repeated.  [default: all]")
    parser.add_argument("--engine", choices=SCRIPTS, action="append", help="Engine; may be repeated.  [default: all]")
    parser.add_argument("--only", action="append", metavar="FORM", help="Prefix of the forms to run; may be repeated.")
    parser.add_argument(
        "--python", action="append", default=[], metavar="ENGINE=PATH", help="Interpreter of an engine."
    )
    parser.add_argument("--peers", type=Path, help="Folder of the peers' environment, created if it does not exist.")
    parser.add_argument("--turns", type=int, default=15, help="Turns of each form; the median counts.")
    parser.add_argument("--epochs", type=int, help="Epochs per turn.  [default: 2 on a CPU, 10 on a GPU]")
    parser.add_argument("--examples", type=int, help="Examples per epoch.  [default: by network and device]")
    parser.add_argument("--limit", type=float, default=0.1, help="Share of the machine for other processes in a turn.")
    parser.add_argument("--patience", type=float, default=600.0, help="Seconds for each network after compilation.")
    parser.add_argument("--json", type=Path, help="Also write all figures to this file.")
    arguments = parser.parse_args()

    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, on the {arguments.device}"
    )
    facts, tables = {}, {}
    for net in arguments.net or NETS:
        engines = start(arguments, net)  # new processes, because kvae's use of the processors depends on the network
        others = Others([os.getpid(), *(each.pid for each in engines.values())])
        tables[net] = report(net, engines, others, arguments)
        facts |= {name: each.metadata for name, each in engines.items()}
        for each in engines.values():
            each.stop()
        if arguments.json:  # at once, because a later network may fail
            document = {"device": arguments.device, "engines": facts, "nets": tables}
            arguments.json.write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
