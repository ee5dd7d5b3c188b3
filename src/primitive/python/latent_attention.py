"""Multi-head latent attention."""

import torch
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRMSNorm, eager_attention_forward, rotate_half


class Layer(nn.Module):
    """Its cache keeps the keys and values of all heads, as those of transformers do, and not the latent vectors."""

    def __init__(self, config, index):
        super().__init__()
        options = {key: int(value) for key, value in config.layers_options[config.layers_block_type[index]].items()}
        self.config, self.count, self.layer_idx = config, config.num_attention_heads, index
        self.is_causal, self.num_key_value_groups = True, 1
        self.still, self.turning, self.value = options["still"], options["turning"], options["value"]
        self.rank, query_rank = options["rank"], options["query_rank"]
        width, queries = config.hidden_size, self.count * (self.still + self.turning)
        if query_rank:
            self.q_a_proj = nn.Linear(width, query_rank, bias=False)
            self.q_a_layernorm = LlamaRMSNorm(query_rank, eps=config.rms_norm_eps)
            self.q_b_proj = nn.Linear(query_rank, queries, bias=False)
        else:
            self.q_a_proj, self.q_proj = None, nn.Linear(width, queries, bias=False)
        self.kv_a_proj_with_mqa = nn.Linear(width, self.rank + self.turning, bias=False)
        self.kv_a_layernorm = LlamaRMSNorm(self.rank, eps=config.rms_norm_eps)
        self.kv_b_proj = nn.Linear(self.rank, self.count * (self.still + self.value), bias=False)
        self.o_proj = nn.Linear(self.count * self.value, width, bias=False)

    def forward(self, x, context):
        batch, length, _ = x.shape
        query = self.q_proj(x) if self.q_a_proj is None else self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x)))
        query = query.view(batch, length, self.count, -1).transpose(1, 2)
        latent, shared = self.kv_a_proj_with_mqa(x).split([self.rank, self.turning], dim=-1)
        both = self.kv_b_proj(self.kv_a_layernorm(latent)).view(batch, length, self.count, -1).transpose(1, 2)
        key, value = both.split([self.still, self.value], dim=-1)
        theta = self.config.rope_parameters["rope_theta"]
        steps = torch.arange(0, self.turning, 2, device=x.device, dtype=torch.float32) / self.turning
        angles = context.position_ids[:, None, :, None].float() / theta**steps
        angles = torch.cat((angles, angles), dim=-1)
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        still, turned = query.split([self.still, self.turning], dim=-1)
        shared = shared[:, None]
        turned, shared = (t * cos + rotate_half(t) * sin for t in (turned, shared))
        query = torch.cat((still, turned), dim=-1)
        key = torch.cat((key, shared.expand(-1, self.count, -1, -1)), dim=-1)
        if context.cache is not None:
            key, value = context.cache.update(key, value, self.layer_idx)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        options = {"dropout": 0.0, "scaling": (self.still + self.turning) ** -0.5}
        mixed, _ = attend(self, query, key, value, context.masks["full_attention"], **options)
        return self.o_proj(mixed.reshape(batch, length, -1))
