#!/usr/bin/env python3
"""tally.awk must count what ctest really prints: passes, failures, skips, crashes, timeouts, missing binaries."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

TALLY = pathlib.Path(__file__).parent.parent / 'tally.awk'


def tally(tests):
    """Runs ctest over shell snippets and returns the lines of the tally."""
    with tempfile.TemporaryDirectory() as folder:
        lines = [f'add_test({name} sh -c [=[{script}]=])' for name, script in tests.items()]
        pathlib.Path(folder, 'CTestTestfile.cmake').write_text('\n'.join(lines) + '\n')
        command = ['ctest', '--test-dir', folder, '-V', '-j', '2', '--timeout', '1']
        log = subprocess.run(command, capture_output=True, text=True).stdout
        return subprocess.run(['awk', '-f', TALLY], input=log, capture_output=True, text=True).stdout.splitlines()


class Tally(unittest.TestCase):
    def test_cases_are_counted_and_not_binaries(self):
        self.assertEqual(tally({'a': 'echo "[  PASSED  ] 3 tests."', 'b': 'echo "[  PASSED  ] 1 test."'}), ['4 0 0'])

    def test_a_failed_case_is_counted_once_and_named(self):
        script = '''echo "[  FAILED  ] Suite.Title (3 ms)"
          echo "[  PASSED  ] 5 tests."
          echo "[  SKIPPED ] 2 tests, listed below:"
          echo "[  FAILED  ] 1 test, listed below:"
          echo "[  FAILED  ] Suite.Title"
          exit 1'''
        self.assertEqual(tally({'layer': script}), ['5 1 2', 'layer: Suite.Title'])

    def test_scripts_say_their_own_numbers(self):
        self.assertEqual(tally({'arch': 'echo "7 passed, 0 failed, 1 skipped"'}), ['7 0 1'])
        self.assertEqual(tally({'arch': 'echo "6 passed, 2 failed, 0 skipped"; exit 1'}), ['6 2 0', 'arch'])

    def test_a_test_without_a_summary_is_one_failure(self):
        lines = tally({'crash': 'kill -SEGV $$', 'mute': 'exit 1', 'slow': 'sleep 9', 'good': 'echo "[  PASSED  ] 1 test."'})
        self.assertEqual(lines[0], '1 3 0')
        self.assertEqual(sorted(lines[1:]), ['crash: Exception:', 'mute: Failed', 'slow: Timeout'])

    def test_a_binary_that_was_not_built_is_one_failure(self):
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, 'CTestTestfile.cmake').write_text('add_test(absent "./absent_test")\n')
            log = subprocess.run(['ctest', '--test-dir', folder, '-V'], capture_output=True, text=True).stdout
        lines = subprocess.run(['awk', '-f', TALLY], input=log, capture_output=True, text=True).stdout.splitlines()
        self.assertEqual(lines[0], '0 1 0')


if __name__ == '__main__':
    result = unittest.main(exit=False).result
    bad = len(result.failures) + len(result.errors)
    print(f'{result.testsRun - bad} passed, {bad} failed, 0 skipped')
    sys.exit(1 if bad else 0)
