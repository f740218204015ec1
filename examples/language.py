"""Language: units of a language model that prefer sentences to lists of non-words.

``python examples/language.py`` builds a small GPT-2 from its configuration, with random weights,
and localises its language units offline. It needs the ``transformers`` package.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from torch import nn
from transformers import GPT2Config, GPT2Model

import fusiform
from fusiform import Criterion, Design

# A sentence has a word of every column.
SENTENCE = [one.split() for one in (
    "the a this every", "old young small happy", "dog child woman bird", "slowly often never again",
    "sees hears follows finds", "the a this every", "quiet brown tall kind",
    "friend teacher cat man", "near behind beside under", "the a my your",
    "house garden river school", "today now here there",
)]  # fmt: skip
LENGTH = len(SENTENCE)


class LastTokens(nn.Module):
    """The mean of a block over the last tokens of a sequence.

    Any reduction over tokens can stand here: its layer is what is recorded.
    """

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Means ``[sequence, channel]``."""
        return hidden[:, -LENGTH // 2 :].mean(1)


class Reduced(nn.Module):
    """A language model whose blocks are reduced over tokens, in layers ``reduced.0`` and so on."""

    def __init__(self, model: GPT2Model) -> None:
        super().__init__()
        self.model = model
        self.reduced = nn.ModuleList(LastTokens() for _ in model.h)

    def forward(self, input_ids: torch.Tensor) -> None:
        """Run the model, and hand every block's output to its reduction."""
        found = self.model(input_ids=input_ids, output_hidden_states=True).hidden_states
        for reduce, hidden in zip(self.reduced, found[1:], strict=True):
            reduce(hidden)


def main() -> None:
    """Scan the model and print the share of language units in each block."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=60, help="of sequences in each condition")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    words = sorted({word for column in SENTENCE for word in column})
    nonwords = ["".join(rng.choice(list("bcdfghjklmnpqrstvwxz"), 5)) for _ in words]
    vocabulary = {word: number for number, word in enumerate([*words, *nonwords])}

    def sequences(columns: list[list[str]]) -> dict[str, torch.Tensor]:
        chosen = [[vocabulary[rng.choice(own)] for own in columns] for _ in range(given.number)]
        return {"input_ids": torch.tensor(chosen)}

    torch.manual_seed(0)
    size = len(vocabulary)
    config = GPT2Config(
        vocab_size=size, n_positions=LENGTH, n_embd=64, n_layer=4, n_head=4,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    network = Reduced(GPT2Model(config))
    # A dictionary holds the arguments of the network by name, with a row for every stimulus.
    stimuli = {"sentences": sequences(SENTENCE), "nonwords": sequences([nonwords] * LENGTH)}
    store = fusiform.scan(network, stimuli, design=Design(layers="reduced.*"))
    print(store)
    language = store.frame(Criterion("rest"), contrasts="sentences > nonwords")
    for row in language.itertuples():
        print(f"{row.layer}: {row.selective} of {row.units} units prefer sentences")
    strongest = store.query("sentences: t > 0").top(3, by="t")
    print(strongest.frame().to_string(index=False))


if __name__ == "__main__":
    main()
