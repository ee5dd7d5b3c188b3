"""Attention with the options of published models."""

import torch
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import (
    LlamaRMSNorm,
    apply_rotary_pos_emb,
    eager_attention_forward,
    repeat_kv,
)


class Layer(nn.Module):
    def __init__(self, config, index):
        super().__init__()
        options = config.layers_options[config.layers_block_type[index]]
        self.config, self.layer_idx = config, index
        self.is_causal, self.attention_dropout = True, 0.0
        self.layer_type = config.layer_types[index]
        heads = int(options.get("heads", config.num_attention_heads))
        kv_heads = int(options.get("kv_heads", config.num_key_value_heads))
        self.num_key_value_groups = heads // kv_heads
        self.head_dim, self.scaling = config.head_dim, config.head_dim**-0.5
        self.positions = options.get("positions", "all")
        self.window = int(options["window"]) if "window" in options else None
        bias = options.get("bias")
        inputs = "input true" in bias if bias else config.attention_bias
        output = "output true" in bias if bias else config.attention_bias
        width = config.hidden_size
        self.q_proj = nn.Linear(width, heads * self.head_dim, bias=inputs)
        self.k_proj = nn.Linear(width, kv_heads * self.head_dim, bias=inputs)
        self.v_proj = nn.Linear(width, kv_heads * self.head_dim, bias=inputs)
        self.o_proj = nn.Linear(heads * self.head_dim, width, bias=output)
        self.gate_proj = nn.Linear(width, heads * self.head_dim, bias=inputs) if "gate" in options else None
        self.norm = options.get("norm")
        if self.norm:
            size = (lambda count: self.head_dim) if self.norm == "per head" else (lambda count: count * self.head_dim)
            self.q_norm = LlamaRMSNorm(size(heads), eps=config.rms_norm_eps)
            self.k_norm = LlamaRMSNorm(size(kv_heads), eps=config.rms_norm_eps)
        self.sinks = nn.Parameter(torch.zeros(heads)) if "sinks" in options else None

    def heads(self, x, norm=None):
        shape = (*x.shape[:-1], -1, self.head_dim)
        if self.norm == "whole" and norm is not None:
            x = norm(x)
        x = x.view(shape)
        return (norm(x) if self.norm == "per head" and norm is not None else x).transpose(1, 2)

    def turn(self, query, key, context):
        if self.positions == "none":
            return query, key
        if self.positions == "all":
            return apply_rotary_pos_emb(query, key, *context.positions)
        rope = self.config.rope_parameters
        if rope.get("rope_type", "default") != "default":
            raise ValueError("positions of a share of the channels are not scaled")
        turning = max(self.head_dim * int(self.positions) // 100 // 2 * 2, 2)
        steps = torch.arange(0, turning, 2, device=query.device, dtype=torch.float32) / turning
        angles = context.position_ids[..., None].float() / rope["rope_theta"] ** steps
        angles = torch.cat((angles, angles), dim=-1)
        cos, sin = angles.cos().to(query.dtype), angles.sin().to(query.dtype)
        turned = apply_rotary_pos_emb(query[..., :turning], key[..., :turning], cos, sin)
        return [torch.cat((t, x[..., turning:]), dim=-1) for t, x in zip(turned, (query, key))]

    def forward(self, x, context):
        query = self.heads(self.q_proj(x), getattr(self, "q_norm", None))
        key = self.heads(self.k_proj(x), getattr(self, "k_norm", None))
        value = self.heads(self.v_proj(x))
        query, key = self.turn(query, key, context)
        if context.cache is not None:
            key, value = context.cache.update(key, value, self.layer_idx)
        mask = context.masks[self.layer_type]
        if self.sinks is None:
            name = self.config._attn_implementation
            attend = ALL_ATTENTION_FUNCTIONS.get_interface(name, eager_attention_forward)
            options = {"dropout": 0.0, "scaling": self.scaling, "sliding_window": self.window}
            mixed, _ = attend(self, query, key, value, mask, **options)
        else:
            mixed = self.attend_or_not(query, key, value, mask)
        mixed = mixed.reshape(*x.shape[:-1], -1)
        if self.gate_proj is not None:
            mixed = mixed * self.gate_proj(x).sigmoid()
        return self.o_proj(mixed)

    def attend_or_not(self, query, key, value, mask):
        """The softmax has one more entry per head, which adds nothing."""
        key, value = (repeat_kv(x, self.num_key_value_groups) for x in (key, value))
        scores = query @ key.transpose(2, 3) * self.scaling
        total, own = key.shape[2], query.shape[2]
        last = torch.arange(total - own, total, device=query.device)[:, None]
        seen = torch.arange(total, device=query.device)[None]
        allowed = (seen <= last) & (last - seen < (self.window or total + 1))
        if mask is not None:
            mask = mask[..., :total]
            allowed = mask if mask.dtype == torch.bool else mask >= 0
        scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
        sinks = self.sinks[None, :, None, None].expand(scores.shape[0], -1, own, 1)
        weights = torch.cat((scores, sinks), dim=-1).float().softmax(-1)[..., :-1].to(value.dtype)
        return (weights @ value).transpose(1, 2)
