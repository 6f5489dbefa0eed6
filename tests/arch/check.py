#!/usr/bin/env python3
"""The rules of the house that a machine can see. Prints `file:line: rule: sentence` for each breach. Usage: check.py ROOT
"""
import ast
import os
import pathlib
import re
import sys

from cpp_scan import Scan, without_comments

FOLDERS = ('src', 'tests', 'include', 'bench', 'examples', 'tools', 'docs', 'cmake', 'web')
SEES_STEP_PLAN = {'plan', 'contract', 'schedule', 'runtime', 'guard', 'engine', 'explain', 'doctor'}
DOORS = {'cli', 'serve', 'python'}  # they hold an engine, whose headers know the plan
GALLERIES = ('faults/entry.h', 'faults/twins.h', 'conformance/conformance.h')  # of tests/: what the doctor runs
REGISTRIES = ('src/device/registry.cc', 'src/kernels/table.cc', 'src/comm/registry.cc')
DEVICE = re.compile(r'CUDA|HIP|ROCM|SYCL|METAL|ASCEND|__AVX|__SSE|__FMA__|__F16C__|__ARM_|__aarch64__')
FILE_LINES, FUNCTION_LINES, KERNEL_LINES, BUDGETS = 400, 60, 120, 10
UNFINISHED = re.compile(r'\b(' + 'TO' 'DO|FIX' 'ME|X' r'XX)\b')


class House:
    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.complaints, self.budgets, self.reaches_plan = [], [], {}
        paths = [p for f in FOLDERS for p in sorted((self.root / f).rglob('*')) if p.is_file()]
        paths += [p for p in sorted(self.root.glob('*')) if p.suffix in ('.md', '.txt') or p.name == 'dev']
        self.texts = {p.relative_to(self.root).as_posix(): p.read_text() for p in paths
                      if p.suffix in ('.h', '.cc', '.cu', '.cuh', '.py', '.cmake', '.md', '.sh') or
                      p.name in ('CMakeLists.txt', 'dev')}
        self.cpp = {n: t for n, t in self.texts.items() if n.endswith(('.h', '.cc', '.cu', '.cuh'))}
        self.layers = self._table()  # name -> (line, layers that it may include, more layers for its tests)

    def say(self, name, line, rule, sentence):
        self.complaints.append(f'{name}:{line}: {rule}: {sentence}')

    def _table(self):
        text, layers = self.texts['src/CMakeLists.txt'], {}
        for match in re.finditer(r'^ *lockstep_layer\((\w+)([^)]*)\)', text, re.M):
            lists = {'DEPENDS': set(), 'PACKAGES': set(), 'TEST_DEPENDS': set()}
            for word in match.group(2).split():
                current = lists[word] if word in lists else current
                current.add(word.removeprefix('lockstep_'))
            layers[match.group(1)] = (text.count('\n', 0, match.start()) + 1,
                                      lists['DEPENDS'] - {'DEPENDS'}, lists['TEST_DEPENDS'] - {'TEST_DEPENDS'})
        return layers

    def table(self):
        above = set()
        for layer, (line, depends, _) in self.layers.items():
            for other in sorted(depends - above):
                self.say('src/CMakeLists.txt', line, 'table', f'{layer} names {other}, which stands on no line above')
            above.add(layer)
        for folder in sorted({n.split('/')[1] for n in self.cpp if n.startswith('src/')} - above):
            self.say('src/CMakeLists.txt', 1, 'table', f'the folder {folder} has no line')

    def includes(self):
        for name, text in self.cpp.items():
            layer = name.split('/')[1]
            if not name.startswith('src/') or layer not in self.layers:
                continue
            _, depends, for_tests = self.layers[layer]
            allowed = {layer} | depends | (for_tests if name.endswith(('_test.cc', '_bench.cc')) else set())
            for match in re.finditer(r'^\s*#\s*include\s+"([^"]+)"', text, re.M):
                line, target = text.count('\n', 0, match.start(1)) + 1, match.group(1)
                other = target.split('/')[0]
                if layer == 'doctor' and target in GALLERIES and (self.root / 'tests' / target).exists():
                    continue
                if not (self.root / 'src' / target).exists():
                    self.say(name, line, 'include', f'"{target}" is not a path from src/')
                elif other not in allowed:
                    self.say(name, line, 'layer', f'{layer} may not include {other}; see its line in src/CMakeLists.txt')
                elif layer not in SEES_STEP_PLAN | DOORS and self._reaches_plan(target):
                    self.say(name, line, 'step_plan', f'{layer} sees plan/fields.h and the Binder, not the plan')

    def _reaches_plan(self, target):
        if target not in self.reaches_plan:
            self.reaches_plan[target] = target == 'plan/step_plan.h'  # set first: an include cycle ends here
            within = re.findall(r'^\s*#\s*include\s+"([^"]+)"', self.cpp.get('src/' + target, ''), re.M)
            self.reaches_plan[target] |= any([self._reaches_plan(other) for other in within])
        return self.reaches_plan[target]

    def devices(self):
        for name, text in self.cpp.items():
            for number, line in enumerate(without_comments(text).split('\n'), 1):
                if re.match(r'\s*#\s*(if|ifdef|ifndef|elif)\b', line) and DEVICE.search(line) and name not in REGISTRIES:
                    self.say(name, number, 'device', 'a device conditional; the build selects files instead')
                if '<<<' in line and name != 'src/device/launch.cuh':
                    self.say(name, number, 'launch', 'only device/launch.cuh launches kernels')

    def lengths(self):
        for name, text in self.texts.items():
            lines = text.split('\n')
            if name.endswith('.md') or name.startswith('tests/fuzz/'):
                continue
            self.budgets += [(name, n) for n, line in enumerate(lines, 1) if re.match(r'\s*(//|#) budget: \w', line)]
            if len(lines) - 1 > FILE_LINES and not any(n <= 5 for f, n in self.budgets if f == name):
                self.say(name, 1, 'length', f'{len(lines) - 1} lines; a file has at most {FILE_LINES}')
            limit = KERNEL_LINES if name.startswith('src/kernels/') else FUNCTION_LINES
            for first, last in self._functions(name, text):
                above = first - 1
                while above and re.match(r'\s*(//|#)', lines[above - 1]):
                    above -= 1
                if last - first + 1 > limit and not any(above < n < first for f, n in self.budgets if f == name):
                    self.say(name, first, 'length', f'a function of {last - first + 1} lines; at most {limit}')
        for name, line in self.budgets[BUDGETS:]:
            self.say(name, line, 'length', f'the code base has more than {BUDGETS} budget marks')

    def _functions(self, name, text):
        if name in self.cpp:
            return [(f.first, f.last) for f in Scan(text).functions]
        if not name.endswith('.py'):
            return []
        return [(n.lineno, n.end_lineno) for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef)]

    def globals(self):
        for name, text in self.cpp.items():
            scan = Scan(text)
            for line, scope, statement in scan.statements:
                if scope == 'type' and not re.match(r'(\w+\s*:\s*)?(inline )?static ', statement):
                    continue
                statement = statement.removeprefix('__extension__ ')
                head = re.split(r'[={]', re.sub(r'<[^<>]*(<[^<>]*>)?[^<>]*>', '', statement))[0].strip()
                if re.match(r'(using|typedef|namespace|friend|template|static_assert|enum|(extern )?(class|struct|union))\b', head):
                    continue
                constant = 'constexpr' in head or re.search(r'\bconst\b[^*]*$', head)
                if '(' not in head and not constant and re.fullmatch(r'[\w:,&*\s\[\]]+\s[&*]*\w+[\[\]\w\s]*', head):
                    self.say(name, line, 'global', f'`{head}` is mutable; pass it to those who need it')
            for function in scan.functions:
                for match in re.finditer(r'\b(static|thread_local)\s+(?!const\b|constexpr\b)\w', function.body):
                    line = function.body_line + function.body.count('\n', 0, match.start())
                    self.say(name, line, 'global', 'a static inside a function is a global in disguise')

    def words(self):
        for name, text in self.texts.items():
            for number, line in enumerate(text.split('\n'), 1):
                if UNFINISHED.search(line):
                    self.say(name, number, 'unfinished', 'finish it, or open an issue and take the note out')

    def links(self):
        for name, text in self.texts.items():
            if not name.endswith('.md'):
                continue
            for number, line in enumerate(text.split('\n'), 1):
                found = [t.split('#')[0] for t in re.findall(r'\]\(([^)\s]+)\)', line) if '://' not in t]
                places = [(self.root / name).parent / t for t in found if t]
                found = re.findall(r'`((?:src|tests|docs|tools|cmake|models|data)/[\w./-]*\w)', line)
                for place in places + [self.root / t for t in found]:
                    if not place.exists():
                        self.say(name, number, 'link', f'{os.path.relpath(place, self.root)} does not exist')


RULES = [House.table, House.includes, House.devices, House.lengths, House.globals, House.words, House.links]


def main(root):
    house, failed = House(root), 0
    for rule in RULES:
        before = len(house.complaints)
        rule(house)
        failed += len(house.complaints) > before
    print(*house.complaints, sep='\n', end='\n' if house.complaints else '')
    print(f'{len(RULES) - failed} passed, {failed} failed, 0 skipped')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1]))
