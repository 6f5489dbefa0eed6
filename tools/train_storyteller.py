#!/usr/bin/env python3
"""Trains the storyteller, the small model that ships with the engine, and writes it as a Hugging Face checkpoint.

    python3 tools/train_storyteller.py --out models/storyteller

The model is a small Qwen3-Next (Gated DeltaNet, gated attention, mixture of experts), trained from nothing on
data/grimm.txt without the tales named in data/heldout.txt. The output folder receives config.json,
generation_config.json, model.safetensors (bf16, tensor names of the released Qwen3-Next), tokenizer.json,
tokenizer_config.json, chat_template.jinja, README.md (the model card) and training.json (figures over time).

Needs one CUDA GPU, torch 2.11, transformers 5.17, tokenizers 0.23, safetensors 0.8, numpy. Without the fla package,
transformers runs Gated DeltaNet as plain torch; the whole training step is therefore captured once as a CUDA graph.
On one H200 a step then takes 95 ms (115 ms uncaptured) and a run three minutes. torch.compile of the delta rule makes
that 70 ms but takes 50 s to compile, which does not pay. Runs with one seed agree closely but not bit for bit.
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from transformers import Qwen3NextConfig, Qwen3NextForCausalLM
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

import storyteller_card
import storyteller_corpus as corpus
import storyteller_samples
from release_names import save_checkpoint
from tales import read_tales

REPOSITORY = Path(__file__).resolve().parent.parent
MAX_CHECKPOINT_BYTES = 16 * 2**20
WARMUP_STEPS = 50  # of the learning rate
AUX_LOSS_WEIGHT = 0.01  # load balance of the experts


def model_config(end: int, turn_end: int) -> dict:
    """config.json of the storyteller in the spelling of the released Qwen3-Next; `end` is the id of <|endoftext|>."""
    return {
        "architectures": ["Qwen3NextForCausalLM"], "model_type": "qwen3_next", "torch_dtype": "bfloat16",
        "vocab_size": corpus.VOCAB_SIZE, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 8,
        "full_attention_interval": 4, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 64,
        "partial_rotary_factor": 0.25, "rope_theta": 10000.0, "rope_scaling": None,
        "max_position_embeddings": corpus.MAX_POSITIONS, "attention_bias": False, "attention_dropout": 0.0,
        "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 64,
        "linear_value_head_dim": 64, "linear_conv_kernel_dim": 4, "num_experts": 8, "num_experts_per_tok": 2,
        "moe_intermediate_size": 64, "shared_expert_intermediate_size": 192, "norm_topk_prob": True,
        "decoder_sparse_step": 1, "mlp_only_layers": [], "output_router_logits": False, "router_aux_loss_coef": 0.001,
        "hidden_act": "silu", "rms_norm_eps": 1e-6, "initializer_range": 0.02, "tie_word_embeddings": True,
        "use_cache": True, "bos_token_id": end, "eos_token_id": end, "pad_token_id": end}


def generation_config(end: int, turn_end: int) -> dict:
    """generation_config.json: both stop ids and the sampling that suits the model."""
    return {"bos_token_id": end, "pad_token_id": end, "eos_token_id": [turn_end, end], "do_sample": True,
            "temperature": 0.8, "top_p": 0.95}


def dense_experts(experts, x: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """All experts on all tokens, the unchosen ones weighed by zero: no host synchronisation, so it can be captured.

    x [T, H], chosen I64 [T, k], weights [T, k] -> [T, H]. `experts` holds gate_up_proj [E, 2I, H], down_proj [E, H, I].
    """
    E, _, H = experts.gate_up_proj.shape
    table = torch.zeros(len(x), E, dtype=weights.dtype, device=x.device).scatter(1, chosen, weights)
    gate, up = F.linear(x, experts.gate_up_proj.reshape(-1, H)).view(len(x), E, -1).chunk(2, dim=-1)
    inner = F.silu(gate) * up * table[..., None]
    return inner.flatten(1) @ experts.down_proj.transpose(1, 2).reshape(-1, H).to(inner.dtype)


def build_model(config: dict, dropout: float, device: str) -> Qwen3NextForCausalLM:
    """A fresh fp32 model with dropout on the embedding and on every block's output."""
    ALL_EXPERTS_FUNCTIONS.register("dense", dense_experts)
    model = Qwen3NextForCausalLM._from_config(
        Qwen3NextConfig(**config), attn_implementation="sdpa", experts_implementation="dense",
        dtype=torch.float32).to(device)

    def drop(module, inputs, output):
        return F.dropout(output, dropout, module.training)

    blocks = [model.model.embed_tokens]
    for layer in model.model.layers:
        blocks += [layer.mlp] + ([layer.linear_attn] if hasattr(layer, "linear_attn") else [layer.self_attn.o_proj])
    for block in blocks if dropout else []:
        block.register_forward_hook(drop)
    return model


class Router:
    """Remembers what the routers said in the latest forward pass, for the load-balancing loss."""

    def __init__(self, model: Qwen3NextForCausalLM):
        self.seen = []
        for layer in model.model.layers:
            layer.mlp.gate.register_forward_hook(lambda module, inputs, output: self.seen.append(output))

    def loss(self) -> torch.Tensor:
        """Switch-Transformer balance loss, mean over layers (1 is perfect balance); forgets what it saw."""
        total = 0.0
        for logits, _, chosen in self.seen:  # [T, E], [T, k], [T, k]
            experts = logits.shape[-1]
            share = F.one_hot(chosen, experts).float().mean(dim=(0, 1))
            total = total + experts * (share * logits.float().softmax(-1).mean(0)).sum()
        total = total / len(self.seen)
        self.seen.clear()
        return total


def logits_of(model: Qwen3NextForCausalLM, ids: torch.Tensor) -> torch.Tensor:
    """Logits [B, T, V] for ids I64 [B, T]; the explicit mask mapping spares a look for padding on the host."""
    masks = {"full_attention": None, "linear_attention": None}
    return model(input_ids=ids, attention_mask=masks, use_cache=False).logits


class Trainer:
    """One captured training step: forward, loss, backward, clipping, AdamW."""

    def __init__(self, model: Qwen3NextForCausalLM, args: argparse.Namespace):
        self.model, self.args = model, args
        self.router = Router(model)
        self.ids = torch.zeros(args.batch, args.window + 1, dtype=torch.int64, device=args.device)
        self.loss = torch.zeros((), device=args.device)
        matrices = [p for p in model.parameters() if p.ndim > 1]
        vectors = [p for p in model.parameters() if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": args.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(
            groups, lr=torch.zeros((), device=args.device), betas=(0.9, 0.95), fused=True, capturable=True)
        self.graph = None

    def eager_step(self) -> None:
        """One step on self.ids; leaves the language-model loss in self.loss."""
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            logits = logits_of(self.model, self.ids[:, :-1])
        loss = F.cross_entropy(logits.float().flatten(0, 1), self.ids[:, 1:].flatten())
        (loss + AUX_LOSS_WEIGHT * self.router.loss()).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.loss.copy_(loss.detach())

    def capture(self, batch: np.ndarray) -> None:
        """Warms up on `batch`, I64 [rows, window + 1], with a learning rate of zero, then captures the step."""
        self.ids.copy_(torch.from_numpy(batch))
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.eager_step()
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.eager_step()

    def step(self, batch: np.ndarray, lr: float) -> None:
        """Trains on one batch, I64 [rows, window + 1]."""
        self.ids.copy_(torch.from_numpy(batch))
        for group in self.optimizer.param_groups:
            group["lr"].fill_(lr)
        self.graph.replay() if self.graph else self.eager_step()


@torch.no_grad()
def mean_loss(model: Qwen3NextForCausalLM, windows: list[np.ndarray], device: str) -> float:
    """Mean loss per token, in nats, over windows of ids."""
    model.eval()
    total, count = 0.0, 0
    for ids in windows:
        row = torch.from_numpy(ids).to(device)[None]
        with torch.autocast("cuda", torch.bfloat16):
            logits = logits_of(model, row[:, :-1])
        total += F.cross_entropy(logits[0].float(), row[0, 1:], reduction="sum").item()
        count += len(ids) - 1
    model.train()
    return total / count


def learning_rate(step: int, args: argparse.Namespace) -> float:
    """Linear warm-up, then a cosine down to a twentieth."""
    warm = min(1.0, (step + 1) / WARMUP_STEPS)
    return args.lr * warm * (0.525 + 0.475 * math.cos(math.pi * step / args.steps))


def fit(model: Qwen3NextForCausalLM, tokenizer, train: list[str], held: list[str], args: argparse.Namespace) -> dict:
    """Trains in place; returns the figures: losses over time, seconds, tokens."""
    windows = corpus.Windows(tokenizer, train, args.chat, args.seed)
    measured = {"train": corpus.plain_windows(tokenizer, train[::20], args.window),
                "heldout": corpus.plain_windows(tokenizer, held, args.window)}
    trainer = Trainer(model, args)
    begin, history = time.time(), []
    if not args.eager:
        trainer.capture(windows.batch(args.batch, args.window + 1))
    print(f"captured after {time.time() - begin:.1f} s", flush=True)
    for step in range(args.steps):
        trainer.step(windows.batch(args.batch, args.window + 1), learning_rate(step, args))
        if (step + 1) % args.measure == 0 or step + 1 == args.steps:
            losses = {name: round(mean_loss(model, rows, args.device), 4) for name, rows in measured.items()}
            trainer.router.seen.clear()
            history.append({"step": step + 1, "seconds": round(time.time() - begin, 1),
                            "batch": round(trainer.loss.item(), 4), **losses})
            print(json.dumps(history[-1]), flush=True)
    held_ids = sum(len(w) - 1 for w in measured["heldout"])
    return {"history": history, "tales": len(train) + len(held), "heldout_tales": len(held),
            "seconds": round(time.time() - begin, 1),
            "tokens": args.steps * args.batch * args.window, "corpus_tokens": int(windows.starts[-1]),
            "heldout_characters_per_token": sum(map(len, held)) / held_ids}


def export(model: Qwen3NextForCausalLM, tokenizer, out: Path) -> int:
    """Writes checkpoint and tokenizer; returns the bytes of model.safetensors."""
    ends = [tokenizer.token_to_id(text) for text in (corpus.END_OF_TEXT, corpus.TURN_END)]
    size = save_checkpoint(model, model_config(*ends), out, torch.bfloat16)
    if size > MAX_CHECKPOINT_BYTES:
        raise ValueError(f"model.safetensors: {size} bytes; at most {MAX_CHECKPOINT_BYTES} wanted")
    text = json.dumps(generation_config(*ends), indent=2) + "\n"
    (out / "generation_config.json").write_text(text, encoding="utf-8")
    corpus.save_tokenizer(tokenizer, out)
    return size


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--corpus", type=Path, default=REPOSITORY / "data/grimm.txt")
    parser.add_argument("--heldout", type=Path, default=REPOSITORY / "data/heldout.txt")
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--batch", type=int, default=32, help="rows in a batch (default %(default)s)")
    parser.add_argument("--window", type=int, default=1024, help="tokens in a row (default %(default)s)")
    parser.add_argument("--lr", type=float, default=2e-3, help="peak learning rate (default %(default)s)")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--chat", type=float, default=0.45, help="share of tales wrapped as a chat")
    parser.add_argument("--measure", type=int, default=100, help="steps between two measurements")
    parser.add_argument("--seed", type=int, default=1812)
    parser.add_argument("--eager", action="store_true", help="do not capture the step as a CUDA graph")
    parser.add_argument("--device", default="cuda")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    torch.manual_seed(args.seed)
    train, held = read_tales(args.corpus, args.heldout)
    tokenizer = corpus.train_tokenizer(train)
    model = build_model(model_config(*map(tokenizer.token_to_id, (corpus.END_OF_TEXT, corpus.TURN_END))),
                        args.dropout, args.device)
    figures = fit(model, tokenizer, train, held, args)
    figures["bytes"] = export(model, tokenizer, args.out)
    figures["parameters"] = sum(p.numel() for p in model.parameters())
    figures["machine"] = torch.cuda.get_device_name()
    figures["versions"] = {"torch": torch.__version__, "transformers": transformers.__version__}
    figures["arguments"] = {k: v for k, v in vars(args).items() if isinstance(v, (int, float)) and k != "eager"}
    figures["samples"] = storyteller_samples.sample(args.out, train, args.device)
    (args.out / "training.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    storyteller_card.write_card(args.out)


if __name__ == "__main__":
    main()
