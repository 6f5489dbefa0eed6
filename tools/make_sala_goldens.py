#!/usr/bin/env python3
"""Golden values of MiniCPM-SALA from sala_reference.py: a tiny random checkpoint, and cases of block selection.

    python3 tools/make_sala_goldens.py model         # tests/golden/minicpm_sala/
    python3 tools/make_sala_goldens.py selections    # tests/golden/sparse_selections.safetensors

minicpm_sala/ has config.json, model.safetensors (F32) and golden.safetensors as make_goldens.py writes them (cases
`long` and `short`, below dense_len, computed in float64), and sparse.safetensors, a prompt of 700 tokens:

    input_ids           I64 [700]
    rows                I64 [R]  the positions whose values are kept: every seventh, and the last ones
    <mode>.logits       F32 [R, V]
    <mode>.blocks.<i>   I8 [700, K, 6]  the blocks that softmax layer i chose, ascending, then -1

for the modes position, sparse and (without blocks) dense of sala_reference.goes_sparse (prompt is sparse here). A prompt's tokens come
in runs of few different ones, so that blocks differ. No selection has different scores within MARGIN at the last place,
so rounding to F32 chooses no other; equal ones are there, of neighbours that share the window between them.

sparse_selections.safetensors has 1,000 random queries, a third or more with exact ties for the last place:

    contents  I8 [12, 64, 16]  keys of a block, in quarters
    cases     I32 [1000, 6]    position t of the query, queries of the group, blocks to choose, first blocks and
                               blocks before the query's own that are always chosen, 1 if a tie decides
    layout    I8 [1000, 24]    which of the contents each block holds; keys after t are there too, unseen
    queries   I8 [1000, 4, 16] in quarters; those of the group come first
    chosen    I32 [1000, 12]   ascending, then -1

Blocks of 64, windows of 32 every 16. All products of keys and queries are exact in F32 in any order; cases whose last
place hangs on rounding are not among them: what ties has the same products for every query, and the lower block wins.

Needs torch 2.11 and safetensors 0.8, on the CPU. Some seconds.
"""

import argparse
import json
import math
import random
from pathlib import Path

import torch
from safetensors.torch import save_file

import sala_reference as reference
from sala_reference import Model, Sparse

REPOSITORY = Path(__file__).resolve().parent.parent
CASES = {"long": 150, "short": 37}
SPARSE_TOKENS = 700
MARGIN = 3e-5
SELECTIONS = 1000
MODES = ("position", "sparse", "dense")

CONFIG = {
    "architectures": ["MiniCPMSALAForCausalLM"], "model_type": "minicpm_sala", "attention_bias": False,
    "attention_dropout": 0.0, "attn_use_output_gate": True, "attn_use_rope": False, "bos_token_id": 1,
    "dim_model_base": 12, "dtype": "float32", "eos_token_id": [2, 130], "head_dim": 32, "hidden_act": "silu",
    "hidden_size": 48, "initializer_range": 0.1, "intermediate_size": 72, "lightning_head_dim": 16,
    "lightning_nh": 6, "lightning_nkv": 6, "lightning_scale": "1/sqrt(d)", "lightning_use_rope": True,
    "max_position_embeddings": 2048,
    "mixer_types": ["minicpm4", "lightning-attn", "lightning-attn", "minicpm4", "lightning-attn"],
    "mup_denominator": 32, "num_attention_heads": 4, "num_hidden_layers": 5, "num_key_value_heads": 2,
    "pad_token_id": 2, "qk_norm": True, "rms_norm_eps": 1e-6, "rope_scaling": None, "rope_theta": 10000.0,
    "scale_depth": 1.4, "scale_emb": 12,
    "sparse_config": {"block_size": 64, "kernel_size": 32, "kernel_stride": 16, "init_blocks": 1, "topk": 4,
                      "window_size": 128, "dense_len": 256, "use_nope": False},
    "tie_word_embeddings": False, "use_cache": True, "use_output_gate": True, "use_output_norm": True,
    "vocab_size": 131}


def shapes() -> dict[str, tuple[int, ...]]:
    """Every tensor of the checkpoint."""
    c = CONFIG
    width, mlp, head, own = c["hidden_size"], c["intermediate_size"], c["head_dim"], c["lightning_head_dim"]
    queries, keys, light = c["num_attention_heads"] * head, c["num_key_value_heads"] * head, c["lightning_nh"] * own
    words = (c["vocab_size"], width)
    found = {"model.embed_tokens": words, "lm_head": words, "model.norm": (width,)}
    for layer, kind in enumerate(c["mixer_types"]):
        parts = {"input_layernorm": (width,), "post_attention_layernorm": (width,), "mlp.gate_proj": (mlp, width),
                 "mlp.up_proj": (mlp, width), "mlp.down_proj": (width, mlp)}
        if kind in reference.SPARSE_NAMES:
            parts |= {"self_attn.q_proj": (queries, width), "self_attn.k_proj": (keys, width),
                      "self_attn.v_proj": (keys, width), "self_attn.o_gate": (queries, width),
                      "self_attn.o_proj": (width, queries)}
        else:
            parts |= {f"self_attn.{name}_proj": (light, width) for name in "qkvz"}
            parts |= {"self_attn.q_norm": (own,), "self_attn.k_norm": (own,), "self_attn.o_norm": (light,),
                      "self_attn.o_proj": (width, light)}
        found |= {f"model.layers.{layer}.{name}": shape for name, shape in parts.items()}
    return {f"{name}.weight": shape for name, shape in found.items()}


def random_weights(seed: int) -> dict[str, torch.Tensor]:
    """F32; activations stay near 1, norms are nowhere 1."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes().items():
        if "norm" in name:
            weights[name] = torch.rand(shape, generator=generator) * 0.9 + 0.6
        elif "embed" in name:
            weights[name] = torch.randn(shape, generator=generator) * 0.07  # times 12
        else:
            gain = 4.0 if name == "lm_head.weight" else 1.0  # behind a division by 4
            weights[name] = torch.randn(shape, generator=generator) * gain / math.sqrt(shape[-1])
    return weights


def tokens_in_runs(count: int, generator: torch.Generator) -> torch.Tensor:
    """I64 [count]: about every 40 tokens another three of the vocabulary."""
    ids = torch.empty(count, dtype=torch.int64)
    for begin in range(0, count, 40):
        few = torch.randint(0, CONFIG["vocab_size"], (3,), generator=generator)
        end = min(count, begin + 40)
        ids[begin:end] = few[torch.randint(0, 3, (end - begin,), generator=generator)]
    return ids


def check_lightning() -> float:
    """The chunk form against the recurrence, from a state, with a ragged tail."""
    generator = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(77, 6, 8, dtype=torch.float64, generator=generator) for _ in range(3))
    begin = torch.randn(6, 8, 8, dtype=torch.float64, generator=generator)
    wanted, end = reference.lightning(q, k, v, begin)
    state, parts = begin, []
    for chunk in (slice(0, 32), slice(32, 64), slice(64, 77)):
        out, state = reference.lightning_chunk(q[chunk], k[chunk], v[chunk], state)
        parts.append(out)
    return max((torch.cat(parts) - wanted).abs().max().item(), (state - end).abs().max().item())


def check_rotation() -> None:
    x = torch.randn(3, 2, 8, dtype=torch.float64)
    turned = reference.rotate(x, 10000.0)
    assert torch.equal(turned[0], x[0]) and not torch.allclose(turned[1:], x[1:])
    assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1))


def brute_force(q: torch.Tensor, keys: torch.Tensor, t: int, s: Sparse) -> list[int]:
    """The blocks for queries q [G, D] and raw keys [n, D], by counting for each block those that are better."""
    seen, scale = keys[:t + 1], q.shape[-1] ** -0.5
    coarse = [seen[b:b + 4 * s.kernel].mean(0) for b in range(0, t + 2 - 4 * s.kernel, 4 * s.stride)]
    wants = []
    for block in range(t // s.block + 1):
        if block < s.init_blocks or block >= t // s.block - s.window_blocks:
            wants.append(math.inf)
            continue
        best = -math.inf
        for begin in range(0, t + 2 - s.kernel, s.stride):
            if begin + s.kernel <= block * s.block or begin >= (block + 1) * s.block:
                continue
            mean, total = seen[begin:begin + s.kernel].mean(0), 0.0
            for row in q:
                norm = sum(math.exp((row @ c).item() * scale) for c in coarse)
                total += math.exp((row @ mean).item() * scale) / norm if norm > 0 else 0.0
            best = max(best, total)
        wants.append(best)
    better = [sum(other > own or (other == own and j < b) for j, other in enumerate(wants))
              for b, own in enumerate(wants)]
    return [b for b, ahead in enumerate(better) if ahead < s.chosen]


def check_selection(seed: int) -> None:
    """select() against brute_force() on random keys of every length up to some blocks."""
    generator = torch.Generator().manual_seed(seed)
    s = Sparse.of(CONFIG)
    keys = torch.randn(800, 16, dtype=torch.float64, generator=generator).cumsum(0) * 0.3
    for t in [*range(0, 800, 37), 63, 64, 127, 128, 383, 384, 385, 447, 448, 799]:
        q = torch.randn(2, 16, dtype=torch.float64, generator=generator)
        found, _ = reference.select(q[None], torch.tensor([t]), keys, s)
        assert found[0] == brute_force(q, keys, t, s), (seed, t)


def check_dense_below(model: Model, ids: torch.Tensor) -> None:
    """A sparse layer is a dense one while all blocks are chosen, and is not any more behind that."""
    limit = model.sparse.chosen * model.sparse.block
    dense, sparse = (model.forward(ids[:limit + 64], mode)["logits"] for mode in ("dense", "sparse"))
    assert torch.equal(dense[:limit], sparse[:limit])
    assert not torch.allclose(dense[limit:], sparse[limit:])


def find_model():
    """(F32 weights, model, ids, forwards by mode, seed): the first seed whose selections do not hang on rounding."""
    for seed in range(1, 40):
        weights = random_weights(seed)
        model = Model(CONFIG, {name: tensor.double() for name, tensor in weights.items()})
        ids = tokens_in_runs(SPARSE_TOKENS, torch.Generator().manual_seed(1000 + seed))
        found = {mode: model.forward(ids, mode) for mode in MODES}
        margin = min(each["margin"] for each in found.values())
        print(json.dumps({"seed": seed, "margin": margin}), flush=True)
        if margin > MARGIN:
            return weights, model, ids, found, seed
    raise RuntimeError(f"no seed below 40 keeps all selections more than {MARGIN} apart")


def padded(chosen: list[list[list[int]]], most: int) -> torch.Tensor:
    return torch.tensor([[blocks + [-1] * (most - len(blocks)) for blocks in row] for row in chosen], dtype=torch.int8)


def sparse_tensors(found: dict, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    rows = sorted({*range(0, SPARSE_TOKENS, 7), *range(SPARSE_TOKENS - 12, SPARSE_TOKENS)})
    tensors = {"input_ids": ids, "rows": torch.tensor(rows)}
    for mode, each in found.items():
        for name, value in each.items():
            if name.startswith("blocks") and mode != "dense":
                tensors[f"{mode}.{name}"] = padded(value, Sparse.of(CONFIG).chosen)
            elif name == "logits":
                tensors[f"{mode}.{name}"] = value[rows].float()
    return tensors


def make_model(out: Path) -> None:
    """Writes minicpm_sala/ and prints what was checked."""
    check_rotation()
    for seed in range(3):
        check_selection(seed)
    weights, model, ids, found, seed = find_model()
    report = {"seed": seed, "chunk_form": check_lightning(), "margin": min(f["margin"] for f in found.values())}
    check_dense_below(model, ids)
    kinds = [torch.equal(found["sparse"]["logits"][t], found["dense"]["logits"][t]) for t in range(SPARSE_TOKENS)]
    report["first_sparse_row"] = kinds.index(False)
    half = Model(CONFIG, {name: tensor.bfloat16() for name, tensor in weights.items()})
    golden, generator = {}, torch.Generator().manual_seed(2000 + seed)
    for case, length in CASES.items():
        prompt = torch.randint(0, CONFIG["vocab_size"], (length,), generator=generator)
        each = model.forward(prompt, "position")
        assert torch.equal(each["logits"], model.forward(prompt, "prompt")["logits"])
        golden |= {f"{case}.{name}": value.float() for name, value in each.items() if torch.is_tensor(value)}
        golden[f"{case}.input_ids"] = prompt
        golden[f"{case}.logits_bf16"] = half.forward(prompt, "position")["logits"].float()
        report[f"{case}.rms"] = {n: round(v.pow(2).mean().sqrt().item(), 2) for n, v in each.items() if n != "margin"
                                 and torch.is_tensor(v)}
    folder = out / "minicpm_sala"
    folder.mkdir(parents=True, exist_ok=True)
    about = {"script": "tools/make_sala_goldens.py", "torch": torch.__version__, "seed": str(seed)}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    save_file({n: t.contiguous() for n, t in golden.items()}, folder / "golden.safetensors", metadata=about)
    save_file({n: t.contiguous() for n, t in sparse_tensors(found, ids).items()}, folder / "sparse.safetensors",
              metadata=about)
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({"family": "minicpm_sala", "bytes": sum(f.stat().st_size for f in folder.iterdir()), **report}))


def random_case(dice: random.Random, contents: torch.Tensor):
    """(sparse sizes, t, layout of 24 blocks, queries I8 [4, 16], group)."""
    init, local = dice.choice([0, 1, 1, 2]), dice.choice([0, 1, 2, 2, 3])
    sizes = Sparse(64, 32, 16, init, local, dice.choice([n for n in (3, 4, 6, 6, 8, 12) if n > init + local]), 0)
    few = dice.sample(range(len(contents)), dice.randint(1, 5))
    t = dice.choice([dice.randint(0, 1535), dice.randint(700, 1535), 64 * dice.randint(4, 23) + dice.choice([0, 63])])
    queries = torch.tensor([[dice.randint(-4, 3) for _ in range(16)] for _ in range(4)], dtype=torch.int8)
    return sizes, t, [dice.choice(few) for _ in range(24)], queries, dice.choice([1, 2, 4])


def last_place(scores: torch.Tensor, chosen: list[int], query_block: int, s: Sparse) -> str:
    """Who decides about the last place: nobody, the score, an exact tie, or rounding."""
    by_score = [b for b in range(query_block + 1) if s.init_blocks <= b < query_block - s.window_blocks]
    taken, left = [b for b in by_score if b in chosen], [b for b in by_score if b not in chosen]
    if not taken or not left:
        return "nobody"
    worst, best = min(scores[b].item() for b in taken), max(scores[b].item() for b in left)
    if worst == best:
        return "tie"
    return "score" if worst - best > 1e-5 * abs(best) else "rounding"


def make_selections(out: Path) -> None:
    """Writes sparse_selections.safetensors. What looks like a tie in float64 must be one of whole numbers: equal
    products make equal scores, and unequal ones that come out equal or nearly so are left out as rounding."""
    dice = random.Random(20261121)
    contents = torch.tensor([[[dice.randint(-4, 3) for _ in range(16)] for _ in range(64)] for _ in range(12)],
                            dtype=torch.int8)
    rows, seen = {"cases": [], "layout": [], "queries": [], "chosen": []}, {}
    while len(rows["cases"]) < SELECTIONS:
        s, t, layout, queries, group = random_case(dice, contents)
        keys = contents[layout].reshape(-1, 16).double() / 4
        q = queries[:group].double() / 4
        fine, coarse = (reference.windows(keys[:t + 1], n * s.kernel, n * s.stride) for n in (1, 4))
        chosen = reference.select(q[None], torch.tensor([t]), keys, s)[0][0]
        scores = reference.block_scores(q[None], torch.tensor([t]), fine, coarse, s)[0]
        decided = last_place(scores, chosen, t // 64, s)
        if decided == "tie" and not tied_products(q, (fine, coarse), scores, chosen, t // 64, s):
            decided = "rounding"
        seen[decided] = seen.get(decided, 0) + 1
        if decided == "rounding":
            continue
        assert t > 400 or chosen == brute_force(q, keys, t, s)
        rows["cases"].append([t, group, s.chosen, s.init_blocks, s.window_blocks, int(decided == "tie")])
        rows["layout"].append(layout)
        rows["queries"].append(queries)
        rows["chosen"].append(chosen + [-1] * (12 - len(chosen)))
    tensors = {"contents": contents, "cases": torch.tensor(rows["cases"], dtype=torch.int32),
               "layout": torch.tensor(rows["layout"], dtype=torch.int8), "queries": torch.stack(rows["queries"]),
               "chosen": torch.tensor(rows["chosen"], dtype=torch.int32)}
    save_file(tensors, out / "sparse_selections.safetensors", metadata={"script": "tools/make_sala_goldens.py"})
    print(json.dumps({"selections": seen}))


def tied_products(q: torch.Tensor, compressed: tuple[torch.Tensor, torch.Tensor], scores: torch.Tensor,
                  chosen: list[int], query_block: int, s: Sparse) -> bool:
    """Whether all blocks with the score of the last place have it from windows with the same products."""
    norm = torch.logsumexp(compressed[1] @ q.T / 4, 0)
    free = [b for b in range(query_block + 1) if s.init_blocks <= b < query_block - s.window_blocks]
    place = min(scores[b].item() for b in free if b in chosen)
    products = set()
    for block in (b for b in free if scores[b].item() == place):
        touching = compressed[0][max(0, 4 * block - 1):4 * block + 4] @ q.T
        best = torch.exp(touching / 4 - norm).sum(1).argmax()
        products.add(tuple(touching[best].tolist()))
    return len(products) == 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["model", "selections"])
    parser.add_argument("--out", type=Path, default=REPOSITORY / "tests/golden")
    args = parser.parse_args()
    torch.set_num_threads(1)  # everything is tiny
    {"model": make_model, "selections": make_selections}[args.what](args.out)


if __name__ == "__main__":
    main()
