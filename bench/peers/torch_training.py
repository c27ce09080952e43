"""Training steps of the same masked-token model in PyTorch: reads weights that Locus wrote, prints one JSON line.

The encoder is BERT with layer norm before each sub-layer, written with the operations that PyTorch is fastest with:
one joint projection, scaled_dot_product_attention, and the fused AdamW. On a GPU, --bf16 trains under autocast.
"""
import argparse, json, time
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

p = argparse.ArgumentParser()
for name in ("layers", "hidden", "heads", "rows", "tokens", "steps", "warmup", "threads"):
    p.add_argument("--" + name, type=int, required=True)
p.add_argument("--weights", required=True)
p.add_argument("--device", default="cpu")
p.add_argument("--bf16", action="store_true")
a = p.parse_args()
torch.set_num_threads(a.threads)
torch.manual_seed(1)

file = {n: t for n, t in load_file(a.weights).items() if not n.startswith("head.")}
parameters = {}
for n, t in file.items():
    parameters[n] = torch.nn.Parameter(t.clone().to(a.device))
layer = lambda n: f"bert.encoder.layer.{n}."
joint = {}
for n in range(a.layers):
    for kind in ("weight", "bias"):
        parts = [parameters.pop(layer(n) + f"attention.self.{x}.{kind}") for x in ("query", "key", "value")]
        joint[layer(n) + f"qkv.{kind}"] = torch.nn.Parameter(torch.cat([x.data for x in parts]))
parameters.update(joint)
P = parameters
EPS, DROP = 1e-12, 0.1

def norm(x, name):
    return F.layer_norm(x, x.shape[-1:], P[name + ".weight"], P[name + ".bias"], EPS)

def linear(x, name):
    return F.linear(x, P[name + ".weight"], P[name + ".bias"])

def forward(ids, positions, train):
    e = "bert.embeddings."
    x = F.embedding(ids, P[e + "word_embeddings.weight"]) + P[e + "position_embeddings.weight"][: a.tokens] \
        + P[e + "token_type_embeddings.weight"][0]
    x = F.dropout(norm(x, e + "LayerNorm"), DROP, train)
    for n in range(a.layers):
        l = layer(n)
        h = norm(x, l + "attention.output.LayerNorm")
        q, k, v = linear(h, l + "qkv").view(a.rows, a.tokens, 3, a.heads, -1).permute(2, 0, 3, 1, 4)
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(a.rows, a.tokens, a.hidden)
        x = x + F.dropout(linear(h, l + "attention.output.dense"), DROP, train)
        h = norm(x, l + "output.LayerNorm")
        h = linear(F.gelu(linear(h, l + "intermediate.dense")), l + "output.dense")
        x = x + F.dropout(h, DROP, train)
    x = norm(x, "bert.encoder.LayerNorm").reshape(-1, a.hidden)[positions]
    t = "cls.predictions.transform."
    x = norm(F.gelu(linear(x, t + "dense")), t + "LayerNorm")
    return F.linear(x, P["bert.embeddings.word_embeddings.weight"], P["cls.predictions.bias"])

n = a.rows * a.tokens
ids = torch.tensor([5 + (i * 7919) % 64 for i in range(n)])
ids = ids.to(a.device)
positions = torch.arange(0, n, 5, device=a.device)
targets = ids[positions]
ids = ids.view(a.rows, a.tokens)
optimizer = torch.optim.AdamW(P.values(), lr=1e-3, weight_decay=0.02, fused=True)

with torch.no_grad():
    before = F.cross_entropy(forward(ids, positions, False), targets).item()

def step():
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast(a.device, torch.bfloat16, enabled=a.bf16):
        logits = forward(ids, positions, True)
    loss = F.cross_entropy(logits.float(), targets)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(P.values(), 1.0)
    optimizer.step()

wait = torch.cuda.synchronize if a.device == "cuda" else lambda: None
for _ in range(a.warmup):
    step()
wait()
began, cpu = time.perf_counter(), time.process_time()
for _ in range(a.steps):
    step()
wait()
seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
high = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"loss_before": before, "tokens_per_second": a.steps * n / seconds,
                  "tokens_per_cpu_second": a.steps * n / cpu,
                  "peak_bytes": int(high.split()[1]) * 1024}))
