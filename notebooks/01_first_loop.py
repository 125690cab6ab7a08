# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The first loop
#
# What a finished loop looks like from Python: activate, query, plot. Run `inception demo` (or a
# loop of your own) first; this notebook reads the database that `INCEPTION_HOME`, `DJ_HOST` or
# `datajoint.json` names.

# %%
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display

import schemas

schemas.activate()
from pipeline.stimulus.kinds import stimulus_name
from schemas import closed_loop, dataset, imaging, mei, model

# %% [markdown]
# ## Which loops are there?
# A `Loop` row is a decision; everything else follows from it.

# %%
closed_loop.Loop.proj("targets", "minutes", "registered").to_pandas()

# %% [markdown]
# ## Cells
# `imaging.Segmentation.Unit` has a row for every unit; arrays are read only when asked for.

# %%
units = (imaging.Segmentation.Unit * imaging.Fluorescence.Unit).to_pandas().reset_index()
units.groupby(["session", "field"])[["area_px", "soma_probability", "snr"]].median()

# %%
first = imaging.SummaryImages.keys(order_by=("session", "field"), limit=1)[0]
mean_image = (imaging.SummaryImages & first).fetch1("mean_image").load()
low, high = np.percentile(mean_image, [1, 99.5])
plt.imshow(mean_image, cmap="gray", vmin=low, vmax=high)
_ = plt.axis("off")

# %% [markdown]
# ## How well do the models predict?
# CNN, linear-nonlinear and combined ensembles on the test images, behavior frozen at its mean,
# against the neurons' own reliability (oracle).

# %%
scores = (model.EnsembleSpec * model.Evaluation).proj(
    "ensemble_kind", "n_members", "oracle", "single_trial_frozen", "fraction_oracle_frozen"
)
scores.to_pandas()

# %% [markdown]
# ## Most exciting inputs
# The three strongest MEIs, in the pixels of the model.

# %%
names = dataset.unit_names()["unit"]
strongest = (mei.MEI.Unit * mei.MEI.proj("images")).to_dicts(order_by="activation DESC", limit=3)
figure, axes = plt.subplots(1, len(strongest), figsize=(4 * len(strongest), 2.6), squeeze=False)
for axis, row in zip(axes[0], strongest, strict=True):
    axis.imshow(row["images"].load()[row["image_row"]], cmap="gray", vmin=0, vmax=255)
    name = names[row["dataset_hash"], row["unit_index"]]
    axis.set_title(f"{name}: predicted {row['activation']:.2f}")
    axis.axis("off")

# %% [markdown]
# ## What did the neurons say on day 2?
# Mean response of every matched target to its own image of each kind, in units of its standard
# deviation over the scan.

# %%
responses = closed_loop.Outcome.Unit.proj("mean_response", "predicted").to_pandas().reset_index()
if len(responses):
    names = map(stimulus_name, responses["kind"], responses["variant"])
    table = responses.assign(stimulus=list(names)).pivot_table(
        index="unit_index", columns="stimulus", values="mean_response"
    )
    table.boxplot()
    plt.ylabel("response on day 2 (sd)")
    display(table.describe().loc[["count", "mean", "50%"]])

# %% [markdown]
# The p is two-sided; the sign of the median difference tells whose effect it is (positive: the MEI
# is above the control).

# %%
closed_loop.Population.Kind.proj(
    "n_neurons", "fraction", "median_difference", "wilcoxon_p"
).to_pandas()

# %% [markdown]
# ## Where does a number come from?
# Every method row holds the complete parameters under which a result was made.

# %%
(mei.AscentMethod & mei.MEI).to_dicts()[0]
