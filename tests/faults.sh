#!/usr/bin/env bash
# faults.sh [SEED] [LEVEL] [CASES]
#
# What the tests do in samples, at length: processes killed, disks that die, fill up and lose power, hostile sources and a
# network that fails. One line for each case: name, seed, injections, violations, seconds. LEVEL 1 takes a good hour, 2
# about three, 3 a night with every point of a run; SEED makes it the same again, CASES is a pattern
# of names. Ends with 1 if anything was violated.
set -euo pipefail
cd "$(dirname "$0")/.."

seed=${1:-$RANDOM} level=${2:-1} cases=${3:-}
logs=$(mktemp -d)
violated=0

# The step from one point of a run to the next, by level.
step() {
    local steps=("$@")
    echo "${steps[level - 1]}"
}

# case_of NAME SECONDS TARGET FILTER [VARIABLE=VALUE…]: ends by itself, or after so many seconds, which is a violation.
# A test that failed is one as well, if nothing says that it found more.
case_of() {
    local name=$1 seconds=$2 target=$3 filter=$4 log=$logs/$1 status=0 began=$SECONDS
    shift 4
    [[ $name =~ $cases ]] || return 0
    env ARCHIVER_SEED="$seed" "$@" nice timeout -k 60 "$seconds" \
        cargo test --locked --test "$target" -- --nocapture --test-threads=1 "$filter" >"$log" 2>&1 || status=$?
    # Whoever counts says so: "…: 12 interruptions at …, 0 violations".
    local counts injections violations ran
    counts=$(grep -aoE '[0-9]+ (interruptions|lives|damages|seeds|cases|points|in [0-9]+ worlds)\b.*[0-9]+ violations' "$log" || true)
    injections=$(awk '{ sum += $1 } END { print sum + 0 }' <<<"$counts")
    violations=$(awk '{ for (i = 2; i <= NF; i++) if ($i ~ /^violations/) sum += $(i - 1) } END { print sum + 0 }' <<<"$counts")
    ran=$(grep -acE '^test .* \.\.\. |^(ok|FAILED)$' "$log" || true)
    [[ $injections != 0 ]] || injections=$ran
    [[ $status == 0 || $violations != 0 ]] || violations=1
    # A filter that finds no test has tested nothing.
    [[ $ran != 0 || $violations != 0 ]] || violations=1
    printf '%-12s seed %-6s %6s injections %4s violations %6s s\n' \
        "$name" "$seed" "$injections" "$violations" $((SECONDS - began))
    if [[ $violations != 0 ]]; then
        violated=1
        echo "    see $log" >&2
    fi
}

has_test() {
    [[ -e tests/$1.rs ]]
}

echo "seed $seed, level $level, logs in $logs" >&2
nice cargo test --quiet --locked --tests --no-run

limit=$(step 1800 5400 30000)
many=ARCHIVER_POINTS_MOST_WRITE=1000000
first=ARCHIVER_POINTS_FIRST=$((1 + seed % 7))
case_of checker 300 crash check_tests::
case_of kill-point "$limit" crash points::a_kill_at_any_point "$first" \
    ARCHIVER_POINTS_STEP="$(step 7 2 1)" ARCHIVER_POINTS_STEP_GPG="$(step 23 7 1)"
case_of kill-write "$limit" crash points::a_kill_at_any_write "$first" $many ARCHIVER_POINTS_STEP_WRITE="$(step 29 7 1)"
case_of kill-random "$limit" crash kills:: \
    ARCHIVER_KILLS="$(step 200 600 2000)" ARCHIVER_STOPS="$(step 100 300 1000)"
case_of kill-inside "$limit" crash inside::
case_of kill-marks "$limit" crash progress::
case_of power-cut "$limit" crash power:: "$first" \
    ARCHIVER_POWER_STEP="$(step 29 11 1)" ARCHIVER_POWER_CUTS=1000000
case_of rot "$limit" crash rot:: ARCHIVER_ROT_ALL="$(step 0 1 1)" ARCHIVER_POINTS_STEP_AGAIN="$(step 11 3 1)"
case_of corners "$limit" crash corners::
case_of disk-cap "$limit" crash disk::
case_of disk-full "$limit" crash full:: ARCHIVER_FULL_ALL=1
case_of disk-fails "$limit" crash failing:: "$first" ARCHIVER_FAIL_ALL=1 ARCHIVER_FAIL_MOST=1000000 \
    ARCHIVER_FAIL_STEP="$(step 43 13 1)" ARCHIVER_FAIL_STEP_FLUSH="$(step 5 1 1)"
case_of leftovers "$limit" crash leftovers:: ARCHIVER_LEFTOVERS_ALL=1
case_of catalog "$limit" crash catalog::
case_of limits "$limit" crash limits:: ARCHIVER_LIMITS_STEP="$(step 3 1 1)"
if has_test hostile; then
    case_of hostile "$limit" hostile '' \
        ARCHIVER_SWAPS="$(step 10000 100000 1000000)" ARCHIVER_HOLES_GIB="$(step 4 64 1024)"
fi
case_of moving "$limit" moving ''
case_of network "$limit" s3 '' ARCHIVER_CUTS="$(step 200 1000 3000)" ARCHIVER_KILLS="$(step 40 200 600)" \
    ARCHIVER_NETWORK_LONG=1
case_of simulation "$limit" simulation months_of ARCHIVER_DAYS="$(step 60 180 720)"
case_of fuzz "$limit" fuzz '' ARCHIVER_FUZZ_SECONDS="$(step 20 120 600)"
exit $violated
