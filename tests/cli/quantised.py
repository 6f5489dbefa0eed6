#!/usr/bin/env python3
"""The storyteller in fp32, bf16, FP8 and int4: how well each foretells a text, and what it takes.

  python3 tests/cli/quantised.py BINARY SOURCE_DIR [--table]

Quantises the storyteller with tools/quantise.py, runs `lockstep perplexity` and `lockstep inspect` on every form, and
holds the outcome to an order and to bounds on the beginnings of two texts: tales that it was trained on, where
rounding shows, and tales that it never read. --table prints the table of docs/quantised.md, of both texts in whole:
minutes. Standard library only.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

TABLE_WINDOWS = ['--window', '1024', '--stride', '512']
SHORT_WINDOWS = ['--window', '128', '--stride', '64', '--tokens', '1500', '--max-num-seqs', '16', '--graph-sizes', '16',
                 '--threads', '1']
KNOWN_TABLE_TOKENS = 20000
BF16, ROUNDED = ['--dtype', 'bfloat16'], ['fp8', 'awq', 'gptq']
FORMS = {'fp32': ['--dtype', 'float32'], 'bf16': BF16, 'fp8': BF16, 'awq': BF16, 'gptq': BF16}
STORED = {'bf16': ('bf16', 16), 'fp8': ('fp8 in blocks of 128 x 128', 8), 'awq': ('awq int4 in groups of 128', 4),
          'gptq': ('gptq int4 in groups of 128', 4)}  # and bits of a weight
NAMES = {'fp32': 'as it is, products in fp32', 'bf16': 'as it is, products in bf16', 'fp8': 'FP8, blocks of 128 x 128',
         'awq': 'AWQ int4, groups of 128', 'gptq': 'GPTQ int4, groups of 128'}


class Run:
    def __init__(self, binary, source, root):
        self.binary, self.source, self.root = binary, source, root
        self.folders = {form: root / form if form in ROUNDED else source / 'models' / 'storyteller' for form in FORMS}
        makers = [subprocess.Popen([sys.executable, source / 'tools' / 'quantise.py', self.folders['bf16'],
                                    self.folders[form], '--form', form], stderr=subprocess.DEVNULL) for form in ROUNDED]
        self.texts = {name: self.tales(name, flags) for name, flags in {'known': [], 'new': ['--held-out']}.items()}
        assert [maker.wait() for maker in makers] == [0, 0, 0]

    def tales(self, name, flags):
        path = self.root / f'{name}.txt'
        with path.open('wb') as file:
            subprocess.run([sys.executable, self.source / 'tools' / 'tales.py', *flags], stdout=file, check=True)
        return path

    def lockstep(self, *words):
        done = subprocess.run([self.binary, *map(str, words), '--json'], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def nats(self, form, text, windows):
        found = self.lockstep('perplexity', '--model', self.folders[form], '--file', self.texts[text], *FORMS[form],
                              *windows)
        assert found['scored'] == found['tokens'] - 1
        return found['nats_per_token']

    def stored(self, form):
        return self.lockstep('inspect', '--model', self.folders[form], *FORMS[form])['stored']


def table(run):
    print('| storyteller | matrices on disk | nats per token, tales it never read | nats per token, tales it knows |')
    print('|---|---|---|---|')
    for form in FORMS:
        disk = sum(part['bytes'] for part in run.stored(form)) / 1e6
        new = run.nats(form, 'new', TABLE_WINDOWS)
        known = run.nats(form, 'known', [*TABLE_WINDOWS, '--tokens', KNOWN_TABLE_TOKENS])
        print(f'| {NAMES[form]} | {disk:.2f} MB | {new:.4f} | {known:.4f} |', flush=True)


def check(run):
    known = {form: run.nats(form, 'known', SHORT_WINDOWS) for form in FORMS}
    print({form: round(value, 5) for form, value in known.items()})
    for worse, better, least, most in (('bf16', 'fp32', -0.002, 0.002), ('fp8', 'bf16', 0, 0.02),
                                       ('awq', 'fp8', 0, 0.1), ('gptq', 'fp8', 0, 0.1)):
        lost = known[worse] - known[better]
        assert least <= lost <= most, f'{worse} loses {lost} nats to {better}; expected {least} to {most}'
    new = {form: run.nats(form, 'new', SHORT_WINDOWS) for form in ('fp32', 'gptq')}
    print({form: round(value, 5) for form, value in new.items()})
    assert abs(new['gptq'] - new['fp32']) < 0.1, new
    for form, (expected, width) in STORED.items():
        parts = {part['part']: part for part in run.stored(form)}
        assert parts['experts']['form'] == expected, parts
        assert parts['router']['form'] == 'bf16', parts
        bits = 8 * parts['experts']['bytes'] / (8 * 3 * 8 * 64 * 256)
        assert width <= bits < width * 1.2, (form, bits)  # scales and groups beside the codes


def main(arguments):
    if len(arguments) < 2:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as root:
        run = Run(arguments[0], pathlib.Path(arguments[1]), pathlib.Path(root))
        if '--table' in arguments:
            table(run)
        else:
            check(run)
            print('1 passed, 0 failed, 0 skipped')


if __name__ == '__main__':
    main(sys.argv[1:])
