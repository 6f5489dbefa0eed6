#!/usr/bin/env python3
"""Several ranks, each a process, tell the stories of one. Usage: generate_ranks.py LOCKSTEP [--gpus]

With --gpus two ranks do so, each on a GPU of its own.
"""
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

PROMPTS = ['Once upon a time', 'The king', 'There was a tailor who']
# Of 5, 5, 8 and 8 tokens for the first replica, 7, 5, 11 and 7 for the second: the second field report's.
FIELD_REPORT_2 = ['Once upon a time there', 'In the wood there lived an old', 'There was a tailor who',
                  'He went into the forest', 'A poor man had two children and no',
                  'A poor man had two children and no bread to eat', 'The wolf came to the door and said',
                  'The wolf came to the door and']
LAYOUTS = [['--tp', '2'], ['--dp', '2'], ['--dp', '2', '--ep'], ['--tp', '2', '--dp', '2', '--ep'], ['--cp', '2'],
           ['--tp', '2', '--cp', '2']]


ON_GPUS = [['--tp', '2'], ['--dp', '2'], ['--dp', '2', '--ep'], ['--tp', '2', '--ep']]


def generate(lockstep, *more, prompts=PROMPTS):
    words = [lockstep, 'generate', '--json', '--temperature', '0', '-n', '12', '--logprobs', '1', *more]
    for prompt in prompts:
        words += ['-p', prompt]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=240)
    if ended.returncode != 0:
        return f'exit code {ended.returncode}: {ended.stderr}'
    results = json.loads(ended.stdout)['results']
    return [(each['text'], each['tokens'], each['finish_reason'], len(each['logprobs'])) for each in results]


def memory(lockstep, *more):
    words = [lockstep, 'inspect', '--json', '--num-pages', '64', *more]
    return json.loads(subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout)


def records(lockstep):
    """Of which ranks records come when the front is asked for them."""
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.Popen([lockstep, 'generate', '--tp', '2', '-p', PROMPTS[0], '-n', '4000', '--ignore-eos',
                                '--record-dir', folder], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        run.stdout.read(40)  # it serves by now
        run.send_signal(signal.SIGUSR1)
        end, found = time.monotonic() + 30, []
        while len(found) < 2 and time.monotonic() < end and run.poll() is None:
            found = sorted(p.name.split('-')[1] for p in pathlib.Path(folder).glob('*.record'))
            time.sleep(0.02)
        run.terminate()
        run.communicate()
        return found


def hung_up(lockstep):
    """The exit code of a run that has been started to outlive its terminal, and loses it."""
    run = subprocess.Popen([lockstep, 'generate', '--tp', '2', '-p', PROMPTS[0], '-n', '60', '--ignore-eos'],
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                           preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    run.stdout.read(40)
    run.send_signal(signal.SIGHUP)
    run.communicate(timeout=60)
    return run.returncode


def refusal(lockstep, *words):
    ended = subprocess.run([lockstep, *words], capture_output=True, text=True, timeout=60)
    return ended.returncode, ended.stderr


def main(lockstep, where=''):
    passed = failed = 0

    def check(name, holds, otherwise):
        nonlocal passed, failed
        passed += 1 if holds else 0
        failed += 0 if holds else 1
        print(f'{"ok    " if holds else "FAILED"} {name}' + ('' if holds else f': {otherwise}'))

    if where == '--gpus':
        device = ('--device', 'cuda', '--dtype', 'float32')
        alone = generate(lockstep, *device)
        check('one GPU', len(alone) == len(PROMPTS) and all(len(tokens) == 12 for _, tokens, _, _ in alone), alone)
        for layout in ON_GPUS:
            ranks = generate(lockstep, *layout, *device)
            check(' '.join(layout), ranks == alone, f'{ranks}; expected {alone}')
        alone = generate(lockstep, *device, prompts=FIELD_REPORT_2)
        for layout in ON_GPUS:
            ranks = generate(lockstep, *layout, *device, prompts=FIELD_REPORT_2)
            check('the second field report, ' + ' '.join(layout), ranks == alone and len(alone) == 8,
                  f'{ranks}; expected {alone}')
        code, said = refusal(lockstep, 'generate', '-p', PROMPTS[0], '--tp', '2', '--device', 'cuda:0')
        check('one GPU for two ranks is refused', code == 1 and 'expected a GPU for each of them' in said, (code, said))
        print(f'{passed} passed, {failed} failed, 0 skipped')
        return 1 if failed else 0
    alone = generate(lockstep)
    check('one rank', len(alone) == len(PROMPTS) and all(len(tokens) == 12 for _, tokens, _, _ in alone), alone)
    for layout in LAYOUTS:
        ranks = generate(lockstep, *layout)
        check(' '.join(layout), ranks == alone, f'{ranks}; expected {alone}')
    # Poison before every launch; rows beyond the last sequence are zero behind it, or this is a fault.
    full = ('--guard', 'full', '--dtype', 'float32')
    four = generate(lockstep, '--tp', '2', '--dp', '2', '--ep', *full, prompts=FIELD_REPORT_2)
    alone = generate(lockstep, *full, prompts=FIELD_REPORT_2)
    check('the second field report, at level full', four == alone and len(alone) == 8, f'{four}; expected {alone}')
    asked = records(lockstep)
    check('SIGUSR1 makes every rank write a record', asked == ['0', '1'], asked)
    code = hung_up(lockstep)
    check('a terminal that goes away ends nobody under nohup', code == 0, code)
    plain, shared = memory(lockstep), memory(lockstep, '--tp', '2', '--dp', '2', '--ep')
    check('inspect --tp 2 --dp 2 --ep', shared['ranks']['world'] == 4 and
          shared['memory']['kv_bytes_per_token'] * 2 == plain['memory']['kv_bytes_per_token'] and
          {'what': 'experts', 'held': 2, 'of': 8} in shared['ranks']['held'], shared['ranks'])
    code, said = refusal(lockstep, 'inspect', '--tp', '4')
    check('inspect --tp 4 is refused', code == 1 and '--tensor-parallel-size is 4' in said, (code, said))
    code, said = refusal(lockstep, 'bench', '--tp', '2')
    check('bench --tp 2 is refused', code == 1 and 'bench: 2 ranks are asked for; expected 1' in said, (code, said))
    print(f'{passed} passed, {failed} failed, 0 skipped')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
