"""
Export to R, a spreadsheet or scanpy
====================================

Every result is a table, and units are an annotated matrix: for pandas, R, a spreadsheet, or the
tools of single-cell analysis.
"""

# %%
# The store of :doc:`localise`, made here if that script has not run:

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray

import fusiform
from fusiform import Design, Network, UnitRequest

stimuli = Path("gallery-data/stimuli")
trained = Path("gallery-data/trained.zarr")
if not stimuli.exists():
    fusiform.make_stimuli(stimuli, per_category=32, size=128)
if not trained.exists():
    small = {"resize": 128, "crop": 128}
    network = Network("demo:efficientnet_lite0", preprocessing=small)
    fusiform.scan(network, stimuli, trained)
store = fusiform.open_store(trained)

# %%
# A file for R
# ------------
# All values of all analyses, a row per value, with the ends of its interval. In R it is
# ``read.csv("gallery-data/analysis.csv")``; ``to_parquet`` keeps types and is smaller.

values = fusiform.analyse(store, resamples=100).frame()
values.to_csv("gallery-data/analysis.csv", index=False)
values[["analysis", "layer", "contrast", "quantity", "value"]].head()

# %%
# AnnData
# -------
# Responses to single images need a recording. As AnnData (``pip install 'fusiform[anndata]'``) its
# images are observations and its units variables: scanpy takes it from here.

units = UnitRequest(select="*", top=20)
last = Design(layers="global_pool.pool")
recording = fusiform.record(store=trained, units=units, design=last)
data = recording.to_anndata()
data.write_h5ad("gallery-data/units.h5ad")
data

# %%
# Without fusiform
# ----------------
# The store itself is zarr, and its numbers name their formulas (:doc:`/reference/store`).

tree = xarray.open_datatree(trained, engine="zarr")
t = tree["global_pool.pool"]["t"]
print(t.attrs["long_name"])

# %%
# The result
# ----------
# The images in the plane of their first two principal components, from the AnnData alone. Colours
# are their categories, which the computation does not know.

centred = data.X - data.X.mean(0)
left, scale, _ = np.linalg.svd(centred, full_matrices=False)
figure, ax = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
for category in data.obs["category"].cat.categories:
    own = data.obs["category"] == category
    ax.plot(*(left[own, :2] * scale[:2]).T, ".", label=category)
ax.set(xlabel="first component", ylabel="second component")
ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
plt.show()
share = (scale[:2] ** 2).sum() / (scale**2).sum()
print(f"{data.n_obs} images, {data.n_vars} units, {share:.0%} of the variance")

# %%
# The responses of selected units alone set faces, bodies and scrambled images apart.
