"""Integers that training did not see: shares, probabilities that sum to 1, exported files, and notes."""

import numpy as np
import pytest
from keras import ops
from scipy import special

import kvae
from kvae import likelihoods
from kvae.data.table import TableSpec
from kvae_serve.readers import csv
from kvae_serve.sealed import unseen

COLUMNS = [{"name": "age", "kind": "numeric", "type": "integer"}]
ATOMS, COUNTS = np.array([-4.0, 0.0, 1.0, 3.0, 9.0]), np.array([1, 30, 40, 2, 7])
SPEC = TableSpec.learn(COLUMNS, np.repeat(ATOMS, COUNTS)[:, None], numbers="quantile")


def log_prob(values, logits, spec=SPEC):
    mixed = likelihoods.Mixed.from_spec(spec)
    at = ops.convert_to_tensor(np.tile(np.array([logits], "f4"), (len(values), 1)))
    return -np.asarray(mixed.nll(spec.to_unit(np.array(values, "f4")[:, None]), at), "f8")


@pytest.mark.parametrize("seed", range(3))
def test_probabilities_of_all_integers_sum_to_1(seed):
    logits = np.random.default_rng(seed).normal(0, 2, len(ATOMS))
    far = 20_000
    inside = np.exp(log_prob(np.arange(-far, far + 1), logits)).sum()
    # The kernel of the tails falls with the square of the distance, so the rest is the integral from `far` on.
    weight, tail = np.array(SPEC.columns[0]["unseen"]["weight"]), SPEC.columns[0]["unseen"]["tail"]
    ends = (special.softmax(logits) * weight)[[0, -1]] * tail**2 / (far + 0.5 - np.abs(ATOMS[[0, -1]]))
    assert inside + ends.sum() == pytest.approx(1.0, abs=2e-6)


def test_shares_follow_the_discount_of_absolute_discounting():
    share = SPEC.columns[0]["unseen"]["share"]
    discount = 1.5 / (1 + 2 + 1)  # One value occurred once and one twice.
    np.testing.assert_allclose(share, discount / COUNTS, rtol=1e-5)
    dense = unseen.learn(np.arange(5.0), np.full(5, 20))
    assert dense["share"][1:4] == [0, 0, 0]  # No unseen integer is next to them.
    assert dense["share"][0] == dense["share"][4] == 0.025


def test_unseen_integer_follows_its_neighbours():
    near_one, near_nine = log_prob([2, 5, 8, 4], [0, 0, 6, 0, 0]), log_prob([2, 5, 8, 4], [0, 0, 0, 0, 6])
    assert near_one[0] > near_nine[0] + 4
    assert near_nine[2] > near_one[2] + 4
    beyond = log_prob([10, 11, 20, 1e6, 1e20], [0, 0, 0, 0, 6])
    assert (np.diff(beyond) < 0).all()
    assert log_prob([2.5], [0] * 5)[0] == pytest.approx(-6 * np.log(10), rel=1e-6)


def test_probability_of_an_integer_equals_numpy():
    logits = np.random.default_rng(4).normal(size=(len(ATOMS)))
    values = np.array([-1e9, -9, -4, -1, 0, 2, 4, 8, 9, 10, 40], "f4")
    probability = np.tile(special.softmax(logits), (len(values), 1))
    np.testing.assert_allclose(
        log_prob(values, logits), unseen.log_probs(probability, values, SPEC.columns[0]), rtol=1e-4
    )


def test_unseen_day_is_a_whole_day():
    column = {"name": "day", "kind": "numeric", "type": "datetime", "format": "%Y-%m-%d"}
    days = np.repeat([0.0, 86_400, 3 * 86_400, 4 * 86_400], 20)[:, None]
    spec = TableSpec.learn([column], days, numbers="quantile")
    unseen_day, noon = log_prob([2 * 86_400, 2.5 * 86_400], [0] * 4, spec)
    assert noon == pytest.approx(-6 * np.log(10), rel=1e-6)
    # Two neighbours lend 0.5 / 21 of a row of their 20, one of them also to days beyond the last.
    assert unseen_day > np.log(0.5 / 80)


@pytest.mark.long
def test_value_held_out_of_an_integer_column_costs_as_a_rare_one(tmp_path):
    rng = np.random.default_rng(0)
    age = np.round(rng.normal(40, 8, 4000))
    rows = {"age": age[age != 41], "pay": rng.normal(size=(age != 41).sum()) + age[age != 41] / 8}
    model = kvae.TableVAE(epochs=3, encoder_hidden=(16,), decoder_hidden=(16,), prior_components=3).fit(rows)
    table = {"age": np.array([41, 40, 42, 400]), "pay": np.array([41, 40, 42, 41]) / 8}
    scores = model.score(table, num_samples=4, parts=True)
    model.export(tmp_path / "model")
    exported = kvae.load(tmp_path / "model").score(table, num_samples=4)
    np.testing.assert_allclose(exported.elbo, scores.elbo, rtol=1e-4)
    parts = scores.reconstruction_parts[:, 0]
    np.testing.assert_allclose(scores.reconstruction_parts.sum(1), scores.reconstruction, rtol=1e-5)
    assert parts[0] < parts[1:3].max() + 7.5  # 13.8 nats plus log p(missing class) before.
    assert parts[3] > parts[0] + 8
    # The encoder has half of 40 and half of 42 for 41.
    z_mean = model.encode(table)[0]
    assert np.abs(z_mean[0] - z_mean[1:3].mean(0)).max() < np.abs(z_mean[3] - z_mean[1]).max()


def test_note_states_unseen_numbers_and_old_columns_keep_their_cost(tmp_path):
    (tmp_path / "rows.csv").write_text("age\n1\n2\n40\n2\n")
    column = {**SPEC.columns[0], "decimals": 0}
    data = csv.apply(csv.parse(tmp_path / "rows.csv", "rows.csv"), [column])
    assert data.notes == (
        "Column age: 3 of 4 values are not in the training data, such as 2 in row 3; they are less likely the "
        "further they are from known values.",
    )
    old = TableSpec([{key: value for key, value in SPEC.columns[0].items() if key != "unseen"}])
    assert log_prob([2], [0] * 5, old)[0] == pytest.approx(-6 * np.log(10), rel=1e-6)
    assert log_prob([3], [0] * 5, old)[0] == pytest.approx(-np.log(5), rel=1e-6)


@pytest.mark.parametrize("change", [{"step": 0}, {"share": [0.1]}, {"weight": [0.1, 0.1, 0.1, 0.1, 2.0]}])
def test_invalid_entry_is_refused(change):
    column = {**SPEC.columns[0], "unseen": {**SPEC.columns[0]["unseen"], **change}}
    with pytest.raises(ValueError, match="of unseen"):
        TableSpec([column])
