"""What is asked of every engine, in a process of its own: `python on_engine.py FOLDER` writes its answers there.

`KERAS_BACKEND` names the engine. Where that is not TensorFlow, a first run of training leaves it alone, whatever is
installed; after that there is none: an import of it fails, as on a machine that has JAX alone.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np

from kvae.backends import startup
from kvae.training import checkpoint, run_folder

#: What kvae needs of TensorFlow, under another engine for export alone.
BESIDE = ("tensorflow", "tf2onnx", "onnx")
#: What a run of training is: the flags of `kvae train`.
RUN = [
    "--data", "mnist-sample", "--conditional", "--validation", "100", "--epochs", "4", "--batch-size", "50",
    "--latent-dim", "4", "--encoder-hidden", "48", "--decoder-hidden", "48", "--checkpoint-every", "1",
    "--steps-per-execution", "5", "--beta", "2", "--warmup-epochs", "3", "--no-export-check",
]  # fmt: skip
#: Settings whose first loss is asked for, by name.
FIRST = {
    "conv": {"network": "conv", "encoder_filters": (4, 8), "decoder_filters": (8, 4), "encoder_hidden": (16,),
             "decoder_hidden": (16,), "conditional": True, "likelihood": "gaussian", "latent_dim": 3,
             "objective": "importance_weighted", "num_samples": 3, "prior": "gaussian_mixture"},
    "gated": {"gated": True, "objective": "total_correlation", "encoder_hidden": (16,), "decoder_hidden": (16,),
              "prior": "vamp", "activation": "tanh"},
    "bfloat16": {"mixed_precision": True, "encoder_hidden": (64,), "decoder_hidden": (64,)},
}  # fmt: skip


def answer(folder):
    """Write all answers into a folder that may hold a model of the other engine, `other.keras`."""
    # The command comes first, as it opens Keras by itself. (Determinism, once asked for, is there for the whole
    # process: not for that of the other tests.)
    alone = startup.chosen() != "tensorflow"
    assert command("train", *RUN, *["--deterministic"] * alone, "-o", folder / "run") == 0
    found = {"opened": [name for name in BESIDE if name in sys.modules], "first": {}}
    if alone:
        sys.modules.update(dict.fromkeys(BESIDE))
    import keras

    from kvae import backends
    from kvae.data import sources
    from kvae.models.vae import load_model
    from kvae.training import config
    from kvae.training.distribution import Distribution
    from kvae.training.setup import prepare

    ops = keras.ops
    noise = [backends.Noise(3, ops.convert_to_tensor(7), test) for test in (False, True)]
    grey = ops.convert_to_tensor(np.linspace(0, 1, 6 * 785, dtype="float32").reshape(6, 785))
    drawn = [ops.convert_to_numpy(draw) for each in noise for draw in (each.normal(grey), each.bernoulli(grey))]
    np.savez(folder / "noise.npz", *drawn)

    for name, changes in FIRST.items():
        wanted = config.Config().replace(
            data="mnist-sample", batch_size=50, validation=100, seed=5, steps_per_execution=1, **changes
        )
        setup = prepare(wanted, sources.from_config(wanted.data), Distribution())
        batches = iter(setup.batches.dataset)
        found["first"][name] = setup.model.train_on_batch(*next(batches), return_dict=True)
        if name == "conv":  # whose sigma learns without a gradient too
            setup.model.train_on_batch(*next(batches))
            found["after"] = setup.model.evaluate(setup.validation.dataset, verbose=0, return_dict=True)

    if (folder / "other.keras").exists():
        model, x = load_model(folder / "other.keras"), sources.load("mnist-sample", "train").x[:100]
        np.savez(folder / "gradients.npz", *gradients(load_model(folder / "other.keras"), x))
        found["other"] = model.evaluate(x, batch_size=50, verbose=0, return_dict=True)
        model.fit(x, batch_size=50, epochs=1, verbose=0)  # its optimiser goes on
        found["other_steps"] = model.steps_done()
    if alone:
        go_on(folder)
        found |= {"jax": ask_jax, "torch": ask_torch}[startup.chosen()](setup, folder)
        found["export"] = command("export", "run", "-o", "exported")
        found["tensorboard"] = command("train", *RUN, "-o", "other-run", "--tensorboard", "logs")
    (folder / "found.json").write_text(json.dumps(found, default=float))


def gradients(model, x):
    """Those of the first step on a batch, told from what a plain descent of rate 1 does to the weights."""
    import keras

    model.compile(keras.optimizers.SGD(1.0))
    before = model.get_weights()
    model.train_on_batch(x)
    return [old - new for old, new in zip(before, model.get_weights(), strict=True)]


def go_on(folder):
    """The same run in `cut`, cut off after its third epoch and resumed."""
    store = checkpoint.Store(shutil.copytree(folder / "run", folder / "cut") / run_folder.CHECKPOINTS)
    store.paths()[0].unlink()
    facts = json.loads((folder / "cut" / run_folder.METADATA).read_text()) | {"finished": False}
    (folder / "cut" / run_folder.METADATA).write_text(json.dumps(facts))
    assert command("train", "--resume", folder / "cut", "-q") == 0


def command(*arguments):
    """Run `kvae` in this process; return its exit code."""
    from kvae.__main__ import run

    return run(list(map(str, arguments)))


def ask_jax(setup, folder):
    """What can be asked of JAX alone: what its step is made of, and how often it is compiled."""
    import jax

    from kvae.backends.jax import step as backend

    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compiled.append(event) if event.endswith("backend_compile_duration") else None
    )
    model, batches = setup.model, list(setup.batches.dataset)
    counts = [len(compiled)]
    model.steps_per_execution = 4
    model.make_train_function(force=True)
    for _ in range(3):
        model.fit(setup.batches.dataset, epochs=1, verbose=0, shuffle=False)
        counts.append(len(compiled))
    state = model._get_jax_state(
        trainable_variables=True, non_trainable_variables=True, optimizer_variables=True, metrics_variables=True
    )

    def parts(batch):
        terms = model.terms(batch, backend.Noise(0, 0), training=False)
        return terms.reconstruction, terms.kl, model.objective(terms, 0)

    step = str(jax.make_jaxpr(model.train_step)(state, batches[0]))
    return {
        "num_batches": len(batches),
        "compiled": counts,
        "leaves_the_device": [word for word in ("callback", "infeed", "outfeed") if word in step],
        "products": [line.strip() for line in step.splitlines() if "dot_general" in line],
        "objective": [str(part.dtype) for part in jax.eval_shape(parts, batches[0])],
        "totals": _totals(backend.Totals()),
        "resident": _resident(folder, model),
    }


def ask_torch(setup, folder):
    """What can be asked of PyTorch alone: what its step is made of, and whether all that kvae has trains there."""
    import keras
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    from kvae.backends import philox
    from kvae.backends.torch import step as backend

    class Watch(TorchDispatchMode):
        """Sees each operation of a step, those of its gradient too."""

        def __init__(self):
            super().__init__()
            self.reads, self.products = 0, []

        def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
            result = function(*arguments, **(keywords or {}))
            self.reads += function == torch.ops.aten._local_scalar_dense.default
            if function in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default):
                self.products.append(str(result.dtype))
            return result

    model, batch = setup.model, next(iter(setup.batches.dataset))
    model.train_on_batch(*batch)
    with Watch() as watch:
        model.train_step(batch)
    found = {"reads": watch.reads, "products": watch.products}
    model.optimizer.iterations.assign(100)  # as no `train_step` does
    steps = [model.steps_done(), model.train_step(batch) and model.steps_done(), int(model.optimizer.iterations)]
    model.fit(setup.batches.dataset, epochs=1, verbose=0, shuffle=False)
    terms = model.terms(batch, backend.Noise(0, 0), training=False)
    parts = (terms.reconstruction, terms.kl, model.objective(terms, 0))
    words = backend.made_on(torch.device("cpu"), (2**31 - 1 + (3 << 32), 123_456), 4001)
    return found | {
        "steps": [*steps, model.steps_done() - len(setup.batches.dataset)],
        "latest": [sorted(model.latest.logs), type(model.latest.logs["loss"]).__name__],
        "objective": [keras.backend.standardize_dtype(part.dtype) for part in parts],
        "totals": _totals_of_torch(backend.Totals()),
        "words": bool(
            np.array_equal(words.numpy().view("uint32"), philox.words((2**31 - 1 + (3 << 32), 123_456), 4001))
        ),
        "resident": _resident_of_torch(folder),
        "losses": _losses_of_everything(),
    }


def _totals_of_torch(totals):
    import torch

    from kvae.loss_terms import Terms

    part = torch.full((1000,), 0.1234567)
    for _ in range(20_000):
        totals.update_state(part, Terms(part, part))
    return {name: float(value) for name, value in totals.result().items()} | {"batches": totals.batches}


def _resident_of_torch(folder):
    """As `_resident`: the run again, and what its batches are."""
    import keras
    import torch

    from kvae.backends.torch import device_memory
    from kvae.dataloaders import arrays

    x, given = np.arange(104, dtype="uint8").reshape(26, 2, 2, 1), {"label": np.arange(26) % 10}
    free, found = device_memory.free, {"free of a CPU": device_memory.free()}
    for place, room in (("memory", False), ("device", True)):
        device_memory.free = lambda room=room: 2**30 * room
        dataset, begin, steps = arrays.training_batches(x, given, 4, 7)
        begin(3)
        batches = [*dataset, *arrays.validation_batches(x, given, 10)]
        parts = [part for batch in batches for part in keras.tree.flatten(batch)]
        found[place] = steps, [np.asarray(part).tolist() for part in parts]
        found[f"{place} is"] = type(dataset).__name__, str(parts[0].dtype), torch.is_tensor(parts[0])
    found["code"] = command("train", *RUN, "--deterministic", "-q", "-o", folder / "resident")
    device_memory.free = free
    return found


def _losses_of_everything():
    """The loss of a short epoch of each objective, prior, likelihood and network, by name."""
    import torch

    from kvae import likelihoods, networks
    from kvae.data import sources
    from kvae.data.spec import DataSpec
    from kvae.models.vae import VAE
    from kvae.training import config
    from kvae.training.distribution import Distribution
    from kvae.training.setup import prepare

    table = Path("table.csv")
    table.write_text("a,b,c\n" + "".join(f"{i / 7},{'xyz'[i % 3]},{i % 2}\n" for i in range(60)))
    np.savez("classes.npz", x=np.arange(60 * 12).reshape(60, 6, 2) % 5)
    digits = {"data": "mnist-sample", "conditional": True}
    wanted = {
        "capacity": digits | {"objective": "capacity", "beta_schedule": "cosine", "warmup_epochs": 2},
        "free_bits": digits | {"objective": "free_bits"},
        "iwae": digits | {"objective": "importance_weighted", "num_samples": 3, "prior": "vamp"},
        "tcvae": digits | {"objective": "total_correlation", "beta": 4.0},
        "cyclical": digits | {"beta_schedule": "cyclical", "warmup_epochs": 1.5, "prior": "conditional_gaussian"},
        "continuous": digits | {"likelihood": "continuous_bernoulli", "binarize": "none"},
        "logistic": digits | {"likelihood": "discretized_logistic", "network": "residual"},
        "element": digits | {"likelihood": "gaussian", "sigma": "element", "network": "conv", "learning_rate": 1e-4},
        "shared": digits | {"likelihood": "gaussian", "sigma": "shared", "condition_embedding": 3, "gated": True},
        "classes": {"data": "classes.npz", "likelihood": "categorical", "value_embedding": 2},
        "table": {"data": str(table), "likelihood": "mixed"},
    }
    small = {"encoder_hidden": (8,), "decoder_hidden": (8,), "encoder_filters": (4, 4), "decoder_filters": (4, 4)}
    found = {}
    for name, changes in wanted.items():
        settled = config.Config().replace(**{"validation": 20, "batch_size": 20, "latent_dim": 2, **small, **changes})
        dataset = sources.from_config(settled.data)
        setup = prepare(settled, dataset, Distribution())
        history = setup.model.fit(
            setup.batches.dataset, validation_data=setup.validation.dataset, epochs=1, verbose=0, shuffle=False
        )
        found[name] = [history.history[figure][0] for figure in ("loss", "val_loss", "elbo", "val_elbo", "beta")]
    walks = np.random.default_rng(0).standard_normal((60, 5, 2)).cumsum(1).astype("float32")
    model = VAE(
        networks.lstm_encoder((5, 2), 2, units=8),
        networks.lstm_decoder((5, 2), 2, units=8),
        data=DataSpec((5, 2), range=(-9.0, 9.0), bounded=False),
        likelihood=likelihoods.Gaussian(),
    )
    model.compile("adam")
    history = model.fit(torch.as_tensor(walks), validation_data=(walks, None), batch_size=20, epochs=1, verbose=0)
    return found | {"lstm": [history.history[figure][0] for figure in ("loss", "val_loss", "elbo", "val_elbo")]}


def _resident(folder, model):
    """The run again, from data that lie on the device; and what its batches are, beside those of data in memory."""
    import keras
    from keras.src.backend.jax import trainer

    from kvae.backends.jax import device_memory
    from kvae.data import sources
    from kvae.dataloaders import arrays

    x, given = np.arange(104, dtype="uint8").reshape(26, 2, 2, 1), {"label": np.arange(26) % 10}
    free, found, weights = device_memory.free, {}, model.get_weights()
    # As on a GPU, where Keras asks for a batch ahead; it does not on a CPU.
    trainer.JAXEpochIterator._get_iterator = lambda self: self._one_batch_ahead_iterator(
        self.data_adapter.get_jax_iterator()
    )
    places = (("memory", False), ("device", True))
    x_of_model = sources.load("mnist-sample").x[:50]  # five batches: four steps at once, and one
    for place, room in places:
        device_memory.free = lambda room=room: 2**30 * room
        dataset, begin, steps = arrays.training_batches(x, given, 4, 7)
        begin(3)
        batches = [*dataset, *arrays.validation_batches(x, given, 10)]
        parts = [np.asarray(part) for batch in batches for part in keras.tree.flatten(batch)]
        found[place] = steps, [part.tolist() for part in parts]
        found[f"{place} is"] = type(dataset).__name__, str(parts[0].dtype)
        dataset = arrays.training_batches(x_of_model, None, 10, 7)[0]
        model.set_weights(weights)
        found[f"{place} evaluated"] = model.evaluate(dataset, verbose=0)
        found[f"{place} predicted"] = float(model.predict(dataset, verbose=0).mean())
    for place, room in places:  # not compiled: the same steps, from Python
        device_memory.free = lambda room=room: 2**30 * room
        dataset = arrays.training_batches(x_of_model, None, 10, 7)[0]
        model.set_weights(weights)
        model.compile(keras.optimizers.SGD(1e-4), run_eagerly=True, steps_per_execution=4)
        found[f"{place} eagerly"] = model.fit(dataset, epochs=1, verbose=0, shuffle=False).history["loss"]
    found["code"] = command("train", *RUN, "--deterministic", "-q", "-o", folder / "resident")
    device_memory.free = free
    return found


def _totals(totals):
    """Twenty thousand batches of 1000 examples of 0.1234567 nats."""
    import jax
    import jax.numpy as jnp
    import keras

    from kvae.loss_terms import Terms

    part = jnp.full(1000, 0.1234567)

    def add(values, _):
        with keras.StatelessScope(zip(totals.variables, values, strict=True)) as scope:
            totals.update_state(part, Terms(part, part))
        return [scope.get_current_value(variable) for variable in totals.variables], None

    values = jax.lax.scan(add, [variable.value for variable in totals.variables], length=20_000)[0]
    for variable, value in zip(totals.variables, values, strict=True):
        variable.assign(value)
    return {name: float(value) for name, value in totals.result().items()} | {"batches": float(totals.batches)}


if __name__ == "__main__":
    os.environ.setdefault("KERAS_BACKEND", "jax")
    os.chdir(sys.argv[1])
    answer(Path(sys.argv[1]))
