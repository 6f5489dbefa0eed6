"""Checkpoints with the tensor names of the releases, written from transformers models.

transformers 5 keeps the experts of a layer fused in memory; the releases store one tensor per expert and matrix, or
the same fused tensors, depending on the family. Shared by train_storyteller.py and make_goldens.py. Needs torch and
safetensors.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

GATE_UP = ".mlp.experts.gate_up_proj"
DOWN = ".mlp.experts.down_proj"
PER_EXPERT = {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}
MINIMAX = {"gate": "w1", "up": "w3", "down": "w2"}


def split_experts(state: dict[str, torch.Tensor], names: dict[str, str] = PER_EXPERT) -> dict[str, torch.Tensor]:
    """Renames a state dict to one tensor per expert.

    `experts.gate_up_proj` [E, 2I, H] (gate rows first) becomes E × `experts.e.gate_proj.weight` and
    `experts.e.up_proj.weight` [I, H]; `experts.down_proj` [E, H, I] becomes E × `experts.e.down_proj.weight` [H, I];
    the others keep their names.
    """
    released = {}
    for name, tensor in state.items():
        if name.endswith(GATE_UP):
            prefix = name.removesuffix("gate_up_proj")
            for e, fused in enumerate(tensor):
                gate, up = fused.chunk(2, dim=0)
                released[f"{prefix}{e}.{names['gate']}.weight"] = gate
                released[f"{prefix}{e}.{names['up']}.weight"] = up
        elif name.endswith(DOWN):
            prefix = name.removesuffix("down_proj")
            for e, down in enumerate(tensor):
                released[f"{prefix}{e}.{names['down']}.weight"] = down
        else:
            released[name] = tensor
    return released


def release_state(state: dict[str, torch.Tensor], model_type: str) -> dict[str, torch.Tensor]:
    """The names that the releases of `model_type` have. Of Qwen3.5 the multi-modal ones, experts packed."""
    if model_type in ("qwen3_5", "qwen3_5_moe"):
        return {name.replace("model.", "model.language_model.", 1) if name.startswith("model.") else name: tensor
                for name, tensor in state.items()}
    if model_type == "minimax_m2":
        return {name.replace(".mlp.", ".block_sparse_moe."): tensor
                for name, tensor in split_experts(state, MINIMAX).items()}
    return split_experts(state)


def save_checkpoint(model: torch.nn.Module, config: dict, folder: Path, dtype: torch.dtype,
                    extra: dict[str, torch.Tensor] | None = None) -> int:
    """Writes config.json and model.safetensors (every tensor in `dtype`) into `folder`; returns the latter's bytes.

    `config` is written as given: the caller keeps it in the releases' spelling. A tied lm_head is left out. `extra`:
    tensors of parts that the model does not have, under the names of the releases.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = release_state(model.state_dict(), config["model_type"]) | (extra or {})
    if config.get("tie_word_embeddings"):
        state.pop("lm_head.weight", None)
    tensors = {name: t.detach().to("cpu", dtype, copy=True).contiguous() for name, t in state.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return (folder / "model.safetensors").stat().st_size
