#!/usr/bin/env python3
"""Each header of src/ must compile on its own. Usage: headers.py ROOT COMPILER SCRATCH

SCRATCH keeps its name from run to run, so that a compiler cache recognises the sources.
"""
import os
import pathlib
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

# Headers of one instruction set compile too; nothing here is run.
FLAGS = '-std=c++20 -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512bf16'.split()


def complaints(root, compiler, scratch):
    root, scratch = pathlib.Path(root), pathlib.Path(scratch)
    scratch.mkdir(parents=True, exist_ok=True)

    def compile_alone(path):
        name = path.relative_to(root / 'src').as_posix()
        source = scratch / (name.replace('/', '.') + '.cc')
        source.write_text(f'#include "{name}"\n')
        folders = ['-I', root / 'src', '-I', root / 'include']
        done = subprocess.run([*compiler.split(), *FLAGS, *folders, '-c', source, '-o', f'{source}.o'],
                              capture_output=True, text=True)
        error = re.search(r'error: .*', done.stderr)
        return f'src/{name}:1: header: {error.group() if error else done.stderr}' if done.returncode else None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(compile_alone, sorted((root / 'src').rglob('*.h'))))


def main(root, compiler, scratch):
    found = complaints(root, compiler, scratch)
    bad = [complaint for complaint in found if complaint]
    print(*bad, sep='\n', end='\n' if bad else '')
    print(f'{len(found) - len(bad)} passed, {len(bad)} failed, 0 skipped')
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
