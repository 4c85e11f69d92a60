"""One synthesizer of SDV for tables.py, run in an environment with SDV: fit a table, write rows, print CPU seconds.

The fit ends with the first epoch after which the budget is spent, preparation of the columns included. SDV's default is
300 epochs, which is the most. The Gaussian copula does not have epochs.
"""

import argparse
import json
import time
import warnings

import numpy as np
import pandas as pd
import torch
from ctgan.synthesizers import ctgan, tvae
from sdv.metadata import Metadata
from sdv.single_table import CTGANSynthesizer, GaussianCopulaSynthesizer, TVAESynthesizer

SYNTHESIZERS = {"tvae": TVAESynthesizer, "ctgan": CTGANSynthesizer, "copula": GaussianCopulaSynthesizer}
MAX_EPOCHS = 300


class Epochs:
    """Epochs of a fit, in place of the progress bar that TVAE and CTGAN iterate over."""

    def __init__(self, budget):
        self.end, self.done = time.process_time() + budget, 0

    def __call__(self, epochs, **_):
        """Yield epochs until the budget is spent."""
        for epoch in epochs:
            yield epoch
            self.done = epoch + 1
            if time.process_time() > self.end:
                return


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=SYNTHESIZERS)
    parser.add_argument("train")
    parser.add_argument("output")
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--budget", type=float, required=True, help="CPU seconds")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    np.random.seed(arguments.seed)
    torch.manual_seed(arguments.seed)
    frame = pd.read_csv(arguments.train)
    metadata = Metadata.detect_from_dataframes({"rows": frame})
    options = {} if arguments.kind == "copula" else {"epochs": MAX_EPOCHS, "enable_gpu": False}
    synthesizer = SYNTHESIZERS[arguments.kind](metadata, **options)
    started, epochs = time.process_time(), Epochs(arguments.budget)
    ctgan.tqdm = tvae.tqdm = epochs
    synthesizer.fit({"rows": frame})
    seconds = time.process_time() - started
    drawn = synthesizer.sample(arguments.rows)
    (drawn["rows"] if isinstance(drawn, dict) else drawn).to_csv(arguments.output, index=False)
    print(json.dumps({"fit_seconds": round(seconds, 1), "epochs": epochs.done}))


if __name__ == "__main__":
    main()
