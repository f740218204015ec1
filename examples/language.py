"""
Language units
==============

The same scan for another modality: which units of a language model prefer sentences to lists of
non-words, the contrast of language localizers? It needs ``pip install 'fusiform[hf]'``.
"""

# %%
# Sequences
# ---------
# A sentence has a word of every column. Non-words are strings of consonants.

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn
from transformers import GPT2Config, GPT2Model

import fusiform
from fusiform import Criterion, Design, plot

columns = [one.split() for one in (
    "the a this every", "old young small happy", "dog child woman bird", "slowly often never again",
    "sees hears follows finds", "the a this every", "quiet brown tall kind",
    "friend teacher cat man", "near behind beside under", "the a my your",
    "house garden river school", "today now here there",
)]  # fmt: skip
rng = np.random.default_rng(0)
words = sorted({word for column in columns for word in column})
nonwords = ["".join(rng.choice(list("bcdfghjklmnpqrstvwxz"), 5)) for _ in words]
vocabulary = {word: number for number, word in enumerate([*words, *nonwords])}


def sequences(columns):
    """Sixty sequences of tokens, with a word of every column."""
    chosen = [[vocabulary[rng.choice(column)] for column in columns] for _ in range(60)]
    return {"input_ids": torch.tensor(chosen)}


# %%
# A dictionary in place of images holds the arguments of the network by name, with a row per
# stimulus.

stimuli = {
    "sentences": sequences(columns),
    "nonwords": sequences([nonwords] * len(columns)),
}

# %%
# A language model whose blocks are averaged over tokens
# ------------------------------------------------------
# A small GPT-2 with random weights, built from its configuration, so that nothing is downloaded.
# The layers that are recorded are means of its blocks over the last six tokens; any other reduction
# can stand there.


class LastTokens(nn.Module):
    def forward(self, hidden):
        return hidden[:, -6:].mean(1)


class Reduced(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model
        self.reduced = nn.ModuleList(LastTokens() for _ in model.h)

    def forward(self, input_ids):
        output = self.model(input_ids=input_ids, output_hidden_states=True)
        for reduce, block in zip(self.reduced, output.hidden_states[1:], strict=True):
            reduce(block)


torch.manual_seed(0)
size = len(vocabulary)
config = GPT2Config(
    vocab_size=size, n_positions=12, n_embd=64, n_layer=4, n_head=4,
    bos_token_id=0, eos_token_id=0,
)  # fmt: skip
network = Reduced(GPT2Model(config))
store = fusiform.scan(network, stimuli, design=Design(layers="reduced.*"))

# %%
# The result
# ----------

criterion, contrast = Criterion("rest"), "sentences > nonwords"
plot.by_depth(fusiform.analyse(store, criterion, contrasts=contrast))
plt.show()
for row in store.frame(criterion, contrasts=contrast).itertuples():
    print(f"{row.layer}: {row.selective} of {row.units} units prefer sentences")

# %%
# A model with random weights has no language. Its units tell the two apart because the sentences
# share some words and the non-words others: the control that a trained model has to exceed.
