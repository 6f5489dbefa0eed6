#!/usr/bin/env python3
"""Times the kernels of this project and those of others on one GPU, in one call, and prints a table with ratios.

Usage: compare_peers.py BENCH_BINARY [--part NAME] [--decode] [--json]
BENCH_BINARY is kernels_cuda_bench of a build with the preset cuda. Peers are PyTorch's attention by cuDNN and by flash,
its matrix products (those of experts compiled), and FlashInfer and flash-linear-attention where they can be imported
(of their wheels, flashinfer-python, apache-tvm-ffi and fla-core do); --decode adds the decode step of an 8B model by
transformers with a static cache, compiled. Every peer runs as one CUDA graph of several calls over more memory than the
caches hold, on random data; the median counts, as in the bench.
"""
import argparse
import json
import statistics
import subprocess
import sys

import torch

HEADS, KV_HEADS, SIZE, COLD = 32, 8, 128, 256 << 20
LINEARS = {'qkv': (4096, 6144), 'o': (4096, 4096), 'gate_up': (4096, 24576), 'down': (12288, 4096), 'logits': (4096, 151936)}
DECODES = [(1, 1024), (32, 1024), (128, 1024), (32, 4096), (1, 262144)]
PREFILLS = [1024, 2048, 8192, 16384]
KEY_HEADS, RECURRENT = 16, [(1, 8192, '1 x 8192 rows'), (32, 1, '32 x 1 row'), (256, 1, '256 x 1 row')]
EXPERTS, CHOICES, WIDTH, EXPERT_WIDTH = 128, 8, 2048, 768


def time_us(call, calls):
    """The median time of call(i) in a graph of `calls` of them."""
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for i in range(3):
            call(i % calls)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for i in range(calls):
            call(i)
    times = []
    for i in range(13):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        if i >= 2:
            times.append(begin.elapsed_time(end) * 1e3 / calls)
    return statistics.median(times)


def attempt(what, call):
    """The result of call(), or None with the reason on stderr: a peer may not serve a shape."""
    try:
        return call()
    except Exception as failure:  # whatever a peer throws
        print(f'{what}: {type(failure).__name__}: {str(failure).splitlines()[0] if str(failure) else ""}', file=sys.stderr)
        return None


def random(*shape):
    return torch.rand(shape, device='cuda', dtype=torch.bfloat16) * 2 - 1


def sdpa(backend, sequences, rows, tokens):
    from torch.nn.attention import sdpa_kernel
    copies = COLD // (2 * sequences * tokens * KV_HEADS * SIZE * 2) + 1
    q = random(sequences, HEADS, rows, SIZE)
    keys = [random(sequences, KV_HEADS, tokens, SIZE) for _ in range(copies)]
    values = [random(sequences, KV_HEADS, tokens, SIZE) for _ in range(copies)]

    def call(i):
        with sdpa_kernel(backend):
            torch.nn.functional.scaled_dot_product_attention(q, keys[i % copies], values[i % copies], is_causal=rows > 1,
                                                             enable_gqa=True)
    return time_us(call, max(copies, 4))


def flashinfer_decode(sequences, tokens):
    import flashinfer
    page, pages = 64, tokens // 64
    copies = COLD // (2 * sequences * tokens * KV_HEADS * SIZE * 2) + 1
    cache = random(copies * sequences * pages, 2, page, KV_HEADS, SIZE)
    q, out = random(sequences, HEADS, SIZE), random(sequences, HEADS, SIZE)
    indptr = torch.arange(sequences + 1, dtype=torch.int32, device='cuda') * pages
    last = torch.full((sequences,), page, dtype=torch.int32, device='cuda')
    order = torch.randperm(copies * sequences * pages, device='cuda').to(torch.int32).view(copies, -1)
    wrappers = []
    for i in range(copies):
        space = torch.empty(128 << 20, dtype=torch.uint8, device='cuda')
        wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(space, 'NHD', use_tensor_cores=True)
        wrapper.plan(indptr, order[i], last, HEADS, KV_HEADS, SIZE, page, data_type=torch.bfloat16,
                     q_data_type=torch.bfloat16)
        wrappers.append(wrapper)
    return time_us(lambda i: wrappers[i % copies].run(q, cache, out=out), max(copies, 4))


def flashinfer_prefill(rows):
    import flashinfer
    page, pages = 64, rows // 64
    cache, q = random(pages, 2, page, KV_HEADS, SIZE), random(rows, HEADS, SIZE)
    wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(torch.empty(128 << 20, dtype=torch.uint8, device='cuda'), 'NHD')
    indices = [torch.tensor(each, dtype=torch.int32, device='cuda') for each in ([0, rows], [0, pages])]
    order = torch.randperm(pages, device='cuda').to(torch.int32)
    last = torch.full((1,), page, dtype=torch.int32, device='cuda')
    wrapper.plan(*indices, order, last, HEADS, KV_HEADS, SIZE, page, causal=True, q_data_type=torch.bfloat16,
                 kv_data_type=torch.bfloat16)
    out = torch.empty_like(q)
    return time_us(lambda i: wrapper.run(q, cache, out=out), 4)


def recurrent(kind, sequences, rows):
    """The gated delta rule or lightning attention by flash-linear-attention: chunks of a prompt, or one row at a time."""
    from fla.ops.gated_delta_rule import chunk_gated_delta_rule, fused_recurrent_gated_delta_rule
    from fla.ops.lightning_attn import chunk_lightning_attn, fused_recurrent_lightning_attn
    copies = COLD // (sequences * HEADS * SIZE * SIZE * 4) + 1 if rows == 1 else 3
    key_heads = KEY_HEADS if kind == 'gated delta' else HEADS
    q, k = random(sequences, rows, key_heads, SIZE), torch.nn.functional.normalize(random(sequences, rows, key_heads, SIZE), dim=-1)
    v, states = random(sequences, rows, HEADS, SIZE), torch.randn(copies, sequences, HEADS, SIZE, SIZE, device='cuda')
    g = torch.nn.functional.logsigmoid(torch.randn(sequences, rows, HEADS, device='cuda') + 3)
    more = {'g': g, 'beta': torch.rand(sequences, rows, HEADS, device='cuda', dtype=torch.bfloat16)}
    call = chunk_gated_delta_rule if rows > 1 else fused_recurrent_gated_delta_rule
    if kind == 'lightning':
        more = {'layer_idx': 3, 'num_layers': 32}
        call = chunk_lightning_attn if rows > 1 else fused_recurrent_lightning_attn
    with torch.inference_mode():
        return time_us(lambda i: call(q=q, k=k, v=v, initial_state=states[i % copies], output_final_state=True, **more),
                       max(copies, 4))


def moe(rows):
    """Experts by PyTorch's grouped products, compiled: rows sorted by expert, two products, a weighted sum."""
    copies = 3
    gate_up = [random(EXPERTS, WIDTH, 2 * EXPERT_WIDTH) for _ in range(copies)]
    down = [random(EXPERTS, EXPERT_WIDTH, WIDTH) for _ in range(copies)]
    x, weights = random(rows, WIDTH), torch.rand(rows, CHOICES, device='cuda')
    all_experts = torch.arange(EXPERTS, device='cuda')
    ids = torch.stack([torch.randperm(EXPERTS, device='cuda')[:CHOICES] for _ in range(rows)])

    def experts(x, ids, weights, gate_up, down):
        order = ids.flatten().argsort()
        ends = (ids.flatten()[:, None] == all_experts).sum(0).cumsum(0).to(torch.int32)
        hidden = torch._grouped_mm(x[order // CHOICES], gate_up, offs=ends)
        gate, up = hidden.chunk(2, dim=-1)
        parts = torch._grouped_mm(torch.nn.functional.silu(gate) * up, down, offs=ends)
        parts = parts * weights.flatten()[order, None]
        return torch.zeros(rows, WIDTH, device='cuda').index_add_(0, order // CHOICES, parts.float())
    compiled = torch.compile(experts, dynamic=False)
    return time_us(lambda i: compiled(x, ids, weights, gate_up[i % copies], down[i % copies]), 2 * copies)


def linear(shape, rows):
    k, n = LINEARS[shape]
    copies = COLD // (n * k * 2) + 1
    weights, x = [random(n, k) for _ in range(copies)], random(rows, k)
    return time_us(lambda i: torch.nn.functional.linear(x, weights[i % copies]), max(copies, 8))


def peers_of(part):
    """(row of the bench, peer, microseconds or None)."""
    from torch.nn.attention import SDPBackend
    backends = {'torch cuDNN': SDPBackend.CUDNN_ATTENTION, 'torch flash': SDPBackend.FLASH_ATTENTION}
    for sequences, tokens in DECODES:
        name = f'decode attention {sequences} x {tokens}'
        if part in name:
            for peer, backend in backends.items():
                yield name, peer, attempt(f'{name}, {peer}', lambda b=backend: sdpa(b, sequences, 1, tokens))
            yield name, 'FlashInfer', attempt(f'{name}, FlashInfer', lambda: flashinfer_decode(sequences, tokens))
    for rows in PREFILLS:
        for kind in ('paged', 'contiguous'):
            name = f'prefill attention {rows} {kind}'
            if part in name and kind == 'paged':
                for peer, backend in backends.items():
                    yield name, f'{peer}, contiguous', attempt(f'{name}, {peer}', lambda b=backend: sdpa(b, 1, rows, rows))
                yield name, 'FlashInfer', attempt(f'{name}, FlashInfer', lambda: flashinfer_prefill(rows))
    for kind in ('gated delta', 'lightning'):
        for sequences, rows, size in RECURRENT:
            name = f'{kind} {size}'
            if part in name:
                yield name, 'flash-linear-attention', attempt(f'{name}, fla', lambda: recurrent(kind, sequences, rows))
    for rows in (1, 32, 512, 4096):
        name = f'moe 8 of 128, {rows} rows'
        if part in name:
            yield name, 'torch, grouped', attempt(f'{name}, torch', lambda: moe(rows))
    for rows in (1, 8, 32, 128, 1024):
        for shape in LINEARS:
            name = f'linear {shape} {rows} rows'
            if part in name:
                yield name, 'torch', attempt(f'{name}, torch', lambda: linear(shape, rows))
    torch.cuda.empty_cache()


def decode_step_ms(batch, context):
    """A decode step of the 8B shape by transformers: static cache, compiled, as a graph."""
    from transformers import AutoModelForCausalLM, StaticCache
    from transformers.models.qwen3 import Qwen3Config
    config = Qwen3Config(hidden_size=4096, intermediate_size=12288, num_hidden_layers=36, num_attention_heads=HEADS,
                         num_key_value_heads=KV_HEADS, head_dim=SIZE, vocab_size=151936, max_position_embeddings=40960)
    with torch.device('cuda'):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    cache = StaticCache(config=config, max_cache_len=context + 64)
    step = torch.compile(model, mode='reduce-overhead', fullgraph=False)
    tokens = torch.randint(0, 150000, (batch, 1), device='cuda')
    times = []
    with torch.inference_mode():
        model(torch.randint(0, 150000, (batch, context), device='cuda'), past_key_values=cache,
              cache_position=torch.arange(context, device='cuda'), logits_to_keep=1)
        for i in range(40):
            place = torch.tensor([context + i], device='cuda')
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            step(tokens, past_key_values=cache, cache_position=place)
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end))
    return statistics.median(times[15:])


def ours(binary, part):
    done = subprocess.run([binary, '--json'] + ([part] if part else []), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def print_table(result, peers):
    print(f"{result['device']}: reads {result['read_gb_per_s']:.0f} GB/s, copies {result['copy_gb_per_s']:.0f} GB/s, "
          f"bf16 {result['bf16_gflop_per_s'] / 1e3:.0f} TFLOP/s")
    print(f"{'kernel':36} {'us':>9} {'of roof':>8}  {'limited by':56} peers: us (theirs / ours)")
    for row in result['rows']:
        beside = ['{} {:.1f} ({:.2f}x)'.format(peer, us, us / row['us']) if us else f'{peer} -'
                  for name, peer, us in peers if name == row['name']]
        print(f"{row['name']:36} {row['us']:9.1f} {row['of_roof']:8.0%}  {row['limit']:56} {', '.join(beside)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('binary')
    parser.add_argument('--part', default='', help='a part of the names of rows')
    parser.add_argument('--decode', action='store_true', help='the 8B decode step by transformers, too')
    parser.add_argument('--json', action='store_true')
    given = parser.parse_args()
    result = ours(given.binary, given.part)
    peers = list(peers_of(given.part))
    steps = {}
    if given.decode:
        for batch in (1, 32):
            steps[batch] = attempt(f'transformers, batch {batch}', lambda: decode_step_ms(batch, 1024))
    if given.json:
        result['peers'] = [{'name': name, 'peer': peer, 'us': us} for name, peer, us in peers]
        result['transformers_8b_step_ms'] = steps
        print(json.dumps(result))
        return
    print_table(result, peers)
    for batch, ms in steps.items():
        print(f'8B decode step by transformers, compiled, batch {batch}: {ms if ms is None else round(ms, 2)} ms')


if __name__ == '__main__':
    main()
