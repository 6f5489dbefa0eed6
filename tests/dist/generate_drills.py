#!/usr/bin/env python3
"""Death drills of `lockstep generate` itself: each of its ranks, its front and its launcher is killed and stopped,
in prefill, decode and replay. The job must end by itself, with the right exit code and one sentence that names
who was lost, the same report from every living rank, and leave nothing behind. Prints a table.

Usage: generate_drills.py LOCKSTEP [--all] [--jobs N] [--only TEXT] [--words] [--gpus N]

The program is not told that it is drilled. /proc says which process is which rank, as the launcher tells each in
its environment; stdout says how far the job is: with --echo the prompt comes when prefill begins, and more than
the prompt with the first token. What phases the ranks report afterwards has to fit.
"""
import argparse
import collections
import concurrent.futures
import os
import pathlib
import re
import signal
import sys
import tempfile
import time

from drills import Run, is_alive, last_words

LAYOUTS = {'tp 2': ['--tp', '2'], 'dp 2 ep': ['--dp', '2', '--ep'], 'cp 2': ['--cp', '2'],
           'tp 2 dp 2': ['--tp', '2', '--dp', '2']}
RANKS = {'tp 2': 2, 'dp 2 ep': 2, 'cp 2': 2, 'tp 2 dp 2': 4}
PHASES = ('prefill', 'decode', 'replay')
PROMPT = 'Once upon a time there was a king who had three daughters. '
# The reference kernels make every phase last for half a minute and more.
SLOW = ['--isa', 'reference', '--threads', '1', '--temperature', '0', '--ignore-eos', '--echo', '--max-tokens', '2000']
# A GPU takes small steps: two rows of a longer prompt at a time (one would be a decode step), and as many
# tokens as there is room for.
ON_GPUS = ['--device', 'cuda', '--temperature', '0', '--ignore-eos', '--echo', '--max-tokens', '4000']
NOTICE, END = 10, 20  # s until a loss is named, and until nothing of the job is left
REPORTED = re.compile(r'^rank \d+(?: \([^)]*\))? +\S+(?: s ago)? +(\w+)')
Drill = collections.namedtuple('Drill', 'layout phase victim act')
Seen = collections.namedtuple('Seen', 'named ended code reports phases sentence outcome')


def command(lockstep, drill, gpus):
    """The arguments that make a job stay in the phase, and the prompts it echoes."""
    times, chunk = (250, '2') if gpus else (150, '4')
    prompts = [PROMPT * (times if drill.phase == 'prefill' else 1)] * (2 if 'dp' in drill.layout else 1)
    words = [lockstep, 'generate', *LAYOUTS[drill.layout], *(ON_GPUS if gpus else SLOW)]
    words += {'prefill': ['--enforce-eager', '--chunk-size', chunk], 'decode': ['--enforce-eager'],
              'replay': ['--graph-sizes', '1']}[drill.phase]
    for prompt in prompts:
        words += ['--prompt', prompt]
    return words, prompts[0]


class Job(Run):
    """A job of lockstep's whose processes are found and whose stdout is read as it comes."""

    def __init__(self, words, folder, where):
        self.shown, self.processes = '', {}
        super().__init__(words, folder, where)

    def read_out(self):
        while text := os.read(self.process.stdout.fileno(), 65536):
            self.shown += text.decode(errors='replace')

    def find(self):
        """{name: (pid, start)} of the job's processes, as far as they have begun."""
        parents = {}
        for entry in pathlib.Path('/proc').iterdir():
            if entry.name.isdigit() and (facts := stat(int(entry.name))):
                parents.setdefault(facts[0], []).append((int(entry.name), facts[1]))
        self.processes = {'front': (self.process.pid, (stat(self.process.pid) or (0, 0))[1])}
        for child in parents.get(self.process.pid, []):
            below = parents.get(child[0], [])
            self.processes['launcher' if below or name_of(child[0]) == 'mpirun' else 'janitor'] = child
            for rank in below:
                number = variable(rank[0], 'OMPI_COMM_WORLD_RANK')
                if number is not None:
                    self.processes[f'rank {number}'] = rank
        return self.processes

    def is_in(self, drill, prompt, seconds=120):
        """Waits until the job is well inside the phase."""
        wanted = len(prompt) + (0 if drill.phase == 'prefill' else 60)  # other replicas may be behind
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            if len(self.shown) >= wanted and len(self.find()) == RANKS[drill.layout] + 3:
                time.sleep(0.3)
                return True
            time.sleep(0.05)
        return False

    def left_behind(self):
        alive = [f'{name} ({pid})' for name, (pid, start) in self.processes.items()
                 if is_alive(pid) and (stat(pid) or (0, 0))[1] == start]
        files = [p.name for p in self.folder.iterdir()]
        return alive + files + [f'shared memory {n}' for n in self.folders if pathlib.Path('/dev/shm', n).exists()]

    def give_up(self):
        for pid, start in self.processes.values():
            if (stat(pid) or (0, 0))[1] == start:
                os.kill(pid, signal.SIGKILL)
        super().give_up()


def stat(pid):
    """Parent and start of a process; None when there is none."""
    try:
        words = pathlib.Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(words[1]), int(words[19])


def name_of(pid):
    try:
        return pathlib.Path(f'/proc/{pid}/comm').read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ''


def variable(pid, name):
    try:
        words = pathlib.Path(f'/proc/{pid}/environ').read_bytes().split(b'\0')
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    return next((w.decode().partition('=')[2] for w in words if w.startswith(name.encode() + b'=')), None)


def expected(drill):
    """Exit code, and what the sentence must say; None for an end that needs no words."""
    if drill.victim == 'front':
        return (-signal.SIGKILL, 'the front has gone') if drill.act == 'kill' else (130, None)
    return 72, 'the launcher' if drill.victim == 'launcher' else drill.victim


def strike(drill, job):
    """Does to the victim what the drill says; what is wrong then."""
    pid = job.processes[drill.victim][0]
    os.kill(pid, signal.SIGKILL if drill.act == 'kill' else signal.SIGSTOP)
    if drill.victim != 'front' or drill.act == 'kill':
        return []
    # A front that is stopped, as by Ctrl-Z, is no lost one: its ranks go on, and it is itself when it wakes.
    time.sleep(6)
    shown = len(job.shown)
    os.kill(pid, signal.SIGCONT)
    time.sleep(1)
    goes_on = job.process.poll() is None and (len(job.shown) > shown or drill.phase == 'prefill')
    wrong = [] if goes_on else ['does not go on after SIGCONT']
    os.kill(pid, signal.SIGINT)
    return wrong


def judge(drill, job, since, wrong):
    code, says = expected(drill)
    named = job.first(says, since) if says else None
    if says and named is None:
        wrong.append(f'nobody says "{says}"')
    elif says and named - since > NOTICE:
        wrong.append(f'named after {named - since:.1f} s')
    if job.process.returncode != code:
        wrong.append(f'exit code {job.process.returncode}, expected {code}')
    reports = last_words(job, since)
    phases = {m[1] for lines in reports.values() for m in map(REPORTED.match, lines) if m}
    if drill.victim.startswith('rank'):
        living = {r for r in range(RANKS[drill.layout]) if f'rank {r}' != drill.victim}
        texts = {tuple(lines) for lines in reports.values()}
        if set(reports) != living or len(texts) != 1:
            wrong.append(f'reports from {sorted(reports)}, {len(texts)} different; expected one by {sorted(living)}')
        if not phases <= {drill.phase, 'idle'}:
            wrong.append(f'ranks were in {sorted(phases)}')
    if ended := [line for _, line in job.lines if 'does not come back' in line]:
        wrong.append(ended[0].removeprefix('lockstep: ').partition(' and is ended')[0])
    sentence = next((line for at, line in job.lines if says and says in line and at >= since), '')
    return named, len(reports), phases, sentence


def hold(lockstep, drill, gpus):
    with tempfile.TemporaryDirectory(prefix='drill-') as name:
        temporary, work = pathlib.Path(name, 'temporary'), pathlib.Path(name, 'work')
        temporary.mkdir()
        work.mkdir()
        words, prompt = command(lockstep, drill, gpus)
        job = Job(words, temporary, work)
        wrong, reached = [], job.is_in(drill, prompt)
        since = time.monotonic()
        job.folders = [p.name for p in temporary.iterdir()]  # named alike in shared memory
        if reached and not any(any(pathlib.Path('/dev/shm', n).glob('*')) for n in job.folders):
            wrong.append('MPI keeps its shared memory elsewhere')
        if reached:
            wrong += strike(drill, job)
        else:
            wrong.append(f'did not reach {drill.phase}')
        if not job.ends(END if reached else 1):
            wrong.append(f'still runs after {END} s')
            job.give_up()
            job.ends(10)
        ended = time.monotonic() - since
        named, reports, phases, sentence = judge(drill, job, since, wrong)
        end = time.monotonic() + 5
        while job.left_behind() and time.monotonic() < end:
            time.sleep(0.05)
        if left := job.left_behind():
            wrong.append('left behind: ' + ', '.join(left))
        if odd := [p.name for p in work.iterdir() if p.suffix != '.record']:
            wrong.append('left behind: ' + ', '.join(odd))
        return Seen('-' if named is None else f'{named - since:.1f}', f'{ended:.1f}', job.process.returncode, reports,
                    '/'.join(sorted(phases)), sentence, '; '.join(wrong) or 'ok'), job


def drills(everything):
    if not everything:
        yield Drill('tp 2', 'replay', 'rank 1', 'kill')
        yield Drill('dp 2 ep', 'prefill', 'rank 0', 'stop')
        yield Drill('tp 2', 'decode', 'front', 'kill')
        yield Drill('tp 2', 'decode', 'launcher', 'kill')
        return
    for layout, ranks in RANKS.items():
        for phase in PHASES:
            for victim in [*(f'rank {r}' for r in range(ranks)), 'front', 'launcher']:
                for act in ('kill', 'stop'):
                    yield Drill(layout, phase, victim, act)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('lockstep')
    parser.add_argument('--all', action='store_true')
    parser.add_argument('--jobs', type=int, default=1, help='drills at a time')
    parser.add_argument('--only', default='')
    parser.add_argument('--gpus', type=int, default=0, help='of this host, for ranks to compute on; 0: on its CPUs')
    parser.add_argument('--words', action='store_true', help='print what the job said')
    args = parser.parse_args()
    args.lockstep = os.path.abspath(args.lockstep)
    chosen = [d for d in drills(args.all) if args.only in ' '.join(d)
              and (args.gpus == 0 or RANKS[d.layout] <= args.gpus and 'cp' not in d.layout)]
    passed = failed = 0
    layout = '{:10} {:8} {:5} {:9} {:>8} {:>8} {:>5} {:>8}  {:13} {}'
    print(layout.format('ranks', 'phase', 'act', 'on', 'named s', 'ended s', 'code', 'reports', 'reported', 'outcome'),
          flush=True)
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for drill, (seen, job) in zip(chosen, pool.map(lambda d: hold(args.lockstep, d, args.gpus), chosen)):
            print(layout.format(drill.layout, drill.phase, drill.act, drill.victim, seen.named, seen.ended, seen.code,
                                seen.reports, seen.phases, seen.outcome), flush=True)
            if seen.outcome != 'ok' or args.words:
                print(*(f'    {line}' for _, line in job.lines), sep='\n')
            passed, failed = passed + (seen.outcome == 'ok'), failed + (seen.outcome != 'ok')
    print(f'{passed} passed, {failed} failed, 0 skipped')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
