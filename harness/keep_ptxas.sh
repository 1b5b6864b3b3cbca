#!/bin/sh
# keep_ptxas.sh COMPILER ARGS... -o OBJECT ...: compiles, and keeps what ptxas says of each kernel in OBJECT.ptxas, where
# tests/spill_gate.py reads it. Whatever is more than numbers is passed on.
previous=
for word; do
  [ "$previous" = -o ] && kept=$word.ptxas
  previous=$word
done
"$@" 2>"$kept.part"
status=$?
grep -vE "^ptxas info +: (Compiling entry function|Function properties|Used [0-9]+ registers|[0-9]+ bytes gmem|Compile time)|\
^ +[0-9]+ bytes stack frame" "$kept.part" >&2
if [ $status = 0 ]; then mv "$kept.part" "$kept"; else rm -f "$kept.part"; fi
exit $status
