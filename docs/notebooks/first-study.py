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
# # A first study, in a notebook
#
# This notebook tunes a soft prompt, finds skill neurons, and asks whether the model needs them. It uses
# `pocket-roberta`, a small model that comes with the project, and generated film notes. It needs no network and no
# GPU.
#
# To open it in Jupyter: `jupytext --to notebook docs/notebooks/first-study.py`, or open the `.py` file with the
# Jupytext extension. It is small on purpose. Its numbers show how the parts work together; they are no result.

# %%
import matplotlib.pyplot as plt

import skillneurons as sn

# %% [markdown]
# ## Size
#
# Make these numbers larger for a study of your own. `controls` is the number of random sets. For one rate a test
# needs 19 of them; with fewer the answer is always "cannot tell".

# %% tags=["parameters"]
max_steps = 20
train_rows = 200
eval_rows = 120
controls = 19

# %% [markdown]
# ## Tune a soft prompt
#
# The function does what the command `skillneurons tune` does, with the same parameters. It writes a run into MLflow
# and returns the finding in words.

# %%
tuned = sn.tune_prompts(
    "pocket-roberta",
    "film_notes",
    device="cpu",
    prompt_length=8,
    max_length=48,
    max_steps=max_steps,
    eval_every=10,
    max_train_rows=train_rows,
    max_dev_rows=eval_rows,
    max_eval_rows=eval_rows,
)

# %%
print(tuned.finding)

# %% [markdown]
# Read it like this. First comes the accuracy with its interval. Then come three things the prompt must beat: no
# prompt, no prompt with calibrated scores, and a random prompt. If "not shown better" stands there, tuning is not
# shown to help, however high the accuracy is.
#
# The prompt itself is a small tensor: one vector for each position.

# %%
(prompt,) = sn.load_prompts(tuned.reference)
print(tuple(prompt.embeddings.shape))

# %%
answers = sn.predict(prompt, ["A gorgeous, witty film.", "The plot is thin and dull."], device="cpu")
print(answers.round(2).to_string(index=False))

# %% [markdown]
# ## Find skill neurons
#
# `prompt-body` leaves out the position where the label is read. The neurons are chosen on half A of dev and judged
# on half B.

# %%
found = sn.discover_neurons(
    tuned.reference,
    site="prompt-body",
    device="cpu",
    max_train_rows=train_rows,
    max_dev_rows=eval_rows,
    permutations=100,
    random_prompts=1,
    cards=3,
)

# %%
print(found.finding)

# %% [markdown]
# The predictivity of every neuron, by layer. The first axis is the target; for two labels there is one. The dashed
# line is a coin.

# %%
neurons = sn.load_neurons(found.reference)
by_layer = neurons.predictivity[0]
figure, axes = plt.subplots(figsize=(6, 3))
axes.boxplot(list(by_layer), tick_labels=range(len(by_layer)), showfliers=False)
axes.axhline(0.5, color="grey", linestyle="--")
axes.set(xlabel="layer", ylabel="predictivity on half B")
figure.tight_layout()

# %% [markdown]
# ## Does the model need them?
#
# The top 5% of each layer are set to their mean, beside random sets of as many neurons.

# %%
needed = sn.suppress_neurons(
    tuned.reference, found.reference, rates="5", controls=controls, device="cpu", max_eval_rows=eval_rows
)

# %%
print(needed.finding)

# %% [markdown]
# A neuron that predicts the label is not always a neuron that the model needs. "Cannot tell" is a frequent answer
# with so few rows. It does not mean "no". [Reading a verdict](../how-to/reading-a-verdict.md) explains each word.
#
# Every number is in a table of the run:

# %%
table = needed.table("suppression.json")
print(table.iloc[:, :6].to_string(index=False))
