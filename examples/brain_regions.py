"""
Selective units beside brain regions
====================================

Do the units of a network that prefer faces respond to categories as a face region of the brain
does, and in which layer most?

.. warning::

   **The responses below are made up.** They only have the form of a localizer study's. A comparison
   needs the responses of measured regions: one row per subject, region and category.
"""

# %%
# The store of :doc:`localise`, made here if that script has not run:

import csv
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import fusiform
from fusiform import Criterion, Network, plot

stimuli = Path("gallery-data/stimuli")
trained = Path("gallery-data/trained.zarr")
if not stimuli.exists():
    fusiform.make_stimuli(stimuli, per_category=32, size=128)
if not trained.exists():
    small = {"resize": 128, "crop": 128}
    network = Network("demo:efficientnet_lite0", preprocessing=small)
    fusiform.scan(network, stimuli, trained)

# %%
# A made-up table
# ---------------
# Mean responses of two imaginary regions to each category, and four imaginary subjects around them.

categories = [
    "faces", "bodies", "scenes", "words", "scrambled_scenes", "scrambled_words",
]  # fmt: skip
means = {
    "imaginary face region": [2.0, 0.9, 0.3, 0.6, 0.2, 0.2],
    "imaginary scene region": [0.2, 0.3, 1.8, 0.4, 0.7, 0.2],
}
rng = np.random.default_rng(0)
table = Path("gallery-data/made_up_regions.csv")
with table.open("w", newline="") as file:
    rows = csv.writer(file)
    rows.writerow(["subject", "region", "category", "response"])
    for subject in ("imaginary 1", "imaginary 2", "imaginary 3", "imaginary 4"):
        for region, responses in means.items():
            for category, mean in zip(categories, responses, strict=True):
                response = round(mean + rng.normal(0, 0.2), 3)
                rows.writerow([subject, region, category, response])

# %%
# Correlations, layer by layer
# ----------------------------
# Units that prefer a category on one half of the stimuli are measured on the other half, and
# their mean responses to all categories are correlated with each region's.

found = fusiform.compare_regions(
    trained, table, Criterion("rest"), "blocks.*", ["faces", "scenes", "words"]
)
figure, axes = plt.subplots(2, 1, figsize=(8, 7), layout="constrained")
for ax, region in zip(axes, means, strict=True):
    plot.regions(found, region, ax=ax)
plt.show()

# %%
# The result
# ----------

for region in means:
    rows = [row for row in found.correlations if row.region == region]
    best = max(rows, key=lambda row: row.correlation or 0)
    print(
        f"{region}: r {best.correlation:.2f} with units that prefer {best.population} "
        f"in {best.layer} (p {best.p:.3f})"
    )

# %%
# Each region goes with the units selected for its own category, as the table was made. With six
# categories a high correlation is easily had: ``outside_target`` repeats it without the category
# that selected the units, and ``control_units=True`` compares other units of the layer.
