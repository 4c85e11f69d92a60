"""TableVAE: DataFrames in and out, with the types of the training table, also of the exported model."""

from __future__ import annotations

import numpy as np
import pytest

import kvae
from kvae_serve.errors import InputDataError, RequestError

pandas = pytest.importorskip("pandas")
pytestmark = pytest.mark.long
NUM = 600


def people():
    rng = np.random.default_rng(0)
    return pandas.DataFrame(
        {
            "id": np.arange(NUM) + 1000,
            "age": rng.integers(17, 90, NUM),
            "day": pandas.Timestamp("2024-01-01") + pandas.to_timedelta(rng.integers(0, 300, NUM), unit="D"),
            "weight": rng.normal(70, 10, NUM).round(1),
            "gap": np.where(rng.random(NUM) < 0.2, np.nan, rng.normal(5, 2, NUM).round(2)),
            "kind": pandas.Categorical(rng.choice(list("abc"), NUM)),
            "text": rng.choice(np.array(["x", "y", None], object), NUM, p=[0.5, 0.3, 0.2]),
            "ok": rng.random(NUM) < 0.3,
            "land": "CH",
        }
    )


@pytest.fixture(scope="module")
def model():
    return kvae.TableVAE(epochs=1, encoder_hidden=(16,), decoder_hidden=(16,)).fit(people(), conditions=["ok"])


def test_drawn_rows_have_the_types_and_bounds_of_the_training_table(model):
    frame, drawn = people(), model.sample(2000, seed=0)
    assert drawn.dtypes.equals(frame.dtypes)
    assert drawn["ok"].mean() == pytest.approx(frame["ok"].mean(), abs=0.04)
    assert drawn["gap"].isna().mean() == pytest.approx(0.2, abs=0.15)
    for name in ("age", "day", "weight", "gap"):
        assert frame[name].min() <= drawn[name].min() <= drawn[name].max() <= frame[name].max()
    assert set(drawn["text"].dropna()) == {"x", "y"}
    assert (drawn["weight"] == drawn["weight"].round(1)).all()
    pandas.testing.assert_frame_equal(model.sample(5, seed=0, start=10), drawn[10:15].reset_index(drop=True))
    assert set(model.sample(9, {"ok": "True"})["ok"]) == {True}


def test_scores_do_not_depend_on_the_order_of_columns_or_other_rows(model):
    frame = people()[:20]
    scores = model.score(frame).elbo
    turned = frame[frame.columns[::-1]]
    np.testing.assert_allclose(model.score(turned).elbo, scores, rtol=1e-6)
    np.testing.assert_allclose(model.score(turned[:1]).elbo, scores[:1], rtol=1e-5)
    changed = frame.assign(text=["moon", *frame["text"][1:]])
    with pytest.warns(UserWarning, match="contains moon, which is not a class"):
        assert model.score(changed).elbo[0] < scores[0] - 90


def test_exported_model_takes_and_returns_frames(model, tmp_path):
    frame = people()[:5]
    model.export(tmp_path / "out")
    served = kvae.load(tmp_path / "out")
    np.testing.assert_allclose(served.score(frame).elbo, model.score(frame).elbo, atol=1e-3)
    np.testing.assert_allclose(served.encode(frame)[0], model.encode(frame)[0], atol=1e-4)
    columns = {name: frame[name].tolist() for name in frame}
    np.testing.assert_allclose(served.encode(columns)[0], served.encode(frame)[0])
    pandas.testing.assert_frame_equal(served.reconstruct(frame), model.reconstruct(frame))
    pandas.testing.assert_frame_equal(served.sample(5, seed=0).to_frame(), model.sample(5, seed=0))


def test_missing_values_are_drawn_and_observed_values_stay(model):
    frame = people()[5:35]
    full = model.impute(frame, seed=0, num_samples=32)
    assert not full.isna().any().any()
    for name in ("id", "gap", "text", "age", "day", "weight"):
        known = frame[name].notna()
        assert full[name][known.to_numpy()].tolist() == frame[name][known].tolist()
    assert full["gap"].between(people()["gap"].min(), people()["gap"].max()).all()
    assert len(model.impute(frame.drop(columns="age"), 2, seed=0, num_samples=32)) == 2


def test_missing_columns_and_an_untrained_model_are_refused(model):
    with pytest.raises(InputDataError, match="does not have a column day"):
        model.score(people().drop(columns="day"))
    with pytest.raises(RequestError, match="Call fit first"):
        kvae.TableVAE().sample(1)


SMALL = {"epochs": 1, "encoder_hidden": (8,), "decoder_hidden": (8,)}


@pytest.mark.parametrize(
    "settings",
    [{"prior": "vamp"}, {"objective": "free_bits"}, {"validation": 0}, {"prior": "conditional_gaussian"}],
    ids=str,
)
def test_one_setting_changes_those_that_depend_on_it(settings):
    rows = {"size": [1.5, 2.5, 4.0, 3.5] * 10, "kind": ["cat", "dog", "ox", "cat"] * 10}
    model = kvae.TableVAE(**SMALL, **settings).fit(rows, conditions="kind")
    assert len(model.sample(3, {"kind": "cat"}, seed=0)) == 3


@pytest.mark.parametrize("num", [2, 7])
def test_few_rows_are_a_table(num):
    rows = {
        "size": [1.5, 2.5, 4.0, 3.5, 7.0, 8.0, 9.5][:num],
        "kind": ["cat", "dog", "ox", "cat", "ox", "ox", "dog"][:num],
    }
    assert len(kvae.TableVAE(**SMALL).fit(rows).sample(3, seed=0)) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"latent_dmi": 3}, "Did you mean latent_dim"),
        ({"drop_columns": ("a",)}, "drop_columns is a setting of the data"),
    ],
)
def test_settings_that_the_model_does_not_have_are_refused(settings, message):
    with pytest.raises(RequestError, match=message):
        kvae.TableVAE(**settings)


def test_repr_states_the_size_of_a_trained_model(model):
    columns, dim = len(model.manifest.data.columns), model.manifest.latent_dim
    assert repr(model) == f"<TableVAE of {columns} columns, {dim} latent dimensions>"
    assert repr(kvae.TableVAE()) == "<TableVAE, not trained>"


def test_given_timestamps_keep_their_seconds_in_imputed_frames():
    rng = np.random.default_rng(1)
    when = pandas.Timestamp("2024-01-01") + pandas.to_timedelta(rng.integers(0, 40_000_000, NUM), unit="s")
    frame = pandas.DataFrame({"when": when, "size": np.where(rng.random(NUM) < 0.3, np.nan, rng.normal(size=NUM))})
    filled = kvae.TableVAE(epochs=1, encoder_hidden=(8,), decoder_hidden=(8,)).fit(frame).impute(frame, seed=0)
    assert filled["when"].equals(frame["when"])
    assert not filled["size"].isna().any()
