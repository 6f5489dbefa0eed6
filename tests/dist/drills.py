#!/usr/bin/env python3
"""Death drills: a job of ranks loses one of them, in every phase, and must end by itself, with the right exit
code and the same words from every rank, and leave nothing behind. Prints a table.

Usage: drills.py PROGRAM [--all] [--ranks N] [--load N] [--command 'ARGUMENTS...']

PROGRAM is drill_ranks, or with --command anything that starts ranks and says where they are on stderr in
lines "drill: rank R pid P phase PHASE"; the arguments may use {tp} and {phase}. Without --all a few drills
run: the shortest that touch every mechanism. --load runs N busy processes beside, and all ranks nice.
"""
import argparse
import collections
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time

PHASES = ('prefill', 'decode', 'replay')
LINE = re.compile(r'drill: rank (\d+) pid (\d+) phase (\w+)')
Limits = collections.namedtuple('Limits', 'notice end')  # s until a loss is named, and nothing of the job is left
Drill = collections.namedtuple('Drill', 'name arguments act rank code says')


class Run:
    """One job, whose stderr a thread reads with the time of each line."""

    def __init__(self, command, folder, where=None):
        self.folder, self.folders, self.lines, self.pids, self.phases = folder, [], [], {}, {}
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, cwd=where,
                                        env={**os.environ, 'TMPDIR': str(folder)})
        self.out = []
        self.readers = [threading.Thread(target=self.read_err), threading.Thread(target=self.read_out)]
        for reader in self.readers:
            reader.start()

    def read_err(self):
        for line in self.process.stderr:
            self.lines.append((time.monotonic(), line.rstrip('\n')))
            if match := LINE.search(line):
                rank, pid, phase = int(match[1]), int(match[2]), match[3]
                self.pids[rank], self.phases[rank] = pid, phase

    def read_out(self):
        self.out.append(self.process.stdout.read())

    def reaches(self, ranks, phase, seconds=120):
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            if len(self.pids) == ranks and all(p == phase for p in self.phases.values()):
                return True
            time.sleep(0.01)
        return False

    def first(self, text, since):
        return next((at for at, line in list(self.lines) if text in line and at >= since), None)

    def ends(self, seconds):
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        for reader in self.readers:
            reader.join(10)
        return True

    def give_up(self):
        for pid in [*self.pids.values(), self.process.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def left_behind(self):
        """Processes of the job that still run, and what it made outside of its own memory."""
        alive = [f'rank {r}' for r, pid in self.pids.items() if is_alive(pid)]
        files = [p.name for p in self.folder.iterdir()]
        return alive + files + [f'shared memory {n}' for n in self.folders if pathlib.Path('/dev/shm', n).exists()]


def is_alive(pid):
    try:
        state = pathlib.Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in 'ZX'


def last_words(run, since):
    """What each rank reported, as far as it is said by rank: {rank: report}."""
    reports, rank = {}, None
    for at, line in run.lines:
        if at < since:
            continue
        if match := re.match(r'lockstep: rank (\d+) reports:', line):
            rank = int(match[1])
            reports[rank] = []
        elif line.startswith(('lockstep:', 'drill:')):
            rank = None
        elif rank is not None and line.startswith(('step', 'rank', 'in ')):  # not what mpirun says in between
            reports[rank].append(line)
    return reports


def hold(drill, command, ranks, phase, limits):
    """Runs one drill. Returns a row of the table, and what is wrong with it."""
    with tempfile.TemporaryDirectory(prefix='drill-') as folder:
        run = Run(command, pathlib.Path(folder))
        wrong = []
        if not run.reaches(ranks, phase):
            wrong.append(f'ranks did not reach {phase}')
        run.folders = [p.name for p in pathlib.Path(folder).iterdir()]  # named alike in shared memory
        if drill.act and not any(any(pathlib.Path('/dev/shm', n).glob('*')) for n in run.folders):
            wrong.append('MPI keeps its shared memory elsewhere')
        if drill.act:
            time.sleep(0.3)  # well inside the phase, which lasts for minutes
        since = time.monotonic()
        if drill.act and not wrong:
            os.kill(run.process.pid if drill.rank is None else run.pids[drill.rank], drill.act)
        ended = run.ends(1 if wrong else limits.end if drill.code else 90)
        took = time.monotonic() - since
        if not ended:
            wrong.append(f'still runs after {limits.end:.0f} s')
            run.give_up()
            run.ends(10)
        named = run.first(drill.says, since) if drill.says else None
        if drill.says and named is None:
            wrong.append(f'nobody says "{drill.says}"')
        if drill.says and named is not None and named - since > limits.notice:
            wrong.append(f'named after {named - since:.1f} s')
        if drill.name.endswith(': spin') and run.first('drill: last words', since) is None:
            wrong.append('the stuck rank says no last words')
        code = run.process.returncode
        if code != drill.code:
            wrong.append(f'exit code {code}, expected {drill.code}')
        end = time.monotonic() + 5
        while run.left_behind() and time.monotonic() < end:
            time.sleep(0.05)
        if left := run.left_behind():
            wrong.append('left behind: ' + ', '.join(left))
        reports = last_words(run, since)
        if drill.code == 72 and drill.act is not None and drill.rank is not None:
            living = set(range(ranks)) - {drill.rank}
            texts = {tuple(lines) for lines in reports.values()}
            if set(reports) != living or len(texts) != 1:
                wrong.append(f'reports from {sorted(reports)}, {len(texts)} different; expected one by {sorted(living)}')
        row = (drill.name, phase, '-' if named is None else f'{named - since:.1f}', f'{took:.1f}', str(code),
               str(len(reports)), 'ok' if not wrong else '; '.join(wrong))
        return row, wrong, run


def drills(ranks, everything):
    every = range(ranks) if everything else (ranks - 1,)
    phases = PHASES if everything else ('replay',)
    for phase in phases:
        for rank in every:
            silent = f'rank {rank} '
            yield Drill(f'kill rank {rank}', [], signal.SIGKILL, rank, 72, silent), phase
            yield Drill(f'stop rank {rank}', [], signal.SIGSTOP, rank, 72, silent), phase
    for phase in phases:
        for does, code, says in (('spin', 72, 'outside of every collective'), ('sleep', 72, 'outside of every collective'),
                                 ('disagree', 71, 'G1'), ('fail', 1, 'this rank fails'), ('fault', 73, 'R2')):
            if everything or does in ('spin', 'disagree'):
                arguments = ['--rank', str(ranks - 1), '--does', does]
                yield Drill(f'rank {ranks - 1}: {does}', arguments, None, None, code, says), phase
    yield Drill('interrupt the front', [], signal.SIGINT, None, 130, ''), 'decode'
    yield Drill('end the front', [], signal.SIGTERM, None, 143, ''), 'decode'
    yield Drill('kill the front', [], signal.SIGKILL, None, -signal.SIGKILL, ''), 'decode'
    yield Drill('compute for 7 s', ['--rank', '0', '--does', 'compute', '--seconds', '7'], None, None, 0, ''), 'decode'


def busy(count):
    return [subprocess.Popen([sys.executable, '-c', 'while True: pass']) for _ in range(count)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('program')
    parser.add_argument('--all', action='store_true')
    parser.add_argument('--ranks', type=int, default=4)
    parser.add_argument('--load', type=int, default=0)
    parser.add_argument('--command', default='--tp {tp} --dp {dp} --hold {phase} --seconds 120')
    parser.add_argument('--only', default='')
    parser.add_argument('--words', action='store_true', help='print what the ranks said')
    args = parser.parse_args()
    others = busy(args.load)
    # Ranks that hardly run notice late; what counts under load is that no rank is taken for dead.
    limits = Limits(60, 90) if args.load else Limits(10, 20)
    passed = failed = 0
    layout = '{:22} {:8} {:>8} {:>8} {:>5} {:>8}  {}'
    print(layout.format('drill', 'phase', 'named s', 'ended s', 'code', 'reports', 'outcome'), flush=True)
    try:
        for drill, phase in drills(args.ranks, args.all):
            if args.only not in drill.name:
                continue
            words = args.command.format(tp=args.ranks // 2, dp=2, phase=phase)
            command = (['nice'] if args.load else []) + [args.program, *shlex.split(words), *drill.arguments]
            row, wrong, run = hold(drill, command, args.ranks, phase, limits)
            print(layout.format(*row), flush=True)
            if wrong or args.words:
                print(*(f'    {line}' for _, line in run.lines), sep='\n')
            passed, failed = passed + (not wrong), failed + bool(wrong)
    finally:
        for other in others:
            other.kill()
    print(f'{passed} passed, {failed} failed, 0 skipped')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
