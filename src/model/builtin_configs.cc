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
