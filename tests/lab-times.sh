#!/usr/bin/env bash
# How long examples/clos takes to come up, until every link is there and every exec has run, and to
# go down: median, smallest and largest of some rounds. Needs root, and a built towpath.
#
#   tests/lab-times.sh [ROUNDS] [--write docs/benchmarks.md]
set -euo pipefail
rounds="${1:-10}"
towpath="${TOWPATH_BIN:?names the towpath program; build it with make build}"
top="$(cd "$(dirname "$0")/.." && pwd)"
ups=() downs=()
# A copy under a name of its own: a lab "clos" may be up.
copy="$(mktemp -d)"
trap 'rm -rf "$copy"' EXIT
cp -a "$top/examples/clos/." "$copy"
sed -i "s/^name: clos$/name: clos-times-$$/" "$copy/topo.clab.yml"
size="$("$towpath" lab check "$copy" | sed 's/.*, \([0-9]* nodes, [0-9]* links\)$/\1/')"
took() { # milliseconds of a command
  local begin end
  begin=$(date +%s%N)
  "$@" >/dev/null 2>&1 || { echo "lab-times: $* failed" >&2; exit 1; }
  end=$(date +%s%N)
  echo $(((end - begin) / 1000000))
}
for _ in $(seq "$rounds"); do
  ups+=("$(took "$towpath" lab up "$copy")")
  downs+=("$(took "$towpath" lab down "clos-times-$$")")
done
row() { # name and bound, then values
  local name="$1" bound="$2"
  shift 2
  printf '%s\n' "$@" | sort -n | awk -v name="$name" -v bound="$bound" \
    '{v[NR]=$1} END {printf "| %s | %d (%d-%d) | %s |\n", name, v[int((NR+1)/2)], v[1], v[NR], bound}'
}
table="### A lab: median (smallest-largest) of $rounds rounds of examples/clos, $size

\`tests/lab-times.sh $rounds\`

| step | ms | must |
|---|---|---|
$(row "up, until every link is there and every exec has run" "5 s" "${ups[@]}")
$(row "down, until nothing is left" "1 s" "${downs[@]}")
"
echo "$table"
if [ "${2:-}" = --write ]; then
  TABLE="$table" perl -0pi -e 's/(<!-- bench-lab -->\n).*?(<!-- \/bench-lab -->)/$1$ENV{TABLE}$2/s' "$top/${3:?names the file}"
fi
