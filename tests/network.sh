#!/usr/bin/env bash
# network.sh [SEED] [COUNT]
#
# What `cargo test --test s3` does in samples, at length: COUNT connections cut in the middle of a part, a fifth as
# many kills at random moments, and what takes minutes by its nature. The figures are the last lines. With 1000 seeds,
# a good hour; SEED makes it the same again.
set -euo pipefail
cd "$(dirname "$0")/.."

export ARCHIVER_SEED=${1:-$RANDOM} ARCHIVER_CUTS=${2:-1000} ARCHIVER_NETWORK_LONG=1
export ARCHIVER_KILLS=$((ARCHIVER_CUTS / 5))
log=$(mktemp)
echo "seed $ARCHIVER_SEED, log in $log" >&2
nice cargo test --locked --test s3 --no-run
status=0
nice timeout -k 60 2h cargo test --locked --test s3 -- --nocapture >"$log" 2>&1 || status=$?
grep -aE '^figure|^test ' "$log" || true
exit $status
