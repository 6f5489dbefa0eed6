#!/usr/bin/env python3
"""Disagreement drills: one rank of a job does another thing than the rest, and the job must end by itself within
5 s, with the exit code of ranks that disagree and the same words from every rank, and leave nothing behind.
Prints a table.

Usage: disagreements.py DISAGREE_RANKS MODEL [--all] [--only NAME] [--words] [--gpus]

MODEL is the folder of a checkpoint with experts. Without --all a few drills run, one of each kind. With --gpus
there are two ranks, each on a GPU of its own.
"""
import argparse
import pathlib
import re
import subprocess
import sys
import tempfile
import time

from drills import Run, last_words

RANKS = 4
LIMIT = 5  # s from the wrong act until nothing of the job is left
SOME = ('nothing wrong', 'own row count', 'other order', 'missing step')
SAYS = re.compile(r'drill: rank (\d+) says:')


def words_of(run):
    """What each rank ended with: {rank: lines}. Who was told by a rank says so in front."""
    words, rank = {}, None
    for _, line in run.lines:
        if match := SAYS.match(line):
            rank = int(match[1])
            words[rank] = []
        elif rank is not None and line.startswith('drill: ') and ' phase ' not in line:
            words[rank].append(re.sub(r'^rank \d+: ', '', line[len('drill: '):]))
    return words


def run_drill(command, folder, ranks):
    run = Run(command, folder)
    end = time.monotonic() + 60
    while len(run.pids) < ranks and run.process.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    run.folders = [p.name for p in folder.iterdir()]  # named alike in shared memory
    if not run.ends(60):
        run.give_up()
        run.ends(10)
    return run, time.monotonic()


def complaints(run, expected_code, took, ranks):
    words = words_of(run)
    if (code := run.process.returncode) != expected_code:
        yield f'exit code {code}, expected {expected_code}'
    if took is not None and took > LIMIT:
        yield f'ended after {took:.1f} s'
    tables = {tuple(lines) for lines in words.values()}
    if expected_code and (set(words) != set(range(ranks)) or len(tables) != 1):
        yield f'words from ranks {sorted(words)}, {len(tables)} different; expected the same from all'
    if expected_code and not any('G1' in line for lines in tables for line in lines):
        yield 'nobody says G1'
    reports = last_words(run, 0)
    shows = [lines for lines in words.values() if any('differs' in line for line in lines)] or list(reports.values())
    if expected_code and len(shows) != ranks:
        yield f'{len(shows)} tables, expected one of each rank'
    if len({tuple(lines) for lines in shows}) > 1:
        yield 'ranks show different tables'
    end = time.monotonic() + 5
    while run.left_behind() and time.monotonic() < end:
        time.sleep(0.05)
    if left := run.left_behind():
        yield 'left behind: ' + ', '.join(left)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('program')
    parser.add_argument('model')
    parser.add_argument('--all', action='store_true')
    parser.add_argument('--only', default='')
    parser.add_argument('--words', action='store_true', help='print what the ranks said')
    parser.add_argument('--gpus', action='store_true')
    args = parser.parse_args()
    ranks, more = (2, ['--gpus']) if args.gpus else (RANKS, [])
    listed = subprocess.run([args.program, args.model, '--list'], capture_output=True, text=True, check=True).stdout
    layout = '{:20} {:6} {:>4} {:>8} {:>8} {:>5}  {}'
    print(layout.format('drill', 'fault', 'rank', 'named s', 'ended s', 'code', 'outcome'), flush=True)
    passed = failed = 0
    for name, fault, rank in (line.split('\t') for line in listed.splitlines()):
        if args.only not in name or not (args.all or args.only or name in SOME):
            continue
        wrong_rank = min(int(rank), ranks - 1)
        with tempfile.TemporaryDirectory(prefix='drill-') as folder:
            run, ended = run_drill([args.program, args.model, '--drill', name, *more], pathlib.Path(folder), ranks)
            since = run.first(' phase wrong', 0)
            named = run.first('G1', 0)
            took = None if since is None else ended - since
            wrong = list(complaints(run, 71 if wrong_rank >= 0 else 0, took, ranks))
            if wrong_rank >= 0 and since is None:
                wrong.append('no rank went wrong')
        seconds = ['-' if at is None or since is None else f'{at - since:.1f}' for at in (named, ended)]
        shown_rank = wrong_rank if wrong_rank >= 0 else '-'
        print(layout.format(name, fault or '-', shown_rank, *seconds, run.process.returncode,
                            'ok' if not wrong else '; '.join(wrong)), flush=True)
        if wrong or args.words:
            print(*(f'    {line}' for _, line in run.lines), sep='\n')
        passed, failed = passed + (not wrong), failed + bool(wrong)
    print(f'{passed} passed, {failed} failed, 0 skipped')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
