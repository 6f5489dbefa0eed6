#!/usr/bin/env python3
"""Makes tiny random checkpoints of each family and what transformers computes with them: tests/golden/.

    python3 tools/make_goldens.py families                          # tests/golden/{qwen3,qwen3_moe,qwen3_next}/
    python3 tools/make_goldens.py storyteller --model models/storyteller   # tests/golden/storyteller.json

A family's folder holds config.json and model.safetensors (F32, names and spelling of the releases) and
golden.safetensors, which has for each case `long` (150 tokens) and `short` (37):

    <case>.input_ids    I64 [T]
    <case>.embedding    F32 [T, H]  the input of layer 0
    <case>.hidden.<i>   F32 [T, H]  the output of layer i, residual added, before any later norm
    <case>.logits       F32 [T, V]
    <case>.logits_bf16  F32 [T, V]  the same from the model cast to bf16 (for agreement in the large, not bit by bit)

Every parameter is random, norms, gates and decays too. Everything is computed on the CPU in fp32 with eager attention
and eager experts; Gated DeltaNet runs as torch_chunk_gated_delta_rule. The script checks that the files load back to
the same logits, that no two experts compete within ROUTER_MARGIN for a place among the chosen, and that decoding token
by token from a cache agrees.

Versions: torch 2.11, transformers 5.17, safetensors 0.8. About 10 s for the families, a minute for the storyteller.
"""

import argparse
import json
import math
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from release_names import save_checkpoint

REPOSITORY = Path(__file__).resolve().parent.parent
CASES = {"long": 150, "short": 37}
ROUTER_MARGIN = 1e-4  # between the probabilities of the last expert chosen and the first one left out
MAX_FAMILY_BYTES = 1_500_000

COMMON = {"vocab_size": 259, "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_scaling": None, "attention_bias": False,
          "attention_dropout": 0.0, "initializer_range": 0.02, "max_position_embeddings": 512, "use_cache": True,
          "bos_token_id": 257, "eos_token_id": 258, "torch_dtype": "float32"}

CONFIGS = {
    "qwen3": {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", **COMMON, "hidden_size": 64,
        "intermediate_size": 112, "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 2,
        "head_dim": 16, "rope_theta": 1000000.0, "tie_word_embeddings": True, "sliding_window": None,
        "use_sliding_window": False, "max_window_layers": 3},
    "qwen3_moe": {
        "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", **COMMON, "hidden_size": 48,
        "intermediate_size": 80, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 16, "rope_theta": 1000000.0, "tie_word_embeddings": False, "sliding_window": None,
        "use_sliding_window": False, "max_window_layers": 4, "num_experts": 12, "num_experts_per_tok": 3,
        "moe_intermediate_size": 24, "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [1],
        "output_router_logits": False, "router_aux_loss_coef": 0.001},
    "qwen3_next": {
        "architectures": ["Qwen3NextForCausalLM"], "model_type": "qwen3_next", **COMMON, "hidden_size": 48,
        "intermediate_size": 80, "num_hidden_layers": 4, "full_attention_interval": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 32, "partial_rotary_factor": 0.25, "rope_theta": 10000000.0,
        "tie_word_embeddings": False, "linear_num_key_heads": 2, "linear_num_value_heads": 6,
        "linear_key_head_dim": 16, "linear_value_head_dim": 16, "linear_conv_kernel_dim": 4, "num_experts": 9,
        "num_experts_per_tok": 3, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 24,
        "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [], "output_router_logits": False,
        "router_aux_loss_coef": 0.001},
}

PROMPTS = ["Once upon a time", "There was once a king who had three daughters,", "\"Dear mother,\" said the wolf,",
           "The fox and the cat", "<|im_start|>user\nTell me a tale.<|im_end|>\n<|im_start|>assistant\n"]
NEW_TOKENS = 128


def uniform(tensor: torch.Tensor, low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(tensor.shape, generator=generator) * (high - low) + low


def random_parameter(name: str, tensor: torch.Tensor, zero_centred: bool, generator: torch.Generator) -> torch.Tensor:
    """A random value for one parameter that keeps activations near 1 and is nowhere the usual 0 or 1.

    `zero_centred`: the family's norms multiply by 1 + weight (all but the gated norm of Gated DeltaNet).
    """
    if name.endswith("A_log"):
        return uniform(tensor, -3.0, 0.5, generator)  # with dt_bias: decays from about 0.2 to 0.99
    if name.endswith("dt_bias"):
        return uniform(tensor, -1.5, 1.0, generator)
    if "norm" in name:
        shift = 1.0 if zero_centred and not name.endswith("linear_attn.norm.weight") else 0.0
        return uniform(tensor, 0.6, 1.5, generator) - shift
    if name.endswith("conv1d.weight"):
        return torch.randn(tensor.shape, generator=generator) * 0.5
    if "embed_tokens" in name:
        return torch.randn(tensor.shape, generator=generator) * 0.8
    gain = 1.5 if name.endswith("mlp.gate.weight") else 1.0
    return torch.randn(tensor.shape, generator=generator) * gain / math.sqrt(tensor.shape[-1])


def random_model(config: dict, seed: int):
    """A model of transformers in fp32 whose every parameter is random."""
    parsed = AutoConfig.for_model(**config)
    model = AutoModelForCausalLM.from_config(
        parsed, dtype=torch.float32, attn_implementation="eager", **eager_experts(config))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(random_parameter(name, parameter, config["model_type"] == "qwen3_next", generator))
            assert parameter.shape.numel() < 2 or parameter.std() > 0, name
    return model.eval()


def eager_experts(config: dict) -> dict:
    return {"experts_implementation": "eager"} if "num_experts" in config else {}


class Watch:
    """Records the embedding, every layer's output and every router's answer of one forward pass."""

    def __init__(self, model):
        self.hidden, self.router = {}, []
        self.handles = [model.model.embed_tokens.register_forward_hook(self.keep("embedding"))]
        for i, layer in enumerate(model.model.layers):
            self.handles.append(layer.register_forward_hook(self.keep(f"hidden.{i}")))
            if hasattr(layer.mlp, "gate"):
                self.handles.append(layer.mlp.gate.register_forward_hook(
                    lambda module, inputs, output: self.router.append(output[0].detach().float())))

    def keep(self, name: str):
        def hook(module, inputs, output):
            output = output[0] if isinstance(output, tuple) else output
            self.hidden[name] = output[0].detach().float().clone()  # batch of one: [T, H]
        return hook

    def close(self) -> None:
        for handle in self.handles:
            handle.remove()


@torch.no_grad()
def run_case(model, ids: torch.Tensor) -> tuple[dict[str, torch.Tensor], list[torch.Tensor]]:
    """(tensors by name without the case's prefix, router logits [T, E] by layer) for ids I64 [T]."""
    watch = Watch(model)
    logits = model(input_ids=ids[None], use_cache=False).logits[0].float()
    watch.close()
    return {"input_ids": ids, **watch.hidden, "logits": logits}, watch.router


def router_margin(router: list[torch.Tensor], chosen: int) -> float:
    """The least distance between the probabilities of the last expert chosen and the first one left out."""
    ranked = [logits.softmax(-1).sort(dim=-1, descending=True).values for logits in router]
    return min([(p[:, chosen - 1] - p[:, chosen]).min().item() for p in ranked], default=1.0)


def experts_used(router: list[torch.Tensor], chosen: int) -> list[int]:
    """How many different experts each layer's router chose."""
    return [len(logits.topk(chosen, dim=-1).indices.unique()) for logits in router]


@torch.no_grad()
def token_by_token(model, ids: torch.Tensor) -> torch.Tensor:
    """Logits F32 [T, V] of decoding ids I64 [T] one at a time from a cache."""
    cache, rows = None, []
    for token in ids:
        out = model(input_ids=token.view(1, 1), past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        rows.append(out.logits[0, -1])
    return torch.stack(rows)


def find_model(family: str):
    """(model, {case: tensors}, report): the first seed whose routing has no near-tie."""
    config = CONFIGS[family]
    for seed in range(1, 200):
        model = random_model(config, seed)
        generator = torch.Generator().manual_seed(1000 + seed)
        cases, margin, used = {}, 1.0, []
        for case, length in CASES.items():
            ids = torch.randint(0, config["vocab_size"], (length,), generator=generator)
            cases[case], router = run_case(model, ids)
            margin = min(margin, router_margin(router, config.get("num_experts_per_tok", 1)))
            used += experts_used(router, config.get("num_experts_per_tok", 1))
        if margin > ROUTER_MARGIN:
            return model, cases, {"seed": seed, "router_margin": margin, "experts_used": used}
    raise RuntimeError(f"{family}: no seed below 200 keeps all routing margins above {ROUTER_MARGIN}")


def check_reload(folder: Path, cases: dict, config: dict) -> float:
    """The largest difference between the logits and those of the files read back; must be nothing but rounding."""
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", **eager_experts(config)).eval()
    worst = max((run_case(model, case["input_ids"])[0]["logits"] - case["logits"]).abs().max().item()
                for case in cases.values())
    if worst > 1e-5:
        raise RuntimeError(f"{folder.name}: the files read back give logits that differ by {worst}")
    return worst


def make_family(family: str, out: Path) -> None:
    """Writes tests/golden/<family>/ and prints what was checked."""
    config, folder = CONFIGS[family], out / family
    model, cases, report = find_model(family)
    save_checkpoint(model, config, folder, torch.float32)
    report["reload"] = check_reload(folder, cases, config)
    report["chunk_vs_token"] = max((token_by_token(model, c["input_ids"]) - c["logits"]).abs().max().item()
                                   for c in cases.values())
    if report["chunk_vs_token"] > 1e-3:
        raise RuntimeError(f"{family}: decoding token by token differs: {report}")
    report["rms"] = {name: round(t.pow(2).mean().sqrt().item(), 2)
                     for name, t in cases["long"].items() if name != "input_ids"}
    half = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16, attn_implementation="eager", **eager_experts(config)).eval()
    tensors = {}
    for case, found in cases.items():
        found["logits_bf16"] = run_case(half, found["input_ids"])[0]["logits"]
        tensors |= {f"{case}.{name}": tensor.contiguous() for name, tensor in found.items()}
    agree = [(c["logits_bf16"].argmax(-1) == c["logits"].argmax(-1)).float().mean().item() for c in cases.values()]
    report["bf16_top1"] = [round(a, 3) for a in agree]
    save_file(tensors, folder / "golden.safetensors", metadata={
        "script": "tools/make_goldens.py", "torch": torch.__version__, "transformers": transformers.__version__,
        "seed": str(report["seed"]), "hidden": "hidden.<i> is the output of layer i, before the final norm",
        "gated_delta_rule": "torch_chunk_gated_delta_rule, fp32", "attention": "eager, fp32, CPU"})
    size = sum(f.stat().st_size for f in folder.iterdir())
    print(json.dumps({"family": family, "bytes": size, **report}), flush=True)
    if size > MAX_FAMILY_BYTES:
        raise RuntimeError(f"{family}: {size} bytes; at most {MAX_FAMILY_BYTES} wanted")


@torch.no_grad()
def greedy(model, prompt: list[int], count: int) -> tuple[list[int], list[float]]:
    """`count` greedy ids after `prompt` and, for each, the gap between the best and the second logit.

    The whole sequence is computed anew for every token, without a cache.
    """
    ids, gaps = list(prompt), []
    for _ in range(count):
        best = model(input_ids=torch.tensor([ids]), use_cache=False, logits_to_keep=1).logits[0, -1].topk(2)
        gaps.append(round((best.values[0] - best.values[1]).item(), 5))
        ids.append(best.indices[0].item())
    return ids[len(prompt):], gaps


def make_storyteller(folder: Path, out: Path) -> None:
    """Writes storyteller.json: greedy continuations of PROMPTS in fp32 by the checkpoint in `folder`."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager").eval()
    stops = set(model.generation_config.eos_token_id)
    cases = []
    for prompt in PROMPTS:
        ids = tokenizer.encode(prompt)
        new, gaps = greedy(model, ids, NEW_TOKENS)
        stop = next((i for i, token in enumerate(new) if token in stops), None)
        cases.append({"prompt": prompt, "prompt_ids": ids, "output_ids": new, "stop_at": stop,
                      "text": tokenizer.decode(new), "top2_gaps": gaps})
        print(json.dumps({"prompt": prompt, "stop_at": stop, "least_gap": min(gaps)}), flush=True)
    golden = {
        "script": "tools/make_goldens.py", "torch": torch.__version__, "transformers": transformers.__version__,
        "about": "greedy continuations in fp32 on the CPU, stop ids ignored; stop_at is the index in output_ids of the "
                 "first stop id, or null; top2_gaps is the best logit less the second, by step; text keeps special "
                 "tokens",
        "cases": cases}
    out.mkdir(parents=True, exist_ok=True)
    (out / "storyteller.json").write_text(json.dumps(golden, indent=None, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["families", "storyteller"])
    parser.add_argument("--out", type=Path, default=REPOSITORY / "tests/golden")
    parser.add_argument("--model", type=Path, default=REPOSITORY / "models/storyteller")
    args = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    found = {"fla", "causal_conv1d"} & set(sys.modules)
    if found:
        raise RuntimeError(f"transformers loaded {sorted(found)}; the goldens want its plain torch path")
    if args.what == "storyteller":
        make_storyteller(args.model, args.out)
        return
    for family in CONFIGS:
        make_family(family, args.out)


if __name__ == "__main__":
    main()
