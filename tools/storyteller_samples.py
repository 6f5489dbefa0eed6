"""Reads the finished storyteller aloud: continuations of a few prompts, with figures of copying and looping.

Used by train_storyteller.py. Needs torch and transformers.
"""

from pathlib import Path

import torch
from transformers import Qwen3NextForCausalLM, PreTrainedTokenizerFast

PROMPTS = {
    "once": "Once upon a time",
    "fox": "There was once a fox who",
    "chat": [{"role": "user", "content": "Tell me a tale about a fox."}],
    "plain chat": [{"role": "user", "content": "Tell me a tale."}],
}
NEW_TOKENS = 300
SAMPLES = 3


def pick(logits: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    """Row 0 takes the best token, the other rows sample; logits F32 [B, V] -> I64 [B, 1]."""
    probabilities, order = (logits / temperature).softmax(-1).sort(dim=-1, descending=True)
    outside = probabilities.cumsum(-1) - probabilities > top_p
    drawn = torch.multinomial(probabilities.masked_fill(outside, 0.0), 1)
    drawn[0] = 0
    return order.gather(1, drawn)


@torch.no_grad()
def continue_prompt(model, prompt: list[int], temperature: float = 0.8, top_p: float = 0.95) -> list[list[int]]:
    """One greedy and SAMPLES sampled continuations of NEW_TOKENS ids, not stopped at any end."""
    ids = torch.tensor([prompt] * (1 + SAMPLES), device=model.device)
    cache, out = None, []
    for _ in range(NEW_TOKENS):
        result = model(input_ids=ids, past_key_values=cache, use_cache=True)
        cache = result.past_key_values
        ids = pick(result.logits[:, -1].float(), temperature, top_p)
        out.append(ids)
    return torch.cat(out, dim=1).tolist()


def copied_share(text: str, tales: list[str], n: int = 8) -> float:
    """Share of the n-word sequences of `text` that some training tale contains."""
    words = text.split()
    grams = [" ".join(words[i:i + n]) for i in range(len(words) - n + 1)]
    whole = "\n".join(" ".join(tale.split()) for tale in tales)
    return sum(gram in whole for gram in grams) / max(1, len(grams))


def repeated_share(ids: list[int], n: int = 8) -> float:
    """Share of n-token sequences that occurred before in the same continuation: near 1 for a loop."""
    grams = [tuple(ids[i:i + n]) for i in range(len(ids) - n + 1)]
    return 1 - len(set(grams)) / max(1, len(grams))


def sample(folder: Path, tales: list[str], device: str) -> list[dict]:
    """Continuations of PROMPTS by the checkpoint on disk, in fp32, each with its text and its figures."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    model = Qwen3NextForCausalLM.from_pretrained(
        folder, dtype=torch.float32, experts_implementation="eager").to(device).eval()
    stops = set(model.generation_config.eos_token_id)
    torch.manual_seed(0)
    read = []
    for name, prompt in PROMPTS.items():
        if isinstance(prompt, list):
            prompt = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
        for row, ids in enumerate(continue_prompt(model, tokenizer.encode(prompt))):
            end = next((i for i, token in enumerate(ids) if token in stops), None)
            text = tokenizer.decode(ids[:end])
            read.append({"prompt": name, "how": "greedy" if row == 0 else "sampled", "ends_at": end,
                         "repeated": round(repeated_share(ids[:end]), 3),
                         "copied": round(copied_share(text, tales), 3), "text": text})
            print(f"--- {name}, {read[-1]['how']}, ends {end}, repeated {read[-1]['repeated']}, "
                  f"copied {read[-1]['copied']}\n{prompt}|{text}", flush=True)
    return read
