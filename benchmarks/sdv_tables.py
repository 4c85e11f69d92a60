"""One synthesizer of SDV for tables.py, run in an environment with SDV: fit a table, write rows, print CPU seconds.

Epochs are chosen so that the fit takes about the budget: fits of one and six epochs give the time of an epoch. SDV's
default is 300 epochs, which is the most. The Gaussian copula does not have epochs.
"""

import argparse
import json
import time
import warnings

import numpy as np
import pandas as pd
import torch
from sdv.metadata import Metadata
from sdv.single_table import CTGANSynthesizer, GaussianCopulaSynthesizer, TVAESynthesizer

SYNTHESIZERS = {"tvae": TVAESynthesizer, "ctgan": CTGANSynthesizer, "copula": GaussianCopulaSynthesizer}
MAX_EPOCHS = 300
TRIED = 5


def seconds_of_fit(kind, frame, metadata, epochs):
    """Return a fitted synthesizer and its CPU seconds."""
    options = {} if kind == "copula" else {"epochs": epochs, "enable_gpu": False}
    synthesizer = SYNTHESIZERS[kind](metadata, **options)
    started = time.process_time()
    synthesizer.fit({"rows": frame})
    return synthesizer, time.process_time() - started


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
    epochs = 0
    if arguments.kind != "copula":
        one, several = (seconds_of_fit(arguments.kind, frame, metadata, each)[1] for each in (1, 1 + TRIED))
        epoch = max((several - one) / TRIED, 0.05)
        epochs = int(np.clip(1 + (arguments.budget - one) / epoch, 1, MAX_EPOCHS))
    synthesizer, seconds = seconds_of_fit(arguments.kind, frame, metadata, epochs)
    drawn = synthesizer.sample(arguments.rows)
    (drawn["rows"] if isinstance(drawn, dict) else drawn).to_csv(arguments.output, index=False)
    print(json.dumps({"fit_seconds": round(seconds, 1), "epochs": epochs}))


if __name__ == "__main__":
    main()
