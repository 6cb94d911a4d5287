"""Draw the loss of one or more runs of train.py, one after the other: loss_curve.py OUT.png log.csv [log.csv ...]"""

import csv
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

WINDOW = 50  # steps of the running mean


def main() -> None:
    out, *logs = sys.argv[1:]
    rows = [row for log in logs for row in csv.reader(Path(log).read_text(encoding="utf-8").splitlines())]
    images, loss = np.array([(int(row[1]), float(row[2])) for row in rows]).T
    figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
    axes.plot(images, loss, linewidth=0.4, alpha=0.4, label="a batch")
    smooth = np.convolve(loss, np.full(WINDOW, 1 / WINDOW), "valid")
    axes.plot(images[WINDOW - 1 :], smooth, label=f"mean of {WINDOW}")
    axes.set(xlabel="images seen", ylabel="loss of v, unweighted", yscale="log")
    axes.legend()
    figure.savefig(out, dpi=120)


if __name__ == "__main__":
    main()
