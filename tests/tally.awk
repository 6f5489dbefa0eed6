# Reads the output of `ctest -V` and counts cases, not binaries: prints "passed failed skipped", then one line
# for each failed case. ctest puts the number of its test before each line. A test that fails without a summary
# of its own (a crash, a timeout, a binary that was not built) counts as one failure.
/^ +Start +[0-9]+: / { name[$2 + 0] = $3 }
/^[0-9]+: \[  PASSED  \] [0-9]+ test/ { passed += $5 }
/^[0-9]+: \[  SKIPPED \] [0-9]+ test/ { skipped += $5 }
/^[0-9]+: \[  FAILED  \] [0-9]+ test/ { failed += $5; counted[$1 + 0] = 1 }
/^[0-9]+: \[  FAILED  \] [A-Za-z]/ {
  sub(",$", "", $5)
  if (!listed[$1 $5]++) list = list name[$1 + 0] ": " $5 "\n"
}
/^[0-9]+: [0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ {
  passed += $2
  failed += $4
  skipped += $6
  if ($4 > 0) { counted[$1 + 0] = 1; list = list name[$1 + 0] "\n" }
}
/ Test +#[0-9]+: .*\*\*\*/ {
  match($0, /#[0-9]+/)
  number = substr($0, RSTART + 1, RLENGTH - 1) + 0
  if (!counted[number]) {
    failed++
    split(substr($0, index($0, "***") + 3), words, " ")
    list = list name[number] ": " words[1] "\n"
  }
}
END { printf "%d %d %d\n%s", passed, failed, skipped, list }
