"""Compares the shipped module of latent attention with `DeepseekV3Attention` of transformers; needs torch and
transformers: `python tests/interop/latent_attention.py`."""

import importlib.util
import types
from pathlib import Path

import torch
from transformers import DeepseekV3Config
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3Attention, DeepseekV3RotaryEmbedding

path = Path(__file__).parents[2] / "src/primitive/python/latent_attention.py"
spec = importlib.util.spec_from_file_location("latent_attention", path)
ours = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ours)

torch.manual_seed(0)
for query_rank in (None, 12):
    config = DeepseekV3Config(
        hidden_size=32, num_attention_heads=4, num_key_value_heads=4, q_lora_rank=query_rank, kv_lora_rank=16,
        qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=6, rope_interleave=False, attention_bias=False,
        rms_norm_eps=1e-6, rope_theta=10000.0, max_position_embeddings=64,
    )
    config._attn_implementation = "eager"
    theirs = DeepseekV3Attention(config, 0).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, 0.3 if parameter.dim() > 1 else 1.0, 0.3)
    sizes = {"still": 8, "turning": 4, "value": 6, "rank": 16, "query_rank": query_rank or 0}
    own = types.SimpleNamespace(
        hidden_size=32, num_attention_heads=4, rms_norm_eps=1e-6, rope_parameters={"rope_theta": 10000.0},
        _attn_implementation="eager", layers_block_type=["L"], layers_options={"L": sizes},
    )
    layer = ours.Layer(own, 0).eval()
    layer.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(2, 11, 32)
    positions = torch.arange(11)[None].expand(2, -1)
    mask = torch.full((11, 11), float("-inf")).triu(1)[None, None].expand(2, 1, 11, 11)
    context = types.SimpleNamespace(position_ids=positions, cache=None, masks={"full_attention": mask})
    with torch.no_grad():
        turns = DeepseekV3RotaryEmbedding(config)(x, positions)
        expected = theirs(x, position_embeddings=turns, attention_mask=mask)[0]
        difference = (layer(x, context) - expected).abs().max().item()
    print(f"low-rank queries {query_rank}: {difference:.1e} of {expected.abs().max().item():.1f}")
    assert difference < 1e-5 * expected.abs().max().item()
