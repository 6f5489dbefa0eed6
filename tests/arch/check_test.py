#!/usr/bin/env python3
"""Feeds each rule of check.py and headers.py a small bad house, and its good twin, so that no rule is blind."""
import pathlib
import sys
import tempfile
import unittest

import check
import headers

TABLE = 'lockstep_layer(base)\nlockstep_layer(plan DEPENDS base)\nlockstep_layer(model DEPENDS base plan)\n'
BASE = {'src/CMakeLists.txt': TABLE, 'src/base/a.h': 'int a();\n', 'src/plan/step_plan.h': 'int p();\n',
        'src/model/m.h': '#include "base/a.h"\n'}


class Rules(unittest.TestCase):
    def complaints(self, files):
        with tempfile.TemporaryDirectory() as root:
            for name, text in (BASE | files).items():
                path = pathlib.Path(root, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            house = check.House(root)
            for rule in check.RULES:
                rule(house)
            return house.complaints

    def refuses(self, files, *expected):
        self.assertEqual([c.rsplit(': ', 1)[0] for c in self.complaints(files)], list(expected))

    def accepts(self, files):
        self.assertEqual(self.complaints(files), [])

    def test_a_complaint_is_one_sentence_with_its_place(self):
        self.assertEqual(self.complaints({'src/base/b.h': '#include <vector>\n#include "plan/step_plan.h"\n'}),
                         ['src/base/b.h:2: layer: base may not include plan; see its line in src/CMakeLists.txt'])

    def test_a_good_house_is_left_alone(self):
        self.accepts({})

    def test_a_layer_includes_only_what_its_line_names(self):
        self.refuses({'src/base/b.cc': '#include "model/m.h"\n'}, 'src/base/b.cc:1: layer')
        self.refuses({'src/base/b.cc': '#include "a.h"\n'}, 'src/base/b.cc:1: include')
        self.refuses({'src/base/b.cc': '#include "../base/a.h"\n'}, 'src/base/b.cc:1: include')
        self.accepts({'src/base/b.cc': '#include "base/a.h"\n', 'tests/x/x_test.cc': '#include "model/m.h"\n'})

    def test_only_tests_use_the_layers_of_test_depends(self):
        table = TABLE.replace('(base)', '(base)\nlockstep_layer(util)').replace(
            'plan DEPENDS base', 'plan DEPENDS base TEST_DEPENDS lockstep_util')
        files = {'src/CMakeLists.txt': table, 'src/util/u.h': 'int u();\n'}
        self.accepts(files | {'src/plan/p_test.cc': '#include "util/u.h"\n'})
        self.refuses(files | {'src/plan/p.cc': '#include "util/u.h"\n'}, 'src/plan/p.cc:1: layer')

    def test_a_line_of_the_table_names_only_lines_above(self):
        self.refuses({'src/CMakeLists.txt': TABLE.replace('(base)', '(base DEPENDS model)')}, 'src/CMakeLists.txt:1: table')
        self.refuses({'src/CMakeLists.txt': TABLE.replace('DEPENDS base)', 'DEPENDS base nobody)')},
                     'src/CMakeLists.txt:2: table')
        self.refuses({'src/loose/l.h': ''}, 'src/CMakeLists.txt:1: table')

    def test_only_seven_layers_see_the_plan(self):
        self.refuses({'src/model/n.cc': '#include "plan/step_plan.h"\n'}, 'src/model/n.cc:1: step_plan')
        self.refuses({'src/model/n_test.cc': '#include "plan/step_plan.h"\n'}, 'src/model/n_test.cc:1: step_plan')
        self.refuses({'src/plan/builder.h': '#include "plan/step_plan.h"\n',
                      'src/model/n.cc': '#include "plan/builder.h"\n'}, 'src/model/n.cc:1: step_plan')

    def test_device_conditionals_stand_in_registries(self):
        self.refuses({'src/base/b.cc': 'int x();\n#ifdef LS_CUDA\n#endif\n'}, 'src/base/b.cc:2: device')
        self.refuses({'src/base/b.cc': '#  if defined(__AVX2__)\n#endif\n'}, 'src/base/b.cc:1: device')
        table = {'src/CMakeLists.txt': TABLE + 'lockstep_layer(kernels)\n', 'src/kernels/table.cc': '#ifdef LS_CUDA\n#endif\n'}
        self.accepts(table | {'src/base/b.cc': '#ifdef NDEBUG\n#endif\n// #ifdef LS_CUDA\n'})

    def test_only_one_file_launches(self):
        self.refuses({'src/base/b.cu': 'void f() {\n  k<<<1, 2>>>();\n}\n'}, 'src/base/b.cu:2: launch')
        self.accepts({'src/base/b.cu': 'const char* const kText = "<<<";  // <<<\n'})

    def test_files_and_functions_have_a_length(self):
        self.refuses({'src/base/b.h': 'int f();\n' * 401}, 'src/base/b.h:1: length')
        self.accepts({'src/base/b.h': '// budget: one table, in one place\n' + 'int f();\n' * 400})
        body = 'template <typename T>\nint T::f(int a) const {\n' + '  g({a});\n' * 58 + '}\n'
        self.refuses({'src/base/b.cc': '\n' + body}, 'src/base/b.cc:2: length')
        self.accepts({'src/base/b.cc': body.replace('  g({a});\n', '', 1)})
        self.accepts({'src/base/b.cc': '// Why.\n// budget: one switch over all cases\n' + body})
        self.refuses({'tools/t.py': 'def f():\n' + '    pass\n' * 60}, 'tools/t.py:1: length')
        table = {'src/CMakeLists.txt': TABLE + 'lockstep_layer(kernels)\n'}
        self.accepts(table | {'src/kernels/k.cc': body})
        self.refuses(table | {'src/kernels/k.cc': body.replace('  g({a});\n', '  g();\n' * 3, 60)}, 'src/kernels/k.cc:1: length')

    def test_ten_budget_marks_are_enough(self):
        self.refuses({'src/base/b.h': '// budget: because\n' * 11}, 'src/base/b.h:11: length')

    def test_nothing_mutable_is_global(self):
        for bad in ('int counter = 0;', 'static std::vector<const int*> all;', 'thread_local int depth;', 'Engine* engine{};',
                    'inline std::map<int, std::string> names = {{1, "a"}};', 'const int* cursor = nullptr;', 'int table[3];',
                    'struct A {\n  static int count;\n};'):
            with self.subTest(bad):
                self.refuses({'src/base/b.cc': 'namespace lockstep {\n' + bad + '\n}\n'},
                             f'src/base/b.cc:{3 if "struct" in bad else 2}: global')
        for bad in ('static int calls = 0;', 'static Pool pool(1, 2);', 'thread_local Pool pool;'):
            with self.subTest(bad):
                self.refuses({'src/base/b.cc': f'int next() {{\n  {bad}\n  return 1;\n}}\n'}, 'src/base/b.cc:2: global')
        self.accepts({'src/base/b.cc': '''
const KernelTable kCpu = {.name = "cpu"};
constexpr int kOne = 1, kTwo[2] = {1, 2};
static const char* const kName = "n";
extern const Table kTable;
using Ids = std::vector<int>;
namespace fs = std::filesystem;
static int helper(int a = 3);
enum class Kind { kA };
struct A : B {
  static constexpr int kSize = 4;
  static A make(int b);
  int member = 0;
  std::atomic<int> open{0};
  A() : member{1}, open(0) { static const std::map<int, int> kMap = {{1, 2}}; }
};
bool operator==(const A& a, const A& b) { return a.member == b.member; }
'''})

    def test_unfinished_notes_are_found(self):
        self.refuses({'src/base/b.h': '\n// TO' + 'DO: later\n'}, 'src/base/b.h:2: unfinished')
        self.refuses({'tools/t.py': '# FIX' + 'ME\n'}, 'tools/t.py:1: unfinished')

    def test_links_and_paths_in_docs_lead_somewhere(self):
        self.refuses({'docs/d.md': 'text\n[a](../README.md)\n'}, 'docs/d.md:2: link')
        self.refuses({'README.md': 'see `src/base/gone.h`\n'}, 'README.md:1: link')
        self.accepts({'docs/d.md': '[a](../README.md#part) [b](https://example.org) `src/base`, `src/base/a.h`\n', 'README.md': ''})

    def test_a_header_that_leans_on_others_is_found(self):
        with tempfile.TemporaryDirectory() as root:
            base = pathlib.Path(root, 'src/base')
            base.mkdir(parents=True)
            (base / 'good.h').write_text('#pragma once\n#include <vector>\ninline std::vector<int> ints;\n')
            (base / 'lean.h').write_text('#pragma once\ninline std::vector<int> ints;\n')
            found = headers.complaints(root, compiler, pathlib.Path(root, 'scratch'))
            self.assertIsNone(found[0])
            self.assertRegex(found[1], r'^src/base/lean\.h:1: header: error: .*vector')


if __name__ == '__main__':
    compiler = sys.argv.pop(1)
    result = unittest.main(exit=False).result
    bad = len(result.failures) + len(result.errors)
    print(f'{result.testsRun - bad} passed, {bad} failed, 0 skipped')
    sys.exit(1 if bad else 0)
