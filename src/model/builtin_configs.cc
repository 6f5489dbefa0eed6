#include "model/builtin_configs.h"

namespace lockstep {
namespace {

constexpr BuiltinConfig kConfigs[] = {
    {"qwen3-0.6b",
     R"({"model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
      "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
      "max_position_embeddings": 40960, "rms_norm_eps": 1e-6, "rope_theta": 1000000, "tie_word_embeddings": true,
      "torch_dtype": "bfloat16"})"},
    {"qwen3-8b",
     R"({"model_type": "qwen3", "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36,
      "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
      "max_position_embeddings": 40960, "rms_norm_eps": 1e-6, "rope_theta": 1000000, "tie_word_embeddings": false,
      "torch_dtype": "bfloat16"})"},
    {"qwen3-30b-a3b", R"({"model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144,
      "moe_intermediate_size": 768, "num_experts": 128, "num_experts_per_tok": 8, "norm_topk_prob": true,
      "decoder_sparse_step": 1, "mlp_only_layers": [], "num_hidden_layers": 48, "num_attention_heads": 32,
      "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 151936, "max_position_embeddings": 40960,
      "rms_norm_eps": 1e-6, "rope_theta": 1000000, "tie_word_embeddings": false, "torch_dtype": "bfloat16"})"},
    {"qwen3-next-cut-cpu", R"({"model_type": "qwen3_next", "hidden_size": 2048, "intermediate_size": 5120,
      "num_hidden_layers": 12, "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 256,
      "partial_rotary_factor": 0.25, "rope_theta": 10000000, "max_position_embeddings": 262144, "vocab_size": 151936,
      "rms_norm_eps": 1e-6, "tie_word_embeddings": false, "linear_num_key_heads": 16, "linear_num_value_heads": 32,
      "linear_key_head_dim": 128, "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4, "num_experts": 64,
      "num_experts_per_tok": 10, "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512,
      "norm_topk_prob": true, "full_attention_interval": 4, "torch_dtype": "bfloat16"})"},
    {"qwen3-next-cut-gpu", R"({"model_type": "qwen3_next", "hidden_size": 2048, "intermediate_size": 5120,
      "num_hidden_layers": 24, "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 256,
      "partial_rotary_factor": 0.25, "rope_theta": 10000000, "max_position_embeddings": 262144, "vocab_size": 151936,
      "rms_norm_eps": 1e-6, "tie_word_embeddings": false, "linear_num_key_heads": 16, "linear_num_value_heads": 32,
      "linear_key_head_dim": 128, "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4, "num_experts": 512,
      "num_experts_per_tok": 10, "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512,
      "norm_topk_prob": true, "full_attention_interval": 4, "torch_dtype": "bfloat16"})"},
    {"tiny-next-2048", R"({"model_type": "qwen3_next", "hidden_size": 2048, "intermediate_size": 512,
      "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 128,
      "partial_rotary_factor": 0.25, "rope_theta": 10000000, "max_position_embeddings": 4096, "vocab_size": 1024,
      "rms_norm_eps": 1e-6, "tie_word_embeddings": false, "linear_num_key_heads": 4, "linear_num_value_heads": 8,
      "linear_key_head_dim": 64, "linear_value_head_dim": 64, "linear_conv_kernel_dim": 4, "num_experts": 8,
      "num_experts_per_tok": 2, "moe_intermediate_size": 128, "shared_expert_intermediate_size": 128,
      "norm_topk_prob": true, "full_attention_interval": 4, "torch_dtype": "bfloat16"})"},
    {"llama-3.1-8b", R"({"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
      "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
      "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "rope_theta": 500000, "tie_word_embeddings": false,
      "rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
      "original_max_position_embeddings": 8192}, "torch_dtype": "bfloat16"})"},
    {"qwen3.5-9b", R"({"model_type": "qwen3_5", "tie_word_embeddings": false, "text_config": {
      "model_type": "qwen3_5_text", "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 32,
      "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 248320,
      "max_position_embeddings": 262144, "rms_norm_eps": 1e-6, "linear_num_key_heads": 16,
      "linear_num_value_heads": 32, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
      "linear_conv_kernel_dim": 4, "full_attention_interval": 4, "attn_output_gate": true, "rope_parameters": {
      "rope_type": "default", "rope_theta": 10000000, "partial_rotary_factor": 0.25}, "dtype": "bfloat16"}})"},
    {"qwen3.5-35b-a3b", R"({"model_type": "qwen3_5_moe", "tie_word_embeddings": false, "text_config": {
      "model_type": "qwen3_5_moe_text", "hidden_size": 2048, "num_hidden_layers": 40, "num_attention_heads": 16,
      "num_key_value_heads": 2, "head_dim": 256, "vocab_size": 248320, "max_position_embeddings": 262144,
      "rms_norm_eps": 1e-6, "linear_num_key_heads": 16, "linear_num_value_heads": 32, "linear_key_head_dim": 128,
      "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4, "num_experts": 256, "num_experts_per_tok": 8,
      "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512, "full_attention_interval": 4,
      "attn_output_gate": true, "rope_parameters": {"rope_type": "default", "rope_theta": 10000000,
      "partial_rotary_factor": 0.25}, "dtype": "bfloat16"}})"},
    {"minimax-m2", R"({"model_type": "minimax_m2", "hidden_size": 3072, "intermediate_size": 1536,
      "num_hidden_layers": 62, "num_attention_heads": 48, "num_key_value_heads": 8, "head_dim": 128,
      "rotary_dim": 64, "rope_theta": 5000000, "max_position_embeddings": 196608, "vocab_size": 200064,
      "rms_norm_eps": 1e-6, "num_local_experts": 256, "num_experts_per_tok": 8, "scoring_func": "sigmoid",
      "use_routing_bias": true, "use_qk_norm": true, "qk_norm_type": "per_layer", "shared_intermediate_size": 0,
      "tie_word_embeddings": false, "torch_dtype": "bfloat16"})"},
    {"tiny-minimax-m2", R"({"model_type": "minimax_m2", "hidden_size": 512, "intermediate_size": 128,
      "num_hidden_layers": 2, "num_attention_heads": 48, "num_key_value_heads": 8, "head_dim": 128,
      "rotary_dim": 64, "rope_theta": 5000000, "max_position_embeddings": 4096, "vocab_size": 1024,
      "rms_norm_eps": 1e-6, "num_local_experts": 32, "num_experts_per_tok": 8, "scoring_func": "sigmoid",
      "use_routing_bias": true, "use_qk_norm": true, "qk_norm_type": "per_layer",
      "tie_word_embeddings": false, "torch_dtype": "bfloat16"})"},
    {"tiny-qwen3.5", R"({"model_type": "qwen3_5_text", "hidden_size": 1024, "intermediate_size": 1024,
      "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 256,
      "vocab_size": 1024, "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "linear_num_key_heads": 16,
      "linear_num_value_heads": 16, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
      "linear_conv_kernel_dim": 4, "full_attention_interval": 4, "rope_parameters": {"rope_type": "default",
      "rope_theta": 10000000, "partial_rotary_factor": 0.25}, "tie_word_embeddings": true,
      "dtype": "bfloat16"})"},
    {"tiny-qwen3-moe", R"({"model_type": "qwen3_moe", "hidden_size": 256, "intermediate_size": 256,
      "moe_intermediate_size": 64, "num_experts": 8, "num_experts_per_tok": 2, "norm_topk_prob": true,
      "decoder_sparse_step": 1, "mlp_only_layers": [], "num_hidden_layers": 2, "num_attention_heads": 32,
      "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 512, "max_position_embeddings": 4096,
      "rms_norm_eps": 1e-6, "rope_theta": 1000000, "tie_word_embeddings": false, "torch_dtype": "bfloat16"})"},
    {"tiny-qwen3.5-moe", R"({"model_type": "qwen3_5_moe_text", "hidden_size": 256, "num_hidden_layers": 4,
      "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 256, "vocab_size": 512,
      "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "linear_num_key_heads": 4, "linear_num_value_heads": 8,
      "linear_key_head_dim": 128, "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4, "num_experts": 8,
      "num_experts_per_tok": 2, "moe_intermediate_size": 64, "shared_expert_intermediate_size": 64,
      "full_attention_interval": 4, "rope_parameters": {"rope_type": "default", "rope_theta": 10000000,
      "partial_rotary_factor": 0.25}, "tie_word_embeddings": false, "dtype": "bfloat16"})"},
};

}  // namespace

std::span<const BuiltinConfig> builtin_configs() { return kConfigs; }

const BuiltinConfig* find_builtin_config(std::string_view name) {
  for (const BuiltinConfig& config : kConfigs) {
    if (config.name == name) return &config;
  }
  return nullptr;
}

}  // namespace lockstep
