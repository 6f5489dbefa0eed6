#!/usr/bin/env python3
"""Writes the storyteller's model card, README.md, from its training.json.

    python3 tools/storyteller_card.py models/storyteller

train_storyteller.py does so at the end of a run. Needs nothing but Python.
"""

import json
import math
import statistics
import sys
from pathlib import Path

CARD = """\
---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
tags: [qwen3_next, fairy-tales]
---
# Storyteller

A Qwen3-Next of {million:.1f} million parameters that tells fairy tales in the English of the 19th century. It is there so that
an inference engine for hybrid models (Gated DeltaNet, gated softmax attention, mixture of experts with a shared expert)
has something to say at once, without a download. It is a test piece and a toy, not an assistant.

| | |
|---|---|
| architecture | `qwen3_next`: 8 layers (layers 3 and 7 softmax attention, the others Gated DeltaNet), hidden size 256, 8 experts of 64 of which 2 work, shared expert of 192, tied embeddings |
| parameters | {parameters:,} ({bytes:,} bytes in bf16) |
| tokenizer | byte-level BPE in Qwen's form, 4096 entries, learnt from the training tales |
| context | 4096 positions; trained on windows of {window} tokens |
| stop ids | `<|im_end|>` 4095, `<|endoftext|>` 4093 |
| licence | Apache-2.0 for weights and code; the text is in the public domain |

## Data

Grimm's tales in the translations of Lucy Crane (1882), Margaret Hunt (1884) and contemporaries (`data/grimm.txt` of the
repository): {tales} tales, of which {heldout_tales} are held out. {corpus_tokens:,} training tokens.

## Training

`tools/train_storyteller.py`, {steps} steps of {batch} × {window} tokens ({epochs:.0f} times the corpus), AdamW, peak learning rate {lr}, dropout
{dropout}, bf16 autocast, {seconds:.0f} s on one {machine} (torch {torch}, transformers {transformers}). A share of {chat} of the tales was
wrapped as chats: a user asks for a tale (about a thing, or beginning with some words), the assistant tells it. Half of
the tellings that can begin with "Once upon a time" instead of "There was once" do.

Loss is in nats per token, without dropout, over every twentieth training tale and over all held-out ones.

| step | loss on training tales | loss on held-out tales | bits per character, held out |
|---|---|---|---|
{rows}

**The checkpoint was chosen for a reader, not for the held-out loss.** The held-out loss is best early on, when the model
babbles. Later it knows its tales by heart, and reads far better; what it tells is then theirs, nearly word for word.
Of the eight-word sequences of four greedy continuations of 300 tokens {copied_greedy:.1%} stand in the training text, of twelve
sampled ones {copied_sampled:.1%}. With stronger dropout or fewer steps it makes up tales of its own, in sentences that do not
hang together.

## What it cannot do

It knows no facts and follows no instruction but "tell me a tale"; it answers anything else with a tale, and mostly not
with one about the thing asked for. It does not keep a plot together when a prompt leads it away from the tales that it
knows. It writes only English, of its time: the tales are cruel in places, and their view of women, of the poor and of
strangers is that of their tellers; some are anti-Semitic, and their words may come back. Do not give it to children
unread, or use it for anything that matters.

## Samples

300 tokens from "Once upon a time", greedily:

> {greedy}

The same, temperature 0.8, top-p 0.95:

> {sampled}
"""


def card(figures: dict) -> str:
    """The model card, README.md."""
    samples = figures["samples"]
    once = {s["how"]: s["text"] for s in reversed(samples) if s["prompt"] == "once"}
    mean = lambda how: statistics.mean(s["copied"] for s in samples if s["how"] == how)
    rows = "\n".join(
        f"| {h['step']} | {h['train']:.3f} | {h['heldout']:.3f} | "
        f"{h['heldout'] / math.log(2) / figures['heldout_characters_per_token']:.3f} |" for h in figures["history"])
    quote = lambda text: ("Once upon a time" + text).replace("\n", "\n> ")
    arguments = figures["arguments"]
    plain = ("parameters", "bytes", "tales", "heldout_tales", "corpus_tokens", "seconds", "machine")
    return CARD.format(
        **{key: figures[key] for key in plain}, **arguments,
        **figures["versions"], million=figures["parameters"] / 1e6, rows=rows,
        epochs=figures["tokens"] / figures["corpus_tokens"], copied_greedy=mean("greedy"),
        copied_sampled=mean("sampled"), greedy=quote(once["greedy"]), sampled=quote(once["sampled"]))


def write_card(folder: Path) -> None:
    """Reads training.json in `folder` and writes README.md beside it."""
    figures = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    (folder / "README.md").write_text(card(figures), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    write_card(Path(sys.argv[1]))
