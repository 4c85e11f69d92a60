"""Log densities of single values against normal integrals of the standard library."""

from statistics import NormalDist

import numpy as np
import pytest

from kvae_serve.inference.column_densities import log_probs, without_missing
from kvae_serve.model import load
from kvae_serve.sealed.manifest import Data
from support import make_linear_table as table


class Manifest:
    """The parts of a manifest that the densities use."""

    def __init__(self, columns, **likelihood):
        self.data = Data("table", (len(columns),), None, tuple(columns))
        self.likelihood = {"name": "mixed", **likelihood}


def test_values_of_a_table_add_up_to_its_log_likelihood():
    model = load(table.FOLDER)
    rng = np.random.default_rng(0)
    z, x = rng.normal(size=(6, 2)), np.column_stack([rng.normal(10, 1, 6), np.arange(6) % 3, *rng.normal(size=(2, 6))])
    outputs = {name: each.astype(np.float32) for name, each in table.decode(z).items()}
    expected = model.log_likelihood(x, z)
    assert log_probs(outputs, x, model.manifest).sum(axis=1) == pytest.approx(expected, abs=1e-3)


def test_score_of_a_number_is_normal_and_an_atom_has_the_mass_of_its_interval():
    column = {"name": "a", "kind": "numeric", "form": "quantile", "knots": [0, 0, 2, 4], "scores": [-2, -0.5, 0.5, 2]}
    outputs = {"x_mean": np.zeros((4, 1)), "x_score": np.full((4, 1), 0.25), "x_log_var": np.full((4, 1), np.log(0.49))}
    found = log_probs(outputs, np.array([[0.0], [2.0], [3.0], [np.nan]]), Manifest([column], probabilities=[None]))
    normal = NormalDist(0.25, 0.7)
    expected = [
        np.log(normal.cdf(-0.5) - normal.cdf(-2)),
        np.log(normal.pdf(0.5)),
        np.log(normal.pdf(1.25)),
        0.0,
    ]
    assert found[:, 0] == pytest.approx(expected, abs=1e-9)


def test_mass_of_an_atom_far_in_a_tail_is_finite_and_falls_with_distance():
    column = {"name": "a", "kind": "numeric", "form": "quantile", "knots": [0, 0, 2, 4], "scores": [-2, -0.5, 0.5, 2]}
    means = np.array([[2.0], [8.0], [30.0], [60.0], [-60.0]])
    outputs = {"x_mean": means, "x_score": means, "x_log_var": np.zeros((5, 1))}
    found = log_probs(outputs, np.zeros((5, 1)), Manifest([column], probabilities=[None]))[:, 0]
    # Phi(-a) is about exp(-a^2 / 2) / (a sqrt(2 pi)): the nearer end of the interval is at -a.
    distances = np.array([8.5, 30.5, 60.5, 58.0])
    expected = -0.5 * distances**2 - np.log(distances) - 0.5 * np.log(2 * np.pi)
    assert found[1:] == pytest.approx(expected, abs=0.02)
    assert found[0] == pytest.approx(np.log(NormalDist().cdf(-2.5) - NormalDist().cdf(-4)), abs=1e-6)


def test_atoms_and_missing_numbers_have_their_probabilities():
    column = {"name": "a", "kind": "numeric", "form": "classes", "atoms": [1.0, 2.5, 7.0], "missing": ""}
    probability = np.array([[0.2, 0.3, 0.5]] * 3, np.float32)
    outputs = {"x_mean": np.zeros((3, 1)), "p": probability, "m": np.full((3, 1), 0.25)}
    manifest = Manifest([column], probabilities=["p"], missing="m")
    found = log_probs(outputs, np.array([[2.5], [7.0], [np.nan]]), manifest)[:, 0]
    assert found == pytest.approx([np.log(0.3 * 0.75), np.log(0.5 * 0.75), 0.0], abs=1e-6)
    assert (without_missing(outputs, manifest)["m"] == 0).all()


def test_class_of_missing_cells_is_never_drawn():
    column = {"name": "a", "kind": "categorical", "classes": ["x", "y", "?"], "missing": "?"}
    outputs = {"x_mean": np.zeros((2, 1)), "p": np.array([[0.2, 0.3, 0.5], [0.0, 0.0, 1.0]], np.float32)}
    found = without_missing(outputs, Manifest([column], probabilities=["p"]))["p"]
    assert found[0] == pytest.approx([0.2, 0.3, 0.0])
    assert found[1, 2] == 0 < found[1, 0]
