#!/usr/bin/env bash
# campaign.sh [SEED] [COUNT]
#
# What `cargo test --test crash` does in samples, at length: a kill at every point of a run, COUNT kills and COUNT
# stops at random moments, and every sort of damage to every file of staging. The figures are the last lines.
# An hour or so; SEED makes it the same again.
set -euo pipefail
cd "$(dirname "$0")/.."

export ARCHIVER_SEED=${1:-$RANDOM} ARCHIVER_KILLS=${2:-200} ARCHIVER_STOPS=${2:-200}
export ARCHIVER_POINTS_FIRST=1 ARCHIVER_POINTS_STEP=1 ARCHIVER_POINTS_STEP_GPG=5 ARCHIVER_POINTS_STEP_AGAIN=1
export ARCHIVER_ROT_ALL=1
log=$(mktemp)
echo "seed $ARCHIVER_SEED, log in $log" >&2
nice cargo test --locked --test crash --no-run
status=0
nice cargo test --locked --test crash -- --nocapture >"$log" 2>&1 || status=$?
grep -E 'violations|max/cap|went on|longest|^test ' "$log" || true
exit $status
