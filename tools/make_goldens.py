#!/usr/bin/env python3
"""Makes tiny random checkpoints of each family and what transformers computes with them: tests/golden/.

    python3 tools/make_goldens.py families                          # tests/golden/<family>/, all of golden_configs.py
    python3 tools/make_goldens.py families --only llama,minimax_m2
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
by token from a cache agrees, that frequencies of rotations follow the papers' formulas, and that the multi-modal model
of transformers reads the nested names. qwen3_5_moe_per_expert/ has the weights of qwen3_5_moe under flat names, a
tensor per expert.

Versions: torch 2.11, transformers 5.17, safetensors 0.8. About 10 s for the families, a minute for the storyteller.
"""

import argparse
import json
import math
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from golden_configs import CONFIGS, FLAT_MOE35, VISION, for_transformers, text_config
from release_names import save_checkpoint, split_experts

REPOSITORY = Path(__file__).resolve().parent.parent
CASES = {"long": 150, "short": 37}
ROUTER_MARGIN = 1e-4  # between the probabilities of the last expert chosen and the first one left out
MAX_FAMILY_BYTES = 1_500_000

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
    if name.endswith("e_score_correction_bias"):
        return uniform(tensor, -0.4, 0.4, generator)  # scores lie in 0..1: it changes many choices
    if "norm" in name:
        shift = 1.0 if zero_centred and not name.endswith("linear_attn.norm.weight") else 0.0
        return uniform(tensor, 0.6, 1.5, generator) - shift
    if name.endswith("conv1d.weight"):
        return torch.randn(tensor.shape, generator=generator) * 0.5
    if "embed_tokens" in name:
        return torch.randn(tensor.shape, generator=generator) * 0.8
    gain = 1.5 if name.endswith("mlp.gate.weight") else 1.0
    return torch.randn(tensor.shape, generator=generator) * gain / math.sqrt(tensor.shape[-1])


def random_model(family: str, seed: int):
    """A model of transformers in fp32 whose every parameter is random."""
    config = for_transformers(family)
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(**config), dtype=torch.float32, attn_implementation="eager", **eager_experts(config))
    generator = torch.Generator().manual_seed(seed)
    zero_centred = config["model_type"].startswith(("qwen3_next", "qwen3_5"))
    biases = [(name, buffer) for name, buffer in model.named_buffers() if name.endswith("e_score_correction_bias")]
    assert bool(biases) == (family == "minimax_m2"), [name for name, _ in model.named_buffers()]
    with torch.no_grad():
        for name, parameter in [*model.named_parameters(), *biases]:
            parameter.copy_(random_parameter(name, parameter, zero_centred, generator))
            assert parameter.shape.numel() < 2 or parameter.std() > 0, name
    return model.eval()


def eager_experts(config: dict) -> dict:
    has_experts = "num_experts" in config or "num_local_experts" in config
    return {"experts_implementation": "eager"} if has_experts else {}


def expected_frequencies(rope: dict, dims: int) -> tuple[torch.Tensor, float]:
    """Frequencies F64 [dims / 2] and the factor of cos and sin, by the formulas of the papers."""
    f = rope["rope_theta"] ** (-torch.arange(0, dims, 2, dtype=torch.float64) / dims)
    if rope["rope_type"] == "default":
        return f, 1.0
    factor, original = rope["factor"], rope["original_max_position_embeddings"]
    if rope["rope_type"] == "llama3":
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        smooth = ((original * f / (2 * math.pi) - low) / (high - low)).clamp(0, 1)
        return (1 - smooth) * f / factor + smooth * f, 1.0
    corner = [dims * math.log(original / (2 * math.pi * n)) / (2 * math.log(rope["rope_theta"])) for n in (32, 1)]
    first, last = max(0, math.floor(corner[0])), min(dims - 1, math.ceil(corner[1]))
    ramp = ((torch.arange(dims // 2, dtype=torch.float64) - first) / (last - first)).clamp(0, 1)
    return f / factor * ramp + f * (1 - ramp), 0.1 * math.log(factor) + 1


def check_rotation(model, family: str) -> None:
    """The model rotates what its config says: dimensions, frequencies, factor."""
    config = for_transformers(family)
    rope = config["rope_parameters"]
    head_dim = config.get("head_dim", config["hidden_size"] // config["num_attention_heads"])
    wanted, factor = expected_frequencies(rope, int(head_dim * rope.get("partial_rotary_factor", 1.0)))
    rotary = model.model.rotary_emb
    if rotary.inv_freq.shape != wanted.shape or not torch.allclose(rotary.inv_freq.double(), wanted, rtol=1e-5):
        raise RuntimeError(f"{family}: frequencies are {rotary.inv_freq}; expected {wanted}")
    if abs(rotary.attention_scaling - factor) > 1e-6:
        raise RuntimeError(f"{family}: cos and sin are multiplied by {rotary.attention_scaling}; expected {factor}")


class Watch:
    """Records the embedding, every layer's output and every router's answer of one forward pass."""

    def __init__(self, model):
        self.hidden, self.router = {}, []
        self.handles = [model.model.embed_tokens.register_forward_hook(self.keep("embedding"))]
        for i, layer in enumerate(model.model.layers):
            self.handles.append(layer.register_forward_hook(self.keep(f"hidden.{i}")))
            if hasattr(layer.mlp, "gate"):
                bias = getattr(layer.mlp, "e_score_correction_bias", None)
                self.handles.append(layer.mlp.gate.register_forward_hook(self.keep_scores(bias)))

    def keep(self, name: str):
        def hook(module, inputs, output):
            output = output[0] if isinstance(output, tuple) else output
            self.hidden[name] = output[0].detach().float().clone()  # batch of one: [T, H]
        return hook

    def keep_scores(self, bias: torch.Tensor | None):
        def hook(module, inputs, output):
            logits = torch.nn.functional.linear(inputs[0].reshape(-1, module.weight.shape[1]), module.weight).float()
            self.router.append(logits.softmax(-1) if bias is None else logits.sigmoid() + bias)
        return hook

    def close(self) -> None:
        for handle in self.handles:
            handle.remove()


@torch.no_grad()
def run_case(model, ids: torch.Tensor) -> tuple[dict[str, torch.Tensor], list[torch.Tensor]]:
    """(tensors by name without the case's prefix, scores [T, E] that choose experts by layer) for ids I64 [T]."""
    watch = Watch(model)
    logits = model(input_ids=ids[None], use_cache=False).logits[0].float()
    watch.close()
    return {"input_ids": ids, **watch.hidden, "logits": logits}, watch.router


def router_margin(router: list[torch.Tensor], chosen: int) -> float:
    """The least distance between the scores of the last expert chosen and the first one left out."""
    ranked = [scores.sort(dim=-1, descending=True).values for scores in router]
    return min([(p[:, chosen - 1] - p[:, chosen]).min().item() for p in ranked], default=1.0)


def experts_used(router: list[torch.Tensor], chosen: int) -> list[int]:
    """How many different experts each layer's router chose."""
    return [len(scores.topk(chosen, dim=-1).indices.unique()) for scores in router]


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
    config = text_config(family)
    for seed in range(1, 200):
        model = random_model(family, seed)
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


def read_back(folder: Path, family: str, dtype: torch.dtype):
    """The model that transformers reads from the files; the text model's config is ours, where it stands nested."""
    config = for_transformers(family)
    if "text_config" not in CONFIGS[family]:
        return AutoModelForCausalLM.from_pretrained(
            folder, config=AutoConfig.for_model(**config), dtype=dtype, attn_implementation="eager",
            **eager_experts(config)).eval()
    model = random_model(family, 0)
    state = {name.replace("model.language_model.", "model.", 1): tensor
             for name, tensor in load_file(folder / "model.safetensors").items()
             if not name.startswith(("mtp.", "model.visual."))}
    if config["tie_word_embeddings"]:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state)
    for parameter in model.parameters():  # not the frequencies, which from_pretrained keeps in fp32 too
        parameter.data = parameter.data.to(dtype)
    return model


def check_reload(folder: Path, cases: dict, family: str) -> float:
    """The largest difference between the logits and those of the files read back; must be nothing but rounding."""
    model = read_back(folder, family, torch.float32)
    worst = max((run_case(model, case["input_ids"])[0]["logits"] - case["logits"]).abs().max().item()
                for case in cases.values())
    if worst > 1e-5:
        raise RuntimeError(f"{folder.name}: the files read back give logits that differ by {worst}")
    return worst


@torch.no_grad()
def check_multi_modal(folder: Path, cases: dict, architecture: str) -> float:
    """The same from the multi-modal model that config.json names; its vision tower stays random and idle."""
    model = getattr(transformers, architecture).from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager").eval()
    worst = max((model(input_ids=c["input_ids"][None], use_cache=False).logits[0] - c["logits"]).abs().max().item()
                for c in cases.values())
    if worst > 1e-4:
        raise RuntimeError(f"{folder.name}: {architecture} gives logits that differ by {worst}")
    return worst


def parts_without_text(config: dict, seed: int) -> dict[str, torch.Tensor]:
    """Some tensors of the vision tower and of the drafting head, which a text engine has to pass over."""
    if "text_config" not in config:
        return {}
    generator = torch.Generator().manual_seed(seed)
    hidden, vision = config["text_config"]["hidden_size"], VISION["hidden_size"]
    shapes = {"model.visual.blocks.0.norm1.weight": (vision,), "model.visual.blocks.0.norm1.bias": (vision,),
              "mtp.fc.weight": (hidden, 2 * hidden), "mtp.norm.weight": (hidden,)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def save_per_expert(model, folder: Path) -> None:
    """The text model alone: flat config, names that begin with model., a tensor per expert."""
    state = split_experts(model.state_dict())
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: t.detach().contiguous() for name, t in state.items()}, folder / "model.safetensors",
              metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(FLAT_MOE35, indent=2) + "\n", encoding="utf-8")


def make_family(family: str, out: Path) -> None:
    """Writes tests/golden/<family>/ and prints what was checked."""
    config, folder = CONFIGS[family], out / family
    model, cases, report = find_model(family)
    check_rotation(model, family)
    save_checkpoint(model, config, folder, torch.float32, parts_without_text(config, report["seed"]))
    report["reload"] = check_reload(folder, cases, family)
    if "text_config" in config:
        report["multi_modal"] = check_multi_modal(folder, cases, config["architectures"][0])
    if family == "qwen3_5_moe":
        save_per_expert(model, out / "qwen3_5_moe_per_expert")
    report["chunk_vs_token"] = max((token_by_token(model, c["input_ids"]) - c["logits"]).abs().max().item()
                                   for c in cases.values())
    if report["chunk_vs_token"] > 1e-3:
        raise RuntimeError(f"{family}: decoding token by token differs: {report}")
    report["rms"] = {name: round(t.pow(2).mean().sqrt().item(), 2)
                     for name, t in cases["long"].items() if name != "input_ids"}
    half = read_back(folder, family, torch.bfloat16)
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
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(CONFIGS), help="families, by comma")
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
    for family in args.only:
        make_family(family, args.out)


if __name__ == "__main__":
    main()
