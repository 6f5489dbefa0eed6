"""Checkpoints with the tensor names of the released Qwen3 family, written from transformers models.

transformers 5 keeps the experts of a layer fused in memory; the releases store one tensor per expert and matrix.
Shared by train_storyteller.py and make_goldens.py. Needs torch and safetensors.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

GATE_UP = ".mlp.experts.gate_up_proj"
DOWN = ".mlp.experts.down_proj"


def split_experts(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Renames a state dict to release names.

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
                released[f"{prefix}{e}.gate_proj.weight"] = gate
                released[f"{prefix}{e}.up_proj.weight"] = up
        elif name.endswith(DOWN):
            prefix = name.removesuffix("down_proj")
            for e, down in enumerate(tensor):
                released[f"{prefix}{e}.down_proj.weight"] = down
        else:
            released[name] = tensor
    return released


def save_checkpoint(model: torch.nn.Module, config: dict, folder: Path, dtype: torch.dtype) -> int:
    """Writes config.json and model.safetensors (every tensor in `dtype`) into `folder`; returns the latter's bytes.

    `config` is written as given: the caller keeps it in the releases' spelling. A tied lm_head is left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = split_experts(model.state_dict())
    if config.get("tie_word_embeddings"):
        state.pop("lm_head.weight", None)
    tensors = {name: t.detach().to("cpu", dtype, copy=True).contiguous() for name, t in state.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return (folder / "model.safetensors").stat().st_size
