"""Facts about one Keras backend, written to a folder: `python on_backend.py FOLDER`.

`KERAS_BACKEND` selects the backend. Under JAX and PyTorch the first run of training proves that TensorFlow is not
imported. After that it cannot be imported, as on a machine without it.

The folder may contain models and initial weights from TensorFlow: `other.keras` and `CASE.npz` for each of `CASES`.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np

from kvae.backends import startup
from kvae.training import checkpoint, run_folder

#: Packages that export needs. Under other backends training must not import them.
EXPORT_PACKAGES = ("tensorflow", "tf2onnx", "onnx")
#: Flags of `kvae train`.
RUN = [
    "--data", "mnist-sample", "--conditional", "--validation", "100", "--epochs", "3", "--batch-size", "50",
    "--latent-dim", "4", "--encoder-hidden", "32", "--decoder-hidden", "32", "--checkpoint-every", "1",
    "--steps-per-execution", "7", "--beta", "2", "--warmup-epochs", "2", "--no-export-check",
    "--network", "dense", "--likelihood", "bernoulli",
]  # fmt: skip
DENSE = {"network": "dense", "likelihood": "bernoulli"}
#: Settings whose losses are compared between backends.
CASES = {
    "dense": {**DENSE, "encoder_hidden": (16,), "decoder_hidden": (16,), "latent_dim": 3},
    "conv": {"network": "conv", "encoder_filters": (4, 8), "decoder_filters": (8, 4), "encoder_hidden": (16,),
             "decoder_hidden": (16,), "conditional": True, "likelihood": "gaussian", "latent_dim": 3,
             "objective": "importance_weighted", "num_samples": 3, "prior": "gaussian_mixture"},
    "gated": {**DENSE, "gated": True, "objective": "total_correlation", "encoder_hidden": (16,),
              "decoder_hidden": (16,), "prior": "vamp", "activation": "tanh"},
    "bfloat16": {**DENSE, "mixed_precision": True, "encoder_hidden": (64,), "decoder_hidden": (64,)},
}  # fmt: skip


def write_facts(folder):
    """Write `facts.json`, `noise.npz`, `gradients.npz` and, under TensorFlow, the initial weights of each case."""
    import keras

    from kvae.backends.current import Noise
    from kvae.data import sources
    from kvae.models.vae import load_model

    noise = [Noise(3, keras.ops.convert_to_tensor(7), test) for test in (False, True)]
    grey = keras.ops.convert_to_tensor(np.linspace(0, 1, 6 * 785, dtype="float32").reshape(6, 785))
    drawn = [keras.ops.convert_to_numpy(draw) for each in noise for draw in (each.normal(grey), each.bernoulli(grey))]
    np.savez(folder / "noise.npz", *drawn)
    facts = {"losses": {}}
    for name in CASES:
        setup = prepare(name)
        weights = setup.model.weights
        if (folder / f"{name}.npz").exists():
            with np.load(folder / f"{name}.npz") as stored:
                setup.model.set_weights([stored[key] for key in stored.files])
        else:
            np.savez(folder / f"{name}.npz", *map(keras.ops.convert_to_numpy, weights))
        batch = next(iter(setup.validation.dataset))
        facts["losses"][name] = setup.model.train_on_batch(*batch, return_dict=True)
        if name == "conv":  # its sigma is learned without a gradient
            setup.model.train_on_batch(*batch)
            facts["after"] = setup.model.evaluate(setup.validation.dataset, verbose=0, return_dict=True)
    if (folder / "other.keras").exists():
        x = sources.load("mnist-sample", "train").x[:100]
        np.savez(folder / "gradients.npz", *gradients(load_model(folder / "other.keras"), x))
        facts["other"] = train_further(load_model(folder / "other.keras"), x)
        np.savez(folder / "inference.npz", **infer(load_model(folder / "other.keras"), x))
    return facts, setup


def infer(model, x):
    """Return what the inference methods return, and the weighted figures, by name."""
    draws, (z_mean, _) = model.sample(4, seed=5, temperature=0.9), model.encode(x)
    weights = np.linspace(0, 2, len(x))
    figures = model.evaluate(x, sample_weight=weights, batch_size=50, verbose=0)
    gradient = model.train_on_batch(x[:50], sample_weight=weights[:50])
    reconstructed, score = model.reconstruct(x), model.score(x, num_samples=2).elbo
    return {
        "x": draws.x, "z": draws.z, "z_mean": z_mean, "reconstructed": reconstructed, "score": score,
        "figures": figures, "step": gradient,
    }  # fmt: skip


def prepare(name):
    """Return the `Setup` of a case."""
    import keras

    from kvae.data import sources
    from kvae.training import config, setup
    from kvae.training.distribution import Distribution

    settings = config.Config().replace(
        data="mnist-sample", batch_size=50, validation=100, seed=5, steps_per_execution=1, **CASES[name]
    )
    keras.utils.set_random_seed(0)
    return setup.prepare(settings, sources.from_config(settings.data), Distribution())


def gradients(model, x):
    """Return the gradients of the first step, from the change of the weights under plain descent of rate 1."""
    import keras

    model.compile(keras.optimizers.SGD(1.0))
    before = model.get_weights()
    model.train_on_batch(x)
    return [old - new for old, new in zip(before, model.get_weights(), strict=True)]


def train_further(model, x):
    """Return the evaluation of a model, the history of three more epochs, and its step count then."""
    before = model.evaluate(x, batch_size=50, verbose=0, return_dict=True)
    history = model.fit(x, validation_data=(x, None), batch_size=50, epochs=3, shuffle=False, verbose=0).history
    return {"before": before, "history": history, "steps": model.steps_done()}


def main(folder):
    """Write all facts of a backend that is not TensorFlow."""
    # The command comes first, because it imports Keras by itself.
    assert command("train", *RUN, "--deterministic", "-o", folder / "run") == 0
    imported = [name for name in EXPORT_PACKAGES if name in sys.modules]
    sys.modules.update(dict.fromkeys(EXPORT_PACKAGES))
    facts, setup = write_facts(folder)
    resume(folder)
    facts |= {"imported": imported} | {"jax": jax_facts, "torch": torch_facts}[startup.chosen()](setup)
    facts["export"] = command("export", "run", "-o", "exported")
    facts["tensorboard"] = command("train", *RUN, "-o", "other-run", "--tensorboard", "logs")
    (folder / "facts.json").write_text(json.dumps(facts, default=float))


def resume(folder):
    """Copy the run to `cut`, remove its last epoch, and resume it."""
    store = checkpoint.Store(shutil.copytree(folder / "run", folder / "cut") / run_folder.CHECKPOINTS)
    store.paths()[0].unlink()
    metadata = json.loads((folder / "cut" / run_folder.METADATA).read_text()) | {"finished": False}
    (folder / "cut" / run_folder.METADATA).write_text(json.dumps(metadata))
    assert command("train", "--resume", folder / "cut", "-q") == 0


def command(*arguments):
    """Run `kvae` in this process; return its exit code."""
    from kvae.__main__ import run

    return run(list(map(str, arguments)))


def jax_facts(setup):
    """Return facts about the program of a step, how often it is compiled, and data on the device."""
    import jax

    from kvae.backends.current import LossTracker, Noise

    facts = {"tracker": _jax_tracker(LossTracker()), "device_rows": _jax_device_rows()}
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
        terms = model.terms(batch, Noise(0, 0), training=False)
        return terms.reconstruction, terms.kl, model.objective(terms, 0)

    step = str(jax.make_jaxpr(model.train_step)(state, batches[0]))
    return facts | {
        "num_batches": len(batches),
        "compiled": counts,
        "leaves_the_device": [word for word in ("callback", "infeed", "outfeed") if word in step],
        "products": [line.strip() for line in step.splitlines() if "dot_general" in line],
        "objective": [str(part.dtype) for part in jax.eval_shape(parts, batches[0])],
    }


def _jax_tracker(tracker):
    """Return the result of 20,000 batches of 1000 examples of 0.1234567 nats."""
    import jax
    import jax.numpy as jnp
    import keras

    from kvae.loss_terms import Terms

    part = jnp.full(1000, 0.1234567)

    def add(values, _):
        with keras.StatelessScope(zip(tracker.variables, values, strict=True)) as scope:
            tracker.update_state(part, Terms(part, part))
        return [scope.get_current_value(variable) for variable in tracker.variables], None

    values = jax.lax.scan(add, [variable.value for variable in tracker.variables], length=20_000)[0]
    for variable, value in zip(tracker.variables, values, strict=True):
        variable.assign(value)
    return {name: float(value) for name, value in tracker.result().items()} | {"batches": float(tracker.batches)}


def _jax_device_rows():
    """Return the batches of data in memory and on the device, and the losses of a model on both."""
    import jax
    import keras
    from keras.src.backend.jax import trainer

    from kvae import networks
    from kvae.backends.jax import device_rows
    from kvae.dataloaders import arrays
    from kvae.models.vae import VAE

    def make():
        return VAE(networks.dense_encoder((2, 2, 1), 2, (4,)), networks.dense_decoder((2, 2, 1), 2, (4,)))

    def fit(model):
        dataset, begin, _ = arrays.training_batches(x, None, 4, 7)
        model.set_weights(weights)
        # Six batches: an execution of four steps and two of one.
        model.compile(keras.optimizers.SGD(1e-4), steps_per_execution=4)
        model.optimizer.build(model.trainable_variables)
        options = {"callbacks": [keras.callbacks.LambdaCallback(lambda epoch, logs: begin(epoch))]}
        options |= {"validation_data": arrays.validation_batches(x, None, 11)}
        history = model.fit(dataset, epochs=2, verbose=0, shuffle=False, **options).history
        mean = float(model.predict(dataset, verbose=0).mean())
        return [*history["loss"], *history["val_loss"], int(model.optimizer.iterations), mean]

    x, conditions = np.arange(104, dtype="uint8").reshape(26, 2, 2, 1), {"label": np.arange(26) % 10}
    model = make()
    free, facts, weights = device_rows.free_bytes, {}, model.get_weights()
    # As on a GPU, where Keras requests one batch ahead.
    trainer.JAXEpochIterator._get_iterator = lambda self: self._one_batch_ahead_iterator(
        self.data_adapter.get_jax_iterator()
    )
    for place, num_bytes in (("memory", 0), ("device", 2**30)):
        device_rows.free_bytes = lambda num_bytes=num_bytes: num_bytes
        dataset, begin, steps = arrays.training_batches(x, conditions, 4, 7)
        begin(3)
        batches = [*dataset, *arrays.validation_batches(x, conditions, 10)]
        parts = [np.asarray(part) for batch in batches for part in keras.tree.flatten(batch)]
        facts[place] = {"type": type(dataset).__name__, "batches": [steps, [part.tolist() for part in parts]]}
        facts[place]["losses"] = fit(model)
    if len(jax.devices()) > 1:
        devices = keras.distribution.list_devices()[:2]
        with keras.distribution.DataParallel(devices=devices).scope():
            assert not device_rows.has_room((x,))
            distributed = make()
            distributed.compile("sgd")
            distributed.optimizer.build(distributed.trainable_variables)
        shards = distributed._sharding()[1](x[:10]).addressable_shards
        facts["two devices"] = {"losses": fit(distributed), "shards": [shard.data.shape[0] for shard in shards]}
    device_rows.free_bytes = free
    return facts


def torch_facts(setup):
    """Return facts about the operations of a step, and the losses of every objective, prior, likelihood and network."""
    import keras
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    from kvae.backends import philox
    from kvae.backends.current import LossTracker, Noise
    from kvae.backends.torch.step import words_on

    class Watch(TorchDispatchMode):
        """Count device reads and list matrix products, gradients included."""

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
    model.optimizer.iterations.assign(100)
    model.fit(setup.batches.dataset, epochs=1, verbose=0, shuffle=False)
    steps = [model.steps_done() - len(setup.batches.dataset), model._steps - len(setup.batches.dataset)]
    terms = model.terms(batch, Noise(0, 0), training=False)
    seeds = (2**31 - 1 + (3 << 32), 123_456)
    words = words_on(torch.device("cpu"), seeds, 4001).numpy().view("uint32")
    return {
        "reads": watch.reads,
        "products": watch.products,
        "steps": steps,
        "latest": [sorted(model.latest.logs), type(model.latest.logs["loss"]).__name__],
        "objective": [
            keras.backend.standardize_dtype(part.dtype)
            for part in (terms.reconstruction, terms.kl, model.objective(terms, 0))
        ],
        "tracker": _torch_tracker(LossTracker()),
        "words": bool(np.array_equal(words, philox.words(seeds, 4001))),
        "all_losses": _losses_of_everything(),
    }


def _torch_tracker(tracker):
    import torch

    from kvae.loss_terms import Terms

    part = torch.full((1000,), 0.1234567)
    for _ in range(20_000):
        tracker.update_state(part, Terms(part, part))
    return {name: float(value) for name, value in tracker.result().items()} | {"batches": tracker.batches}


def _losses_of_everything():
    """Return the losses of a short epoch of each objective, prior, likelihood and network."""
    import torch

    from kvae import likelihoods, networks
    from kvae.data import sources
    from kvae.data.spec import DataSpec
    from kvae.models.vae import VAE
    from kvae.training import config
    from kvae.training import setup as setups
    from kvae.training.distribution import Distribution

    table = Path("table.csv")
    table.write_text("a,b,c\n" + "".join(f"{i / 7},{'xyz'[i % 3]},{i % 2}\n" for i in range(60)))
    np.savez("classes.npz", x=np.arange(60 * 12).reshape(60, 6, 2) % 5)
    digits = {"data": "mnist-sample", "conditional": True}
    cases = {
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
    losses = {}
    for name, changes in cases.items():
        settings = config.Config().replace(
            **{"validation": 20, "batch_size": 20, "latent_dim": 2, **small, **DENSE, **changes}
        )
        setup = setups.prepare(settings, sources.from_config(settings.data), Distribution())
        history = setup.model.fit(
            setup.batches.dataset, validation_data=setup.validation.dataset, epochs=1, verbose=0, shuffle=False
        )
        losses[name] = [history.history[figure][0] for figure in ("loss", "val_loss", "elbo", "val_elbo", "beta")]
    walks = np.random.default_rng(0).standard_normal((60, 5, 2)).cumsum(1).astype("float32")
    model = VAE(
        networks.lstm_encoder((5, 2), 2, units=8),
        networks.lstm_decoder((5, 2), 2, units=8),
        data=DataSpec((5, 2), range=(-9.0, 9.0), bounded=False),
        likelihood=likelihoods.Gaussian(),
    )
    model.compile("adam")
    history = model.fit(torch.as_tensor(walks), validation_data=(walks, None), batch_size=20, epochs=1, verbose=0)
    return losses | {"lstm": [history.history[figure][0] for figure in ("loss", "val_loss", "elbo", "val_elbo")]}


if __name__ == "__main__":
    os.environ.setdefault("KERAS_BACKEND", "jax")
    os.chdir(sys.argv[1])
    main(Path(sys.argv[1]))
