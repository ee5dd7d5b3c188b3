"""A language model with one residual block per layer, of any kind, in any order, made of transformers' own layers."""

import math
from dataclasses import dataclass

import torch
from torch import nn
from transformers import GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.cache_utils import DynamicCache
from transformers.masking_utils import (
    create_causal_mask,
    create_recurrent_attention_mask,
    create_sliding_window_causal_mask,
)
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.models.lfm2.modeling_lfm2 import Lfm2ShortConv
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaMLP, LlamaRMSNorm, LlamaRotaryEmbedding
from transformers.models.nemotron_h.modeling_nemotron_h import NemotronHMamba2Mixer
from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5GatedDeltaNet

from .configuration_composer import ComposerConfig

MASKS = {
    "full_attention": create_causal_mask,
    "sliding_attention": create_sliding_window_causal_mask,
    "linear_attention": create_recurrent_attention_mask,
    "conv": create_recurrent_attention_mask,
}


@dataclass
class Context:
    """The inputs of a layer in addition to the hidden states."""

    masks: dict
    positions: tuple
    position_ids: torch.Tensor
    cache: object | None


class Attention(LlamaAttention):
    """Causal attention, over a window if the layer's type requires it."""

    def __init__(self, config, index):
        super().__init__(config, index)
        self.layer_type = config.layer_types[index]
        self.window = config.sliding_window if self.layer_type == "sliding_attention" else None

    def forward(self, x, context):
        mixed, _ = super().forward(
            hidden_states=x,
            position_embeddings=context.positions,
            attention_mask=context.masks[self.layer_type],
            past_key_values=context.cache,
            sliding_window=self.window,
        )
        return mixed


class SwiGlu(LlamaMLP):
    def __init__(self, config, index):
        super().__init__(config)

    def forward(self, x, context):
        return super().forward(x)


class Mlp(nn.Module):
    """Two matrices with an activation between them."""

    activation = "gelu_pytorch_tanh"

    def __init__(self, config, index):
        super().__init__()
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)
        self.act = ACT2FN[self.activation]

    def forward(self, x, context):
        return self.down_proj(self.act(self.up_proj(x)))


class SquaredReluMlp(Mlp):
    activation = "relu2"


class ShortConv(Lfm2ShortConv):
    """A gated convolution over a few tokens."""

    def forward(self, x, context):
        return super().forward(x, past_key_values=context.cache, attention_mask=context.masks["conv"])


class Mamba2(NemotronHMamba2Mixer):
    def forward(self, x, context):
        return super().forward(x, cache_params=context.cache, attention_mask=context.masks["linear_attention"])

    def start(self):
        """Initial decays and step sizes, as in the reference implementation."""
        init.copy_(self.A_log, torch.empty_like(self.A_log).uniform_(1, 16).log_())
        init.ones_(self.D)
        init.copy_(self.dt_bias, step_bias(self.dt_bias))


class GatedDeltaNet(Qwen3_5GatedDeltaNet):
    def forward(self, x, context):
        return super().forward(x, cache_params=context.cache, attention_mask=context.masks["linear_attention"])

    def start(self):
        """Initial decays and step sizes, as in the reference implementation."""
        init.copy_(self.A_log, torch.empty_like(self.A_log).uniform_(0.01, 16).log_())
        init.copy_(self.dt_bias, step_bias(self.dt_bias))


def step_bias(like):
    """Biases whose softplus is log-uniform between 0.001 and 0.1."""
    dt = torch.exp(torch.empty_like(like).uniform_(math.log(1e-3), math.log(1e-1)))
    return dt + torch.log(-torch.expm1(-dt))


# Kinds of layers, as `layers_block_type` names them.
LAYERS = {
    "full_attention": Attention,
    "sliding_attention": Attention,
    "swiglu": SwiGlu,
    "gelu_mlp": Mlp,
    "relu2_mlp": SquaredReluMlp,
    "short_conv": ShortConv,
    "mamba2": Mamba2,
    "gated_delta_net": GatedDeltaNet,
}
# Layers that come with the checkpoint.


class ComposerLayer(nn.Module):
    def __init__(self, config, index):
        super().__init__()
        self.norm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.mixer = LAYERS[config.layers_block_type[index]](config, index)

    def forward(self, x, context):
        return x + self.mixer(self.norm(x), context)


class ComposerPreTrainedModel(PreTrainedModel):
    config_class = ComposerConfig
    base_model_prefix = "model"
    _no_split_modules = ["ComposerLayer"]
    _skip_keys_device_placement = ["past_key_values"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _is_stateful = True

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, (Mamba2, GatedDeltaNet)):
            module.start()


class ComposerModel(ComposerPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(ComposerLayer(config, index) for index in range(config.num_hidden_layers))
        self.norm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary_emb = LlamaRotaryEmbedding(config=config)
        self.post_init()

    def get_input_embeddings(self):
        return self.embed_tokens

    def set_input_embeddings(self, value):
        self.embed_tokens = value

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        position_ids=None,
        past_key_values=None,
        inputs_embeds=None,
        use_cache=None,
        **kwargs,
    ):
        x = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        if use_cache is None:
            use_cache = self.config.use_cache and not self.training
        cache = past_key_values if use_cache else None
        if use_cache and cache is None:
            cache = DynamicCache(config=self.config)
        if position_ids is None:
            seen = seen_tokens(self.config, cache)
            position_ids = (torch.arange(x.shape[1], device=x.device) + seen).unsqueeze(0)
        masks = attention_mask
        if not isinstance(masks, dict):
            masks = make_masks(self.config, x, attention_mask, cache, position_ids)
        context = Context(masks, self.rotary_emb(x, position_ids), position_ids, cache)
        for layer in self.layers:
            x = layer(x, context)
        return BaseModelOutputWithPast(last_hidden_state=self.norm(x), past_key_values=cache)


class ComposerForCausalLM(ComposerPreTrainedModel, GenerationMixin):
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config):
        super().__init__(config)
        self.model = ComposerModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=config.head_bias)
        self.post_init()

    def forward(self, input_ids=None, labels=None, logits_to_keep=0, **kwargs):
        outputs = self.model(input_ids=input_ids, **kwargs)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, kept, :])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size)
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=outputs.past_key_values)

    @staticmethod
    def create_masks_for_generate(config, inputs_embeds, attention_mask, past_key_values, position_ids=None, **_):
        return make_masks(config, inputs_embeds, attention_mask, past_key_values, position_ids)


def make_masks(config, x, attention_mask, cache, position_ids):
    """One mask for every type of layer in the model."""
    return {
        kind: make(
            config=config,
            inputs_embeds=x,
            attention_mask=attention_mask,
            past_key_values=cache,
            position_ids=position_ids,
        )
        for kind, make in MASKS.items()
        if kind in config.layer_types
    }


def seen_tokens(config, cache):
    """Tokens in the cache. If no layer caches keys, no layer uses positions."""
    if cache is None or not {"full_attention", "sliding_attention"} & set(config.layer_types):
        return 0
    return cache.get_seq_length()
