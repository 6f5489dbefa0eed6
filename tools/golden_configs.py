"""The tiny configs of make_goldens.py: config.json as the releases spell it, and how transformers is told the same.

CONFIGS[family] is what is written as config.json. Awkward on purpose: heads * head_dim is not the width, key and value
heads differ, experts are not a round number, only a part of a head is rotated.
"""

COMMON = {"vocab_size": 259, "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_scaling": None, "attention_bias": False,
          "attention_dropout": 0.0, "initializer_range": 0.02, "max_position_embeddings": 512, "use_cache": True,
          "bos_token_id": 257, "eos_token_id": 258, "torch_dtype": "float32"}
SMALL = {**COMMON, "vocab_size": 131, "bos_token_id": 129, "eos_token_id": 130}

QWEN35 = {
    "hidden_act": "silu", "rms_norm_eps": 1e-6, "attention_bias": False, "attention_dropout": 0.0,
    "attn_output_gate": True, "initializer_range": 0.02, "max_position_embeddings": 512, "use_cache": True,
    "vocab_size": 131, "eos_token_id": 130, "dtype": "float32", "hidden_size": 48, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "linear_num_key_heads": 2,
    "linear_num_value_heads": 4, "linear_key_head_dim": 16, "linear_value_head_dim": 32, "linear_conv_kernel_dim": 4,
    "mamba_ssm_dtype": "float32", "mtp_num_hidden_layers": 1, "mtp_use_dedicated_embeddings": False,
    "rope_parameters": {"mrope_interleaved": True, "mrope_section": [2, 1, 1], "rope_type": "default",
                        "rope_theta": 10000000, "partial_rotary_factor": 0.25}}

VISION = {"depth": 1, "hidden_size": 32, "hidden_act": "gelu_pytorch_tanh", "intermediate_size": 48, "num_heads": 2,
          "in_channels": 3, "patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 48,
          "num_position_embeddings": 16, "initializer_range": 0.02}

MOE35 = {**QWEN35, "model_type": "qwen3_5_moe_text", "full_attention_interval": 4,
         "layer_types": ["linear_attention"] * 3 + ["full_attention"], "num_experts": 10, "num_experts_per_tok": 3,
         "moe_intermediate_size": 16, "shared_expert_intermediate_size": 24, "output_router_logits": False,
         "router_aux_loss_coef": 0.001}


def nested(architecture: str, model_type: str, text: dict, tied: bool) -> dict:
    """A multi-modal config.json around a text model; the tie flag stands at the top."""
    return {"architectures": [architecture], "model_type": model_type, "image_token_id": 126, "video_token_id": 127,
            "vision_start_token_id": 124, "vision_end_token_id": 125, "text_config": text,
            "tie_word_embeddings": tied, "vision_config": {"model_type": f"{model_type}_vision", **VISION}}


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
    # Wavelengths fall into all three bands: 6, 32 | 167 | 861 and more.
    "llama": {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", **SMALL, "rms_norm_eps": 1e-5, "hidden_size": 64,
        "intermediate_size": 112, "num_hidden_layers": 3, "num_attention_heads": 8, "num_key_value_heads": 2,
        "head_dim": 16, "mlp_bias": False, "pretraining_tp": 1, "rope_theta": 500000.0,
        "max_position_embeddings": 2048, "tie_word_embeddings": False,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 256}},
    # No head_dim, as in Llama 3.1's own file: then it is the width over the heads.
    "llama_yarn": {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", **SMALL, "rms_norm_eps": 1e-5, "hidden_size": 96,
        "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "mlp_bias": False, "pretraining_tp": 1, "rope_theta": 10000.0, "max_position_embeddings": 1024,
        "tie_word_embeddings": True,
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}},
    # layer_types says otherwise than full_attention_interval, and wins.
    "qwen3_5": nested("Qwen3_5ForConditionalGeneration", "qwen3_5", {
        **QWEN35, "model_type": "qwen3_5_text", "full_attention_interval": 4, "intermediate_size": 72,
        "layer_types": ["linear_attention", "full_attention", "linear_attention", "full_attention"]}, tied=True),
    "qwen3_5_moe": nested("Qwen3_5MoeForConditionalGeneration", "qwen3_5_moe", MOE35, tied=False),
    "minimax_m2": {
        "architectures": ["MiniMaxM2ForCausalLM"], "model_type": "minimax_m2", "vocab_size": 131, "hidden_act": "silu",
        "rms_norm_eps": 1e-6, "attention_dropout": 0.0, "attn_type_list": [1, 1, 1], "bos_token_id": None,
        "eos_token_id": None, "dtype": "float32", "hidden_size": 48, "intermediate_size": 24, "num_hidden_layers": 3,
        "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 16, "initializer_range": 0.02,
        "max_position_embeddings": 512, "mtp_transformer_layers": 1, "num_mtp_modules": 3, "use_mtp": True,
        "num_experts_per_tok": 3, "num_local_experts": 10, "output_router_logits": False, "qk_norm_type": "per_layer",
        "rope_theta": 5000000, "rotary_dim": 8, "router_aux_loss_coef": 0.001, "router_jitter_noise": 0.0,
        "scoring_func": "sigmoid", "shared_intermediate_size": 0, "tie_word_embeddings": False, "use_cache": True,
        "use_qk_norm": True, "use_routing_bias": True},
}

# The text model of qwen3_5_moe alone, flat, with a tensor per expert.
FLAT_MOE35 = {"architectures": ["Qwen3_5MoeForCausalLM"], **MOE35, "tie_word_embeddings": False}


def text_config(family: str) -> dict:
    """The part of CONFIGS[family] that describes the text model."""
    config = CONFIGS[family]
    return config.get("text_config", config)


def for_transformers(family: str) -> dict:
    """The text model's config with rope_parameters, so that no version of transformers has to guess."""
    config = dict(text_config(family))
    config["tie_word_embeddings"] = CONFIGS[family]["tie_word_embeddings"]
    if "rope_parameters" in config:
        return config
    rope = {"rope_type": "default", "rope_theta": config.pop("rope_theta"), **(config.pop("rope_scaling", None) or {})}
    if "rotary_dim" in config:
        rope["partial_rotary_factor"] = config.pop("rotary_dim") / config["head_dim"]
    if "partial_rotary_factor" in config:
        rope["partial_rotary_factor"] = config["partial_rotary_factor"]
    return {**config, "rope_parameters": rope}
