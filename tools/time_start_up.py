#!/usr/bin/env python3
"""Times the start of a model on a GPU, by phase, from the page cache to the first token, beside transformers.

Usage: time_start_up.py LOCKSTEP FOLDER TOKENIZER [--runs N] [--layers N]
Makes a checkpoint of the shape of Qwen3-8B with random weights in FOLDER (16.4 GB there, and as much memory for the
page cache), unless it is there; TOKENIZER is a tokenizer.json. Each run is a process of its own; the medians count.
Needs a GPU and PyTorch with transformers.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

CHUNK = 64 << 20
TRANSFORMERS = '''
import time; start = time.monotonic()
import torch, transformers
imported = time.monotonic()
model = transformers.AutoModelForCausalLM.from_pretrained({folder!r}, dtype=torch.bfloat16, device_map='cuda')
torch.cuda.synchronize(); loaded = time.monotonic()
with torch.inference_mode():
    model(torch.arange(1, 9, device='cuda')[None]).logits[0, -1].argmax().item()
print(imported - start, loaded - imported, time.monotonic() - loaded)
'''


def make_checkpoint(folder, layers):
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.models.qwen3 import Qwen3Config
    config = Qwen3Config(hidden_size=4096, intermediate_size=12288, num_hidden_layers=layers, num_attention_heads=32,
                         num_key_value_heads=8, head_dim=128, vocab_size=151936, max_position_embeddings=40960,
                         tie_word_embeddings=False, eos_token_id=151645)
    with torch.device('cuda'):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder, max_shard_size='4GB')


def read_rate(files):
    """GB/s of reading them through the page cache, and how many GB they are."""
    start, size, room = time.monotonic(), 0, bytearray(CHUNK)
    for file in files:
        with open(file, 'rb', buffering=0) as opened:
            while count := opened.readinto(room):
                size += count
    return size / 1e9 / (time.monotonic() - start), size / 1e9


def disk_rate(files):
    """GB/s of the first file once the page cache has been told to let go of it."""
    for file in files[:1]:
        handle = os.open(file, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)
    return read_rate(files[:1])[0]


def start(lockstep, folder, record):
    begin = time.monotonic()
    done = subprocess.run([lockstep, 'generate', '--device', 'cuda', '-m', folder, '-p', 'There was once', '-n', '1',
                           '--temperature', '0', '--max-model-len', '4096', '--json'], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    said = json.loads(done.stdout)
    phases = {each['phase']: each['seconds'] for each in said['start_up']}
    phases['first token'] = said['first_token_seconds']
    phases['process, until it has ended'] = time.monotonic() - begin - sum(phases.values())
    for name, seconds in phases.items():
        record.setdefault(name, []).append(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('lockstep')
    parser.add_argument('folder')
    parser.add_argument('tokenizer')
    parser.add_argument('--runs', type=int, default=3)
    parser.add_argument('--layers', type=int, default=36)
    given = parser.parse_args()
    folder = pathlib.Path(given.folder)
    if not (folder / 'config.json').exists():
        make_checkpoint(folder, given.layers)
        shutil.copy(given.tokenizer, folder / 'tokenizer.json')
    files = sorted(folder.glob('*.safetensors'))
    disk = disk_rate(files)
    read_rate(files)
    cached, size = read_rate(files)
    print(f'{size:.2f} GB in {len(files)} files; the disk gives {disk:.2f} GB/s, the page cache {cached:.2f} GB/s '
          'to one thread', flush=True)
    record = {}
    for _ in range(given.runs):
        start(given.lockstep, str(folder), record)
    for name, times in record.items():
        rate = f', {size / statistics.median(times):.2f} GB/s' if name == 'weights' else ''
        print(f'{name:28} {statistics.median(times):7.2f} s  ({min(times):.2f} to {max(times):.2f}{rate})')
    print(f"{'all':28} {statistics.median(map(sum, zip(*record.values()))):7.2f} s", flush=True)
    done = subprocess.run([sys.executable, '-c', TRANSFORMERS.format(folder=str(folder))], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr[-2000:])
    imports, load, first = map(float, done.stdout.split()[-3:])
    print(f'transformers: imports {imports:.2f} s, weights {load:.2f} s, first token {first:.2f} s, '
          f'all {imports + load + first:.2f} s')


if __name__ == '__main__':
    main()
