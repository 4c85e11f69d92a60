"""Fitted prior of `kvae export --prior`, computed by `kvae.exporting.fitted_prior`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kvae_serve.cli import options
from kvae_serve.errors import InputDataError, RequestError, printable

if TYPE_CHECKING:
    from kvae.exporting.fitted_prior import FittedPrior
    from kvae_serve.model import Model


@dataclass(frozen=True)
class PriorArgs:
    """Prior to fit: `--prior`, the training data, and the comparison of samples with real data."""

    prior: str | None
    data: str | None
    sample_metrics: int | None
    classifier: str | None

    def check(self, is_exported: bool, is_run: bool, output: Path | None) -> None:
        """Raise `RequestError` if the options do not fit each other. Only a run folder names its training data."""
        from kvae.exporting import fitted_prior

        if self.prior is None:
            if (self.data and not is_exported) or self.sample_metrics or self.classifier:
                raise RequestError(
                    "--data, --sample-metrics and --classifier are for --prior. Give --prior gmm as well."
                )
            return
        fitted_prior.parse(self.prior)
        if output is None:
            raise RequestError("--prior needs a folder for the files. Give -o FOLDER.")
        if self.classifier and self.sample_metrics is None:
            raise RequestError("--classifier is for --sample-metrics. Give --sample-metrics N as well.")
        if not is_run and self.data is None:
            raise RequestError("--prior needs the training data of the model. Give --data DATA.")

    def fit(
        self, source: str | Path, run: Path | None, output: Path, name: str | None, force: bool, quiet: bool
    ) -> tuple[FittedPrior, dict[str, Any]]:
        """Fit the prior of an exported model and write the copy.

        Args:
            source: The exported model.
            run: Its run folder, whose data are used without `--data`; None if there is none.
            output: Folder to create.
            name: Name of the copy; None for that of the model.
            force: Replace `output` if it exists.
            quiet: Print nothing.

        Returns:
            The result of the fit, and the sample metrics with the former and with the new prior, if requested.
        """
        from kvae.commands import evaluate_samples
        from kvae.exporting import fitted_prior
        from kvae_serve.model import load
        from kvae_serve.readers import MissingSplitError

        assert self.prior is not None
        model = load(source)
        (x, conditions), held_out, data = self._read(model, run)
        samples: dict[str, Any] = {}

        def compare(new: Model) -> None:
            if self.sample_metrics is None:
                return
            report = (lambda line: None) if quiet else (lambda line: click.echo(line, err=True))
            options = {"num": self.sample_metrics, "classifier": self.classifier, "seed": 0, "report": report}
            for title, each in (("before", model), ("fitted", new)):
                try:
                    samples[title] = evaluate_samples.measure(
                        each, data, None, {}, train_data=None, target=None, **options
                    )
                except RequestError as error:
                    if not isinstance(error.__cause__, MissingSplitError):
                        raise
                    raise RequestError(
                        f"{printable(data)} does not have a test split, which --sample-metrics needs. Leave it out, "
                        "and use kvae evaluate with --data and --train-data."
                    ) from error

        request = fitted_prior.parse(self.prior)
        fitted = fitted_prior.fit_prior(
            model,
            output,
            x,
            conditions,
            per_class=request.per_class,
            num_components=request.num_components,
            held_out=held_out,
            name=name,
            force=force,
            measure=compare,
        )
        return fitted, samples

    def _read(self, model: Model, run: Path | None) -> tuple[tuple[Any, Any], Any, str]:
        """Return the training data, the held-out data or None, and the path of the data."""
        if self.data is None:
            from kvae.training import run_data, run_folder

            train, held_out = (None, None) if run is None else run_data.splits(run)
            if run is None or train is None:
                raise InputDataError("The training data is missing or changed. Give --data DATA.")
            return train, held_out, str(run_folder.read(run)[0].data.data)
        from kvae_serve.readers import MissingSplitError, read_for

        try:
            dataset = read_for(self.data, model.manifest, "train")
        except MissingSplitError:
            dataset = read_for(self.data, model.manifest)
        missing = [each.name for each in model.manifest.conditions if each.name not in dataset.conditions]
        if missing:
            raise InputDataError(
                f"{printable(self.data)} does not hold {', '.join(printable(name, 40) for name in missing)}, which "
                f"{printable(model.manifest.name, 60)} needs. Add it to the data."
            )
        conditions = {each.name: dataset.conditions[each.name] for each in model.manifest.conditions}
        return (dataset.x, conditions), None, self.data


def prior_args() -> options.Decorator:
    """Pass the options of `PriorArgs` as `fitted`."""
    return options.group(
        "fitted",
        PriorArgs,
        click.option(
            "--prior",
            metavar="gmm[:K]|gmm-per-class[:K]",
            help="Gaussian mixture to fit to the posteriors of the training data, as the new prior: K Gaussians for "
            "all examples, or K for each class of the label.",
        ),
        click.option(
            "--data",
            metavar="DATA",
            help="Training data, needed if RUN is an exported model.  [default: the data of the run]",
        ),
        click.option(
            "--sample-metrics",
            type=options.MIN_1,
            metavar="N",
            help="Number of samples to compare with as many real images or rows, with the former and the new prior, "
            "as in kvae evaluate.",
        ),
        click.option(
            "--classifier",
            metavar="DIR|FILE.onnx",
            help="Classifier of --sample-metrics, as in kvae evaluate.  [default: the user's cache folder]",
        ),
    )


def lines(fitted: FittedPrior, samples: dict[str, Any]) -> list[str]:
    """Return the metrics with both priors as lines of text."""
    from kvae.commands import evaluate_samples

    shown = fitted.lines()
    for title, document in samples.items():
        shown += ["", f"Samples, prior {title}:", *evaluate_samples.lines(document)[1:]]
    return shown
