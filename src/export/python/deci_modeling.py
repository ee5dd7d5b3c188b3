"""A Llama whose blocks can lack attention or MLP. Everything else is transformers' Llama."""

import copy

from torch import nn
from transformers import LlamaForCausalLM, LlamaModel, LlamaPreTrainedModel
from transformers.models.llama.modeling_llama import (
    LlamaAttention,
    LlamaDecoderLayer,
    LlamaMLP,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
)

from .configuration_composer import ComposerDeciConfig


def inner_width(ffn, config):
    """The inner width for `ffn_mult`, rounded up to a multiple of 256."""
    width = int(2 * ffn.ffn_mult * config.hidden_size / 3)
    return -(-width // 256) * 256


class DeciBlock(LlamaDecoderLayer):
    """`x + attention(norm(x))`, then `x + mlp(norm(x))`, each if the configuration has it."""

    def __init__(self, config, layer_idx):
        nn.Module.__init__(self)
        block = config.block_configs[layer_idx]
        self.hidden_size = config.hidden_size
        self.self_attn = self.mlp = None
        if not block.attention.no_op:
            own = copy.copy(config)
            own.num_key_value_heads = config.num_attention_heads // block.attention.n_heads_in_group
            self.self_attn = LlamaAttention(own, layer_idx)
            self.input_layernorm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        if not block.ffn.no_op:
            own = copy.copy(config)
            own.intermediate_size = inner_width(block.ffn, config)
            self.mlp = LlamaMLP(own)
            self.post_attention_layernorm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def forward(self, hidden_states, **context):
        if self.self_attn is not None:
            mixed, _ = self.self_attn(hidden_states=self.input_layernorm(hidden_states), **context)
            hidden_states = hidden_states + mixed
        if self.mlp is not None:
            hidden_states = hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))
        return hidden_states


class DeciModel(LlamaModel):
    config_class = ComposerDeciConfig
    _no_split_modules = ["DeciBlock"]

    def __init__(self, config):
        LlamaPreTrainedModel.__init__(self, config)
        self.padding_idx = config.pad_token_id
        self.vocab_size = config.vocab_size
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, self.padding_idx)
        self.layers = nn.ModuleList(DeciBlock(config, index) for index in range(config.num_hidden_layers))
        self.norm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary_emb = LlamaRotaryEmbedding(config=config)
        self.gradient_checkpointing = False
        self.post_init()


class DeciLMForCausalLM(LlamaForCausalLM):
    config_class = ComposerDeciConfig

    def __init__(self, config):
        LlamaPreTrainedModel.__init__(self, config)
        self.model = DeciModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()
