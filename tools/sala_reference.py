"""MiniCPM-SALA in plain torch: what the model computes, written as its papers and its config say it, and as slowly.

Lightning attention runs as the recurrence, the selection of blocks (InfLLM-V2) one query at a time; nothing is shared
with the engine. Everything is computed in the dtype of the weights: float64 for golden values. Conventions: T tokens,
H width, softmax layers with N query heads over K key heads of D, lightning layers with M heads of E.

How it was checked (python3 tools/make_sala_goldens.py, on the CPU): the chunk form of lightning attention equals the
recurrence, also from a state and with a ragged tail; the rotation leaves position 0 alone; a sparse layer equals
dense attention exactly while there are no more blocks than may be chosen; every selection equals a second one that
takes means of raw keys anew and ranks by counting; selections do not hang on rounding.
"""

import math
from dataclasses import dataclass

import torch
from torch.nn.functional import linear, silu

SPARSE_NAMES = ("minicpm4", "minicpm", "attention", "attn")
LIGHTNING_NAMES = ("lightning-attn", "lightning", "lightning_attn")


@dataclass(frozen=True)
class Sparse:
    """The sparse_config of config.json, in blocks."""
    block: int  # keys of a block
    kernel: int  # keys of a window whose mean stands for them
    stride: int  # keys between windows
    init_blocks: int  # always chosen: the first ones
    window_blocks: int  # always chosen: the query's own and so many before it
    chosen: int  # blocks in all, at most
    dense_len: int

    @staticmethod
    def of(config: dict) -> "Sparse":
        c = config["sparse_config"]
        local = c["window_size"] // c["block_size"]
        return Sparse(c["block_size"], c["kernel_size"], c["kernel_stride"], c["init_blocks"], local, c["topk"] + local,
                      c["dense_len"])


def wide(x: torch.Tensor) -> torch.Tensor:
    return x if x.dtype == torch.float64 else x.float()


def rms_norm(x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Plain RMSNorm over the last dimension: rounded, then times the weight."""
    full = wide(x)
    return weight * (full * torch.rsqrt(full.pow(2).mean(-1, keepdim=True) + epsilon)).to(x.dtype)


def rotate(x: torch.Tensor, theta: float) -> torch.Tensor:
    """RoPE of x [T, heads, D] over all of D, pairs (i, i + D/2), positions from 0."""
    half = x.shape[-1] // 2
    full = wide(x)
    frequency = theta ** (-torch.arange(half, dtype=full.dtype) / half)
    angle = torch.arange(x.shape[0], dtype=full.dtype)[:, None, None] * frequency
    low, high = full[..., :half], full[..., half:]
    return torch.cat([low * angle.cos() - high * angle.sin(), high * angle.cos() + low * angle.sin()], -1).to(x.dtype)


def slopes(heads: int) -> torch.Tensor:
    """Decay of each head: 2^(-8(h+1)/heads) for a power of two; else those of the largest power of two below, then
    every other one of twice that."""
    power = 1 << (heads.bit_length() - 1)
    first = [2.0 ** (-8.0 * (h + 1) / power) for h in range(power)]
    between = [2.0 ** (-8.0 * (h + 1) / (2 * power)) for h in range(0, 2 * power, 2)]
    return torch.tensor((first + between)[:heads], dtype=torch.float64)


def lightning(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, state: torch.Tensor | None = None):
    """(out [T, M, E], state [M, E, E]) by the recurrence: S = e^-s S + k vᵀ, out = (q E^-1/2) S."""
    heads, dim = q.shape[1:]
    q, k, v = wide(q) * dim ** -0.5, wide(k), wide(v)
    state = torch.zeros(heads, dim, dim, dtype=q.dtype) if state is None else state
    decay = torch.exp(-slopes(heads)).to(q.dtype)[:, None, None]
    rows = []
    for t in range(q.shape[0]):
        state = decay * state + k[t][:, :, None] * v[t][:, None, :]
        rows.append((q[t][:, None, :] @ state)[:, 0])
    return torch.stack(rows), state


def lightning_chunk(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, state: torch.Tensor):
    """The same of one chunk of n tokens, all at once."""
    n, heads, dim = q.shape
    s, i = slopes(heads)[:, None, None], torch.arange(n, dtype=torch.float64)
    q, k, v = (x.transpose(0, 1) for x in (q * dim ** -0.5, k, v))  # [M, n, E]
    apart = i[:, None] - i[None, :]
    mask = torch.where(apart >= 0, torch.exp(-s * apart.clamp(min=0)), 0.0)
    out = torch.exp(-s * (i[:, None] + 1)) * (q @ state) + ((q @ k.transpose(1, 2)) * mask) @ v
    state = torch.exp(-s * n) * state + (k * torch.exp(-s * (n - 1 - i[:, None]))).transpose(1, 2) @ v
    return out.transpose(0, 1), state


def windows(keys: torch.Tensor, width: int, stride: int) -> torch.Tensor:
    """[number of complete windows, D]: means of keys [n, D], rounded to the keys' dtype."""
    count = max(0, (keys.shape[0] - width) // stride + 1)
    means = [wide(keys[stride * j:stride * j + width]).mean(0) for j in range(count)]
    return torch.stack(means).to(keys.dtype) if means else keys[:0]


def block_scores(q: torch.Tensor, at: torch.Tensor, fine: torch.Tensor, coarse: torch.Tensor, s: Sparse):
    """[T, blocks]: how much the queries q [T, G, D] of one key head, at positions `at` [T], want each block.

    fine [n1, D], coarse [n2, D]: compressed keys, of which a query sees those that end before or at it; the coarse
    ones only normalise. A block that no visible window touches scores -inf.
    """
    def logits(compressed: torch.Tensor, width: int, stride: int) -> torch.Tensor:
        unseen = stride * torch.arange(len(compressed)) + width - 1 > at[:, None]
        return (wide(q) @ wide(compressed).T * q.shape[-1] ** -0.5).masked_fill(unseen[:, None], -math.inf)

    norm = torch.logsumexp(logits(coarse, 4 * s.kernel, 4 * s.stride), -1, keepdim=True)
    wants = logits(fine, s.kernel, s.stride)
    score = torch.nan_to_num(torch.exp(wants - norm), nan=0.0, posinf=0.0).sum(1)
    score = score.masked_fill(wants[:, 0] == -math.inf, -math.inf)
    per_block, reach = s.block // s.stride, s.kernel // s.stride - 1
    columns = []
    for b in range(int(at.max()) // s.block + 1):
        touching = score[:, max(0, per_block * b - reach):per_block * (b + 1)]
        columns.append(touching.amax(1) if touching.shape[1] else torch.full_like(at, -math.inf, dtype=score.dtype))
    return torch.stack(columns, 1)


def choose(scores: list[float], query_block: int, s: Sparse) -> tuple[list[int], float]:
    """(blocks in ascending order, margin): forced ones first, then by score, of equals the lower one.

    Neighbours often are equals: the window between them may be what both are wanted for.
    margin: how far, relatively, a chosen score is above a different one that is left out, at least; inf if none is.
    """
    forced = [b for b in range(query_block + 1) if b < s.init_blocks or b >= query_block - s.window_blocks]
    by_score = sorted((b for b in range(query_block + 1) if b not in forced), key=lambda b: (-scores[b], b))
    free = max(0, s.chosen - len(forced))
    taken = by_score[:free]
    apart = [scores[a] / scores[b] - 1 for a in taken for b in by_score[free:] if scores[a] != scores[b]]
    return sorted((forced + taken)[:s.chosen]), min(apart, default=math.inf)


def select(q: torch.Tensor, at: torch.Tensor, keys: torch.Tensor, s: Sparse):
    """([T] lists of blocks, least margin) for the queries q [T, G, D] at positions `at` [T] over keys [n, D]."""
    fine, coarse = (windows(keys, n * s.kernel, n * s.stride) for n in (1, 4))
    scores = block_scores(q, at, fine, coarse, s).tolist()
    found = [choose(row, t // s.block, s) for row, t in zip(scores, at.tolist())]
    return [blocks for blocks, _ in found], min(margin for _, margin in found)


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """[T, G, D]: softmax attention of the queries q [T, G, D] over those of the keys [n, D] that seen [T, n] has."""
    logits = wide(q) @ wide(k).T * q.shape[-1] ** -0.5
    weights = torch.softmax(logits.masked_fill(~seen[:, None], -math.inf), -1)
    return (weights.to(v.dtype) @ v).to(q.dtype)


def goes_sparse(t: int, tokens: int, s: Sparse, mode: str) -> bool:
    """Whether position t of a prompt of `tokens` is attended sparsely.

    position: by its own length, as decoding one token after the other would have it; prompt: by the prompt's length,
    as the released code has it; sparse: always; dense: never.
    """
    return {"position": t + 1 >= s.dense_len, "prompt": tokens >= s.dense_len, "sparse": True, "dense": False}[mode]


class Model:
    """weights: by the names of the releases, all of one dtype."""

    def __init__(self, config: dict, weights: dict[str, torch.Tensor]):
        self.config, self.weights = config, weights
        self.sparse = Sparse.of(config)
        self.branch = config["scale_depth"] / math.sqrt(config["num_hidden_layers"])

    def weight(self, layer: int, name: str) -> torch.Tensor:
        return self.weights[f"model.layers.{layer}.{name}.weight"]

    def norm(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return rms_norm(x, weight, self.config["rms_norm_eps"])

    def heads(self, x: torch.Tensor, layer: int, name: str, dim: int) -> torch.Tensor:
        return linear(x, self.weight(layer, f"self_attn.{name}")).view(x.shape[0], -1, dim)

    def lightning_mixer(self, x: torch.Tensor, layer: int) -> torch.Tensor:
        dim, theta = self.config["lightning_head_dim"], self.config["rope_theta"]
        q, k, v = (self.heads(x, layer, name, dim) for name in ("q_proj", "k_proj", "v_proj"))
        q, k = (rotate(self.norm(y, self.weight(layer, f"self_attn.{name}")), theta)
                for y, name in ((q, "q_norm"), (k, "k_norm")))
        out = lightning(q, k, v)[0].to(x.dtype).flatten(1)
        out = self.norm(out, self.weight(layer, "self_attn.o_norm"))
        out = out * torch.sigmoid(linear(x, self.weight(layer, "self_attn.z_proj")))
        return linear(out, self.weight(layer, "self_attn.o_proj"))

    def softmax_mixer(self, x: torch.Tensor, layer: int, mode: str):
        """(out [T, H], chosen blocks [T, K] as lists, least margin); rows that are attended densely choose none."""
        dim, tokens, s = self.config["head_dim"], x.shape[0], self.sparse
        q, k, v = (self.heads(x, layer, name, dim) for name in ("q_proj", "k_proj", "v_proj"))
        group, margin, at = q.shape[1] // k.shape[1], math.inf, torch.arange(tokens)
        out, chosen = torch.empty_like(q), [[[] for _ in range(k.shape[1])] for _ in range(tokens)]
        rows = [t for t in range(tokens) if goes_sparse(t, tokens, s, mode)]
        for head in range(k.shape[1]):
            own = slice(head * group, (head + 1) * group)
            seen = at <= at[:, None]
            if rows:
                lists, apart = select(q[rows, own], at[rows], k[:, head], s)
                margin = min(margin, apart)
                for t, blocks in zip(rows, lists):
                    chosen[t][head] = blocks
                    seen[t] &= torch.isin(at // s.block, torch.tensor(blocks))
            out[:, own] = attend(q[:, own], k[:, head], v[:, head], seen)
        gate = torch.sigmoid(linear(x, self.weight(layer, "self_attn.o_gate")))
        return linear(out.flatten(1) * gate, self.weight(layer, "self_attn.o_proj")), chosen, margin

    @torch.no_grad()
    def forward(self, ids: torch.Tensor, mode: str) -> dict:
        """embedding, hidden.<i> [T, H], logits [T, V]; blocks.<i>: lists by row and key head; margin."""
        c, found = self.config, {"margin": math.inf}
        h = self.weights["model.embed_tokens.weight"][ids] * c["scale_emb"]
        found["embedding"] = h
        for layer, kind in enumerate(c["mixer_types"]):
            x = self.norm(h, self.weight(layer, "input_layernorm"))
            if kind in LIGHTNING_NAMES:
                mixed = self.lightning_mixer(x, layer)
            else:
                assert kind in SPARSE_NAMES, kind
                mixed, found[f"blocks.{layer}"], margin = self.softmax_mixer(x, layer, mode)
                found["margin"] = min(found["margin"], margin)
            h = h + mixed * self.branch
            x = self.norm(h, self.weight(layer, "post_attention_layernorm"))
            gated = silu(linear(x, self.weight(layer, "mlp.gate_proj"))) * linear(x, self.weight(layer, "mlp.up_proj"))
            h = h + linear(gated, self.weight(layer, "mlp.down_proj")) * self.branch
            found[f"hidden.{layer}"] = h
        x = self.norm(h, self.weights["model.norm.weight"]) / (c["hidden_size"] / c["dim_model_base"])
        found["logits"] = linear(x, self.weights["lm_head.weight"])
        return found
