"""Data that lie on the device, under TensorFlow, with the CPU as the device: they are the data, and train alike."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from kvae import networks, optimizers
from kvae.dataloaders import batches as pipeline
from kvae.dataloaders import device
from kvae.models.vae import ConditionalBetaVAE
from kvae.objectives import schedules
from kvae.training import config, run_folder, train

RUN = {
    "data": "mnist-sample", "conditional": True, "validation": 110, "epochs": 3, "batch_size": 50, "latent_dim": 3,
    "encoder_hidden": (16,), "decoder_hidden": (16,), "steps_per_execution": 4,
}  # fmt: skip


@pytest.fixture
def room(monkeypatch):
    """Function that says whether the device has room from now on."""
    return lambda there: monkeypatch.setattr(device.memory, "free", lambda: 2**30 if there else 0)


def examples(num=110, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (num, 4, 4, 1), "uint8"), {"label": generator.integers(0, 10, num)}


def model_of(optimizer=None, **compile_arguments):
    keras.utils.set_random_seed(0)
    model = ConditionalBetaVAE(
        networks.dense_encoder((4, 4, 1), 2, (8,), condition_dim=10),
        networks.dense_decoder((4, 4, 1), 2, (8,), condition_dim=10),
        seed=3,
        beta=schedules.Linear(1.0, 20),
    )
    model.compile(optimizer or keras.optimizers.SGD(1e-3), steps_per_execution=3, **compile_arguments)
    return model


def fitted(model, data, num_epochs=2):
    batches = pipeline.training_batches(*data, 10, seed=7)
    validation = pipeline.validation_batches(*examples(25, seed=1), 10)
    history = model.fit(
        batches.dataset, validation_data=validation, epochs=num_epochs, callbacks=[batches.callback],
        shuffle=False, verbose=0,
    ).history  # fmt: skip
    return history, batches.dataset


def test_the_batches_are_those_of_data_in_memory(room):
    found = []
    for there in (False, True):
        room(there)
        batches = pipeline.training_batches(*examples(), 20, seed=5)
        batches.callback.on_epoch_begin(2)
        assert isinstance(batches.dataset, device.ResidentRows) == there
        epoch, held = list(batches.dataset), list(pipeline.validation_batches(*examples(), 40))
        assert (len(epoch), len(held), batches.steps) == (5, 3, 5)
        found.append([keras.tree.map_structure(np.asarray, batch) for batch in (*epoch, *held)])
    for ours, theirs in zip(*found, strict=True):
        for own, their in zip(keras.tree.flatten(ours), keras.tree.flatten(theirs), strict=True):
            assert own.dtype == their.dtype
            np.testing.assert_array_equal(own, their)


@pytest.fixture(scope="module")
def from_memory():
    """What a model learns from the data in memory, and says of them then."""
    return learned()


def learned(**compile_arguments):
    # With the optimiser and a schedule of `kvae train`, so that XLA compiles what it would on a GPU.
    model = model_of(optimizers.Adam(1e-3), **compile_arguments)
    history, dataset = fitted(model, examples())
    # 11 batches, 3 an execution: each is taken once.
    assert int(model.optimizer.iterations) == 22
    assert set(model.latest.logs) == {"loss", "elbo", "reconstruction", "kl", "beta"}
    weights = np.concatenate([np.ravel(weight) for weight in model.get_weights()])
    said = [*model.evaluate(dataset, verbose=0), model.predict(dataset, verbose=0).mean()]
    return history, weights, said, isinstance(dataset, device.ResidentRows)


@pytest.mark.parametrize("compiled", [{}, {"jit_compile": True}, {"run_eagerly": True}], ids=str)
def test_a_model_learns_from_them_what_it_learns_from_data_in_memory(from_memory, room, compiled):
    room(True)
    (ours, our_weights, we_say, on_device), (theirs, their_weights, they_say, there) = learned(**compiled), from_memory
    assert (on_device, there) == (True, False)
    # Adam makes more of what XLA rounds otherwise.
    tolerance = 1e-4 if compiled else 1e-6
    assert list(ours) == list(theirs)
    for name, values in ours.items():
        assert values == pytest.approx(theirs[name], rel=tolerance), name
    np.testing.assert_allclose(our_weights, their_weights, rtol=0, atol=tolerance / 10)
    assert we_say == pytest.approx(they_say, rel=tolerance)


def test_predict_in_the_middle_of_a_fit_leaves_the_fit_as_it_is(room):
    room(True)
    model, (x, given) = model_of(), examples()
    batches = pipeline.training_batches(x, given, 10, seed=7)
    seen = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: (
            model.predict(pipeline.validation_batches(x, given, 10), verbose=0)
            if epoch
            else model.predict(batches.dataset, verbose=0)
        )
    )
    model.fit(batches.dataset, epochs=2, callbacks=[batches.callback, seen], shuffle=False, verbose=0)
    assert batches.dataset.steps_at_once == 3
    assert int(model.optimizer.iterations) == 22


def test_room_is_half_of_what_is_free(room, monkeypatch):
    x, given = examples(16)
    size = x.nbytes + given["label"].nbytes
    for free, there in ((0, False), (2 * size - 1, False), (2 * size, True)):
        monkeypatch.setattr(device.memory, "free", lambda free=free: free)
        assert device.has_room((x, given)) is there
        assert device.has_room((x, {"label": given["label"].tolist()})) is there


def test_what_is_free_is_what_tensorflow_may_take_less_what_it_has(monkeypatch):
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    assert device.memory.free() == 0  # on a CPU
    gpu = types.SimpleNamespace(device_type="GPU", memory_limit=1000)
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [gpu])
    monkeypatch.setattr(device.memory.device_lib, "list_local_devices", lambda: [gpu])
    monkeypatch.setattr(tf.config.experimental, "get_memory_info", lambda name: {"current": 300})
    assert device.memory.free() == 700
    with strategy.scope():  # which shares out the batches itself
        assert device.memory.free() == 0

    def fail():
        raise RuntimeError("TensorFlow device (GPU:0) is being mapped to multiple devices")

    monkeypatch.setattr(device.memory.device_lib, "list_local_devices", fail)
    assert device.memory.free() == 0


def test_another_dataset_of_the_same_size_is_another_dataset(room):
    room(True)
    data, others = examples(), examples(seed=9)
    model = model_of()
    fitted(model, data, 1)
    again = model_of()
    again.optimizer.iterations.assign(11)
    anew = model_of()
    anew.optimizer.iterations.assign(11)
    fitted(again, others, 1)
    model.set_weights(anew.get_weights())
    model.optimizer.iterations.assign(11)
    fitted(model, others, 1)
    for own, their in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(own, their)


def test_an_execution_is_one_program_that_asks_the_host_for_nothing_and_is_made_once(room, monkeypatch):
    room(True)
    made, function = [], tf.function

    def noted(*arguments, **settings):
        made.append(function(*arguments, **settings))
        return made[-1]

    monkeypatch.setattr(tf, "function", noted)
    model = model_of(jit_compile=True)
    model.make_train_function()
    several = next(each for each in made if each.python_function.__name__ == "several")
    fitted(model, examples(), 1)
    assert several.experimental_get_tracing_count() == 2  # three steps, and the two that are left
    fitted(model, examples(), 2)
    assert several.experimental_get_tracing_count() == 2
    columns = device.memory.put((*examples(),))
    rows = np.zeros((3, 10), "int32")
    lowered = several.experimental_get_compiler_ir(columns, tf.constant(rows))("hlo")
    assert "while(" in lowered
    assert not [word for word in ("infeed", "outfeed", "custom-call", "send(", "recv(") if word in lowered]


def test_a_run_is_that_of_data_in_memory_with_all_that_watches_it(room, tmp_path):
    histories = []
    for name, there in (("memory", False), ("device", True)):
        room(there)
        run = train.train(config.Config().replace(**RUN), tmp_path / name, quiet=True, export_check=False)
        assert run.metadata["finished"]
        histories.append((tmp_path / name / run_folder.HISTORY).read_text())
    ours, theirs = ([line.split(",") for line in text.splitlines()] for text in histories)
    assert ours[0] == theirs[0]
    for own, their in zip(ours[1:], theirs[1:], strict=True):
        assert list(map(float, own)) == pytest.approx(list(map(float, their)), rel=1e-5)


def test_a_run_of_them_goes_on_as_if_it_had_not_been_cut_off(room, tmp_path):
    room(True)
    wanted = config.Config().replace(**RUN, learning_rate_schedule="constant", checkpoint_every=1)
    whole = train.train(wanted, tmp_path / "whole", quiet=True, export_check=False)
    train.train(wanted.replace(epochs=2), tmp_path / "cut", quiet=True, export_check=False)
    cut = train.resume(tmp_path / "cut", quiet=True, epochs=3)
    for own, their in zip(cut.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(own, their)
