"""Studies on small runs: trials, seeds, pruning, interruptions, grids, and the files that they write."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib

import numpy as np
import pytest

import kvae
from kvae import metrics
from kvae.training import run_folder, saved_run
from kvae.tuning import factors, results, storage, study
from kvae_serve.errors import InputDataError, OutputError, RequestError, VerificationError
from support.paths import python_path
from support.runs import SMALL

pytest.importorskip("optuna")

SETTINGS = {name: value for name, value in SMALL.items() if name not in ("data", "latent_dim")} | {"epochs": 2}
SPACE = "latent_dim=2:8,learning_rate=1e-3:1e-2:log"


def tune(directory, **changes):
    return kvae.tune("mnist-sample", directory, quiet=True, **{"trials": 3, "space": SPACE, **SETTINGS, **changes})


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def without_times(path):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows_of(path)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Folder of an uninterrupted search of 3 trials."""
    folder = tmp_path_factory.mktemp("whole") / "study"
    assert tune(folder).counts == {"complete": 3, "pruned": 0, "failed": 0, "running": 0}
    return folder


def test_best_toml_repeats_the_best_run_in_training(whole, tmp_path):
    rows = rows_of(whole / storage.RUNS)
    best = max(rows, key=lambda row: float(row["val_elbo"]))
    run = kvae.train(whole / storage.BEST, tmp_path / "run", export_check=False, quiet=True)
    assert run.metadata["training"]["validation"]["elbo"] == float(best["val_elbo"])
    assert run.model.latent_dim == int(best["model.latent_dim"])
    original = whole / "trials" / f"{int(best['trial']):04d}" / "seed-0"
    for ours, theirs in zip(run.model.weights, saved_run.load(original)[0].weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_first_trial_has_the_defaults(whole):
    default = kvae.default_settings(kvae.data.load("mnist-sample"))
    assert float(rows_of(whole / storage.RUNS)[0]["training.learning_rate"]) == default.training.learning_rate


def test_figures_are_those_of_the_validation_data_of_the_run(whole):
    for row in rows_of(whole / storage.RUNS):
        _, metadata = run_folder.read(whole / "trials" / f"{int(row['trial']):04d}" / "seed-0")
        assert float(row["val_elbo"]) == metadata["training"]["validation"]["elbo"]
        assert float(row["val_elbo"]) == pytest.approx(
            -float(row["val_reconstruction"]) - float(row["val_kl"]), abs=1e-3
        )


def test_report_states_the_numbers_of_trials(whole):
    page = (whole / storage.REPORT).read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "<script" not in page
    assert "The best of 3 trials" in page
    assert "stopped early as bad" in page
    assert all(name in page for name in ("model.latent_dim", "training.learning_rate", "val_elbo"))


@pytest.mark.long
def test_finished_study_continues_with_more_trials(whole, tmp_path):
    copy = shutil.copytree(whole, tmp_path / "renamed")
    assert tune(copy).counts["complete"] == 3
    assert tune(copy, trials=4).counts["complete"] == 4
    assert without_times(copy / storage.RUNS)[:3] == without_times(whole / storage.RUNS)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"epochs": 3}, RequestError, "was made with epochs 2, got 3"),
        ({"space": "latent_dim=2:9"}, RequestError, "was made with space model.latent_dim=2:8"),
        ({"space": None, "grid": "latent_dim=2,9"}, RequestError, "--trials cannot be combined with --grid"),
        ({"metric": "val_reconstruction"}, RequestError, "was made with metric val_elbo, got val_reconstruction"),
        ({"seeds": 2}, RequestError, "was made with seeds 1, got 2"),
        ({"seed": 1}, RequestError, "was made with first seed 0, got 1"),
        ({"validation": 90}, RequestError, "was made with validation 100, got 90"),
        ({"storage": "sqlite:///x.db"}, RequestError, "was started without --storage"),
        ({"trials": 0}, RequestError, "--trials is 0"),
        ({"trials": "a"}, RequestError, "--trials is 'a'; expected an integer from 1"),
    ],
)
def test_existing_study_with_another_request_is_one_error(whole, changes, error, message):
    before = (whole / storage.STUDY).read_bytes()
    with pytest.raises(error, match=message):
        tune(whole, **changes)
    assert (whole / storage.STUDY).read_bytes() == before


def test_existing_study_of_other_data_is_one_error(whole, tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (600, 28, 28), dtype=np.uint8))
    with pytest.raises(InputDataError, match="was made with other data"):
        kvae.tune(tmp_path / "x.npy", whole, trials=3, space=SPACE, **SETTINGS)


def test_folder_that_is_not_a_study_is_one_error(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(OutputError, match=r"contains notes.txt, so it is not a study"):
        tune(tmp_path)
    with pytest.raises(OutputError, match="parent is not a folder"):
        tune(tmp_path / "a" / "b")
    with pytest.raises(OutputError, match="is a file"):
        tune(tmp_path / "notes.txt")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / storage.STUDY).write_text("{")
    with pytest.raises(InputDataError, match=r"study.json is damaged"):
        tune(tmp_path / "damaged")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nowhere/journal", "expected a file in an existing folder"),
        ("sqlite:////nowhere/x.db", "unable to open database file"),
        ("nonsense://user:secret@host/name", "storage nonsense://host/name cannot be opened"),
        ("image.png", "is not an Optuna journal"),
    ],
)
def test_storage_that_cannot_be_opened_is_one_error(url, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "image.png").write_bytes(b"\x89PNG")
    with pytest.raises(OutputError, match=message) as error:
        tune(tmp_path / "study", storage=url)
    assert "secret" not in str(error.value)
    assert not (tmp_path / "study").exists()


@pytest.mark.long
def test_machines_share_the_trials_of_a_database(tmp_path, monkeypatch):
    """Each machine has its own folder; the study has the name of the folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    assert tune(tmp_path / "one/study", storage="sqlite:///x.db", trials=1).counts["complete"] == 1
    assert tune(tmp_path / "two/study", storage="sqlite:///x.db", trials=2).counts["complete"] == 2
    assert [path.name for path in (tmp_path / "two/study/trials").iterdir()] == ["0001"]
    assert len(rows_of(tmp_path / "two/study" / storage.RUNS)) == 2


@pytest.mark.long
def test_seeds_are_runs_of_a_trial_and_the_median_counts(tmp_path):
    done = tune(tmp_path / "study", trials=1, seeds=3)
    rows = rows_of(tmp_path / "study" / storage.RUNS)
    assert [(row["trial"], row["seed"]) for row in rows] == [("0", "0"), ("0", "1"), ("0", "2")]
    values = [float(row["val_elbo"]) for row in rows]
    assert len(set(values)) == 3
    assert done.best["value"] == np.median(values)


@pytest.mark.long
def test_bad_trial_is_pruned_and_counted(tmp_path, monkeypatch):
    """After 5 trials, one whose elbo is below their median is stopped at its first epochs."""
    rates = iter([1e-3, 1e-3, 1e-3, 1e-3, 1e-3, 1e-6])
    monkeypatch.setattr(study, "_ask", lambda request, trials: _ask_with(request, trials, rates))
    done = tune(tmp_path / "study", trials=6, space="learning_rate=1e-6:1e-3", epochs=4, latent_dim=2)
    assert done.counts == {"complete": 5, "pruned": 1, "failed": 0, "running": 0}
    history = rows_of(tmp_path / "study/trials/0005/seed-0" / run_folder.HISTORY)
    assert len(history) < 4
    assert '<b><data value="1">1</data></b><span>pruned</span>' in (tmp_path / "study" / storage.REPORT).read_text()


def _ask_with(request, trials, rates):
    if len(trials) >= request.trials:
        return None
    request.study.enqueue_trial({"training.learning_rate": next(rates)})
    return request.study.ask(study._distributions(request.plan)).number


@pytest.mark.long
def test_failed_trial_is_counted_with_its_reason(tmp_path):
    done = tune(tmp_path / "study", trials=2, space="learning_rate=1e-3|1e30", validation=50)
    assert done.counts["complete"] + done.counts["failed"] == 2
    bad = [row for row in rows_of(tmp_path / "study" / storage.RUNS) if row["state"] == "failed"]
    assert all("NaN" in row["error"] or "inf" in row["error"] or "nan" in row["error"] for row in bad)


def test_study_whose_trials_all_fail_is_one_error(tmp_path):
    with pytest.raises(VerificationError, match=r"None of 2 trials finished training. The first reason: .*loss"):
        tune(tmp_path / "study", trials=2, space="learning_rate=1e30:1e31")


def prepared(folder, **changes):
    """Return a request as `tune` prepares it."""
    request = {"trials": 1, "space": SPACE, "grid": None, "metric": "val_elbo", "seeds": 1, "storage_url": None}
    return study.prepare(folder, None, {**SETTINGS, "data": "mnist-sample"}, factors=None, **{**request, **changes})


def test_process_whose_trials_are_all_running_elsewhere_is_not_an_error(tmp_path):
    request = prepared(tmp_path / "study")
    with study._next_trial(request) as number:
        assert number == 0
        done = tune(tmp_path / "study", trials=1)
    assert (done.best, done.counts["running"]) == (None, 1)
    assert "belong to other processes" in study.summary(done, request)


@pytest.mark.parametrize("grid", [None, {"latent_dim": [2, 3]}])
def test_trial_that_was_killed_before_it_had_a_folder_is_claimed(tmp_path, grid):
    request = prepared(tmp_path / "study", **({"grid": grid, "space": None, "trials": None} if grid else {}))
    assert study._ask(request, []) == 0
    with study._next_trial(request) as number:
        assert number == 0
        assert study.trial_folder(tmp_path / "study", 0).is_dir()


def test_trial_that_was_killed_before_it_had_settings_is_failed(tmp_path):
    request = prepared(tmp_path / "study", trials=2)
    request.study.ask()
    with study._next_trial(request) as number:
        assert number == 1
    assert [row.state for row in results.rows(request.study, request.plan)] == ["failed", "running"]


def test_defaults_that_were_enqueued_before_a_kill_are_the_first_trial(tmp_path):
    request = prepared(tmp_path / "study")
    request.study.enqueue_trial(request.plan.defaults())
    with study._next_trial(request) as number:
        assert number == 0
        assert request.study.trials[0].params["training.learning_rate"] == request.plan.base.training.learning_rate


def test_lost_storage_is_one_error(tmp_path, monkeypatch):
    import sqlite3

    monkeypatch.chdir(tmp_path)
    request = prepared(tmp_path / "study", storage_url="sqlite:///x.db")
    with sqlite3.connect(tmp_path / "x.db") as database:
        database.execute("DROP TABLE trials")
    with pytest.raises(OutputError, match=r"storage cannot be read or written \(.*no such table"):
        study.run(request, quiet=True)


@pytest.mark.long
def test_interrupted_study_continues_to_the_same_result(whole, tmp_path, monkeypatch):
    """Ctrl-C in the second trial; the trial is a run that resumes."""
    train = study._train

    def interrupted(config, folder, dataset, pruning, name, quiet):
        if folder.parent.name == "0001":
            import keras

            stop = keras.callbacks.LambdaCallback(
                on_train_batch_begin=lambda batch, logs: os.kill(os.getpid(), signal.SIGINT)
            )
            monkeypatch.setattr(study, "_epochs", lambda progress, num: stop)
        return train(config, folder, dataset, pruning, name, quiet)

    monkeypatch.setattr(study, "_train", interrupted)
    done = tune(tmp_path / "study")
    assert done.interrupted
    assert done.counts == {"complete": 1, "pruned": 0, "failed": 0, "running": 1}
    monkeypatch.undo()
    assert not tune(tmp_path / "study").interrupted
    assert without_times(tmp_path / "study" / storage.RUNS) == without_times(whole / storage.RUNS)


@pytest.mark.long
def test_killed_study_and_two_processes_reach_the_same_result(whole, tmp_path):
    code = f"import kvae\nkvae.tune('mnist-sample', 'study', trials=3, space={SPACE!r}, quiet=True, **{SETTINGS!r})"
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": python_path()}
    first = subprocess.Popen(command, cwd=tmp_path, env=environment)
    while not list(tmp_path.glob("study/trials/*/*/checkpoints/epoch-*")):
        assert first.poll() is None
        time.sleep(0.05)
    first.kill()
    assert first.wait() == -signal.SIGKILL
    both = [subprocess.Popen(command, cwd=tmp_path, env=environment) for _ in range(2)]
    assert [each.wait() for each in both] == [0, 0]
    assert without_times(tmp_path / "study" / storage.RUNS) == without_times(whole / storage.RUNS)


@pytest.fixture(scope="module")
def sprites(tmp_path_factory):
    """Images of 8 x 8 with a white square, whose row and column are the factors; column 0 of z is constant."""
    path = tmp_path_factory.mktemp("sprites") / "sprites.npz"
    z = np.stack([np.zeros(36, int), *(each.ravel() for each in np.mgrid[:6, :6])], 1)
    x = np.zeros((36, 8, 8, 1), np.uint8)
    for image, (_, row, column) in zip(x, z, strict=True):
        image[row : row + 3, column : column + 3] = 255
    np.savez(path, x=x, z=z)
    return path


@pytest.fixture(scope="module")
def grid(sprites, tmp_path_factory):
    """Folder of a grid over two betas and two seeds."""
    folder = tmp_path_factory.mktemp("grid") / "study"
    done = kvae.tune(sprites, folder, grid={"beta": [1, 4]}, seeds=2, quiet=True, **_of_sprites())
    assert done.counts["complete"] == 4
    return folder


def _of_sprites():
    return {**SETTINGS, "validation": 6, "batch_size": 10, "latent_dim": 3}


def test_grid_measures_each_beta_and_seed(grid):
    rows = rows_of(grid / storage.RUNS)
    assert [(row["objective.beta"], row["seed"]) for row in rows] == [("1", "0"), ("4", "0"), ("1", "1"), ("4", "1")]
    for row in rows:
        assert all(0 <= float(row[name]) <= 1 for name in ("val_mig", "mig", "factor_vae_score", "dci_disentanglement"))


def test_grid_without_an_earlier_value_leaves_its_runs_out_of_the_tables(grid, sprites, tmp_path):
    copy = shutil.copytree(grid, tmp_path / "copy")
    done = kvae.tune(sprites, copy, grid={"beta": [4]}, seeds=2, quiet=True, **_of_sprites())
    assert (done.counts["complete"], done.best["params"]) == (2, {"objective.beta": 4.0})
    assert {row["objective.beta"] for row in rows_of(copy / storage.RUNS)} == {"4"}
    assert len(rows_of(grid / storage.RUNS)) == 4


def test_figures_leave_out_mig_if_a_factor_does_not_vary_in_the_validation_data(sprites, tmp_path):
    settings = {**_of_sprites(), "validation": 1}
    kvae.tune(sprites, tmp_path / "study", trials=1, space="learning_rate=1e-3:1e-2", quiet=True, **settings)
    row = rows_of(tmp_path / "study" / storage.RUNS)[0]
    assert row["state"] == "complete"
    assert "val_mig" not in row


def test_grid_over_the_size_of_z_may_begin_with_one_dimension(sprites, tmp_path):
    settings = {name: value for name, value in _of_sprites().items() if name != "latent_dim"}
    done = kvae.tune(sprites, tmp_path / "study", grid={"latent_dim": [1, 2]}, quiet=True, **settings)
    assert done.counts["complete"] == 2
    one, two = rows_of(tmp_path / "study" / storage.RUNS)
    assert one["mig"] == one["val_mig"] == one["dci_disentanglement"] == ""
    assert 0 <= float(two["mig"]) <= 1
    assert 0 <= float(one["factor_vae_score"]) <= 1


def test_medians_and_spread_are_over_seeds(grid):
    rows, medians = rows_of(grid / storage.RUNS), rows_of(grid / storage.MEDIANS)
    assert [each["objective.beta"] for each in medians] == ["1", "4"]
    for each in medians:
        values = [float(row["val_kl"]) for row in rows if row["objective.beta"] == each["objective.beta"]]
        expected = [np.median(values), min(values), max(values)]
        assert [float(each[name]) for name in ("val_kl", "val_kl_lowest", "val_kl_highest")] == pytest.approx(expected)
        assert each["runs"] == "2"


def test_scores_are_those_of_the_mean_codes_of_the_run(grid, sprites):
    data = np.load(sprites)
    model, _ = saved_run.load(grid / "trials/0001/seed-0")
    codes = model.encode(data["x"])[0]
    row = rows_of(grid / storage.RUNS)[1]
    assert run_folder.read(grid / "trials/0001/seed-0")[0].objective.beta == 4.0
    assert float(row["mig"]) == pytest.approx(metrics.mig(codes, data["z"][:, 1:]), abs=1e-6)


def test_grid_has_a_plot_of_rate_and_distortion(grid):
    assert (grid / storage.CURVE).read_text().lstrip().startswith("<?xml")
    page = (grid / storage.REPORT).read_text()
    assert "Rate and distortion" in page
    assert "Reconstruction against kl for 2 values of beta" in page


@pytest.mark.long
def test_grid_takes_more_values_and_seeds(grid, sprites, tmp_path):
    copy = shutil.copytree(grid, tmp_path / "copy")
    done = kvae.tune(sprites, copy, grid={"beta": [1, 2, 4]}, seeds=2, quiet=True, **_of_sprites())
    assert done.counts["complete"] == 6
    assert without_times(copy / storage.RUNS)[:4] == without_times(grid / storage.RUNS)
    with pytest.raises(RequestError, match=r"was made with grid objective\.beta, got model.latent_dim"):
        kvae.tune(sprites, copy, grid={"latent_dim": [1, 2]}, quiet=True, **_of_sprites())


def test_nll_is_at_most_the_negative_elbo(sprites, tmp_path):
    """log p(x) is at least its bound, and importance sampling with 100 draws is tighter."""
    kvae.tune(
        sprites, tmp_path / "study", trials=1, metric="val_nll", quiet=True, space="learning_rate=1e-3:1e-2",
        **_of_sprites(),
    )  # fmt: skip
    row = rows_of(tmp_path / "study" / storage.RUNS)[0]
    assert float(row["val_nll"]) < -float(row["val_elbo"])


def test_factors_of_sprites_leave_out_constants(sprites):
    found = factors.read(str(sprites), 36)
    assert found.sizes == (6, 6)
    np.testing.assert_array_equal(found.classes, np.load(sprites)["z"][:, 1:])
    assert factors.read("mnist-sample", 600) is None
    with pytest.raises(InputDataError, match="does not contain an array w"):
        factors.read(str(sprites), 36, "w")
    with pytest.raises(InputDataError, match="expected factors"):
        factors.read(str(sprites), 36, "x")


@pytest.mark.parametrize(("space", "is_tried"), [("learning_rate=1e-4:1e-2", True), ("latent_dim=3:4", False)])
def test_report_compares_with_the_defaults_only_if_the_space_contains_them(space, is_tried, tmp_path):
    tune(tmp_path / "study", trials=1, space=space)
    report = (tmp_path / "study" / storage.REPORT).read_text()
    assert ("default (trial 0)" in report, "not tried" in report) == (is_tried, not is_tried)


def test_best_of_a_grid_is_the_best_median():
    def group(trial, *elbos):
        return results.Group(trial, {}, {seed: {"val_elbo": elbo} for seed, elbo in enumerate(elbos)})

    nan = float("nan")
    groups = [group(0, -1.0, -9.0, -9.0), group(1, -3.0, -3.0, -3.0), group(2, nan, nan, nan), group(3, -0.5, -0.5)]
    assert results.best(groups, "val_elbo", (0, 1, 2)).trial == 1  # the third run of group 3 failed
    assert results.best([groups[2]], "val_elbo", (0, 1, 2)) is None


def test_configuration_of_best_toml_is_complete(whole):
    document = tomllib.loads((whole / storage.BEST).read_text())
    assert document["data"]["validation"] == 100
    assert document["model"]["network"] == "dense"
    assert document["training"]["seed"] == 0
