"""The models of Locus in PyTorch, with the weights of a graph: the pair model and the sequence model of one frame."""

import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper

SEP = 3
MASKED = -10_000.0


class Model(torch.nn.Module):
    """Reads `fp32.onnx`; `config` is the bundle's config.json."""

    def __init__(self, graph, config):
        super().__init__()
        self.c = config
        self.names = {}
        for n, tensor in enumerate(onnx.load(graph).graph.initializer):
            value = torch.from_numpy(numpy_helper.to_array(tensor).copy())
            if not value.is_floating_point():
                continue
            # Matrices of products stand transposed in a graph.
            if value.dim() == 2 and "embeddings" not in tensor.name:
                value = value.t().contiguous()
            self.register_buffer(f"w{n}", value)
            self.names[tensor.name] = f"w{n}"

    def w(self, name):
        return getattr(self, self.names[name])

    def linear(self, x, name):
        return F.linear(x, self.w(name + ".weight"), self.w(name + ".bias"))

    def norm(self, x, name):
        return F.layer_norm(x, x.shape[-1:], self.w(name + ".weight"), self.w(name + ".bias"),
                            self.c["layer_norm_eps"])

    def encoder(self, ids, track, mask):
        """Hidden states [rows, tokens, hidden], and what is added to the scores of keys [rows, tokens]."""
        c, e = self.c, "bert.embeddings."
        rows, tokens = ids.shape
        pre, heads = c["norm_position"] == "pre", c["num_attention_heads"]
        x = F.embedding(ids, self.w(e + "word_embeddings.weight")) \
            + self.w(e + "position_embeddings.weight")[:tokens] \
            + F.embedding(track, self.w(e + "token_type_embeddings.weight"))
        x = self.norm(x, e + "LayerNorm")
        added = (1.0 - mask.float()) * MASKED
        for n in range(c["num_hidden_layers"]):
            name, l = f"bert.encoder.layer.{n}.", f"layer.{n}."
            h = self.norm(x, name + "attention.output.LayerNorm") if pre else x
            q, k, v = self.linear(h, l + "attention.qkv").view(rows, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4)
            h = F.scaled_dot_product_attention(q, k, v, attn_mask=added[:, None, None, :])
            h = h.transpose(1, 2).reshape(rows, tokens, -1)
            x = x + self.linear(h, l + "attention.output")
            if not pre:
                x = self.norm(x, name + "attention.output.LayerNorm")
            h = self.norm(x, name + "output.LayerNorm") if pre else x
            x = x + self.linear(F.gelu(self.linear(h, l + "ffn.inner")), l + "ffn.output")
            if not pre:
                x = self.norm(x, name + "output.LayerNorm")
        return (self.norm(x, "bert.encoder.LayerNorm") if pre else x), added

    def pair(self, ref_ids, alt_ids, ref_track, alt_track, ref_mask, alt_mask, features):
        both = [torch.cat(two) for two in ((ref_ids, alt_ids), (ref_track, alt_track), (ref_mask, alt_mask))]
        ref, alt = self.encoder(*both)[0].chunk(2)
        differs, attended = share((ref_ids != alt_ids).float()), share(ref_mask.float())
        change = ref - alt
        pooled = [pool(differs, alt), pool(differs, change), pool(attended, change.abs()), pool(attended, ref)]
        known = F.gelu(self.linear(F.gelu(self.linear(features, "head.features.1")), "head.features.2"))
        x = F.gelu(self.linear(torch.cat([*pooled, known], dim=-1), "head.inner"))
        return self.linear(x, "head.logits")

    def sequence(self, ids, track, mask):
        x, added = self.encoder(ids, track, mask)
        mean = pool(share((track != 0).float() * mask.float()), x)
        most = (x + added[:, :, None]).amax(dim=1)
        last = pool(share((ids[:, 1:] == SEP).float()), x[:, :-1])
        x = torch.cat([mean, most, x[:, 0], x[:, 1], last], dim=-1)
        return self.linear(F.gelu(self.linear(x, "head.inner")), "head.logits")

    def forward(self, row):
        return self.pair(**row) if self.c["head"] == "pair" else self.sequence(**row)


def share(counts):
    return counts / counts.sum(dim=1, keepdim=True).clamp(min=1.0)


def pool(weights, x):
    return (weights[:, None, :] @ x)[:, 0]
