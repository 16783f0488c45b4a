#!/bin/bash
# Measures how archiver bears large numbers on this machine: of entries, of bytes, and of hours.

set -euo pipefail
export LC_ALL=C

usage() {
    cat <<'END'
Usage: benches/scale.sh [OPTION]...

Makes trees and archives them into a vault on the same disk, and prints what that took. It judges memory, the page
cache, staging, sameness and what waiting costs; time is only told.

  --quick          a tenth of the entries, an eighth of the bytes
  --only LIST      comma separated, of walk,trees,sealed,cache,same,staging,waiting (default: all)
  --rounds N       of the walk (default 5)
  --wait SECONDS   how long staging is full and the vault slow (default 60)
  --work DIR       where to work, on a real disk (default $TMPDIR or /var/tmp)
  --binary FILE    the program (default: target/release/archiver, built when it is missing)
  --keep           leave the working directory where it is
  -h, --help       this text

  walk     walking and cutting alone, of 10^4, 10^5 and 10^6 files, each after find -printf '%s %T@\n', both warm
  trees    whole runs: a million files in one directory; 200,000 empty directories and 100,000 empty files; 1 MiB of
           data in a file of 1 TiB (quick: 16 GiB), whose holes are hashed. Neither compressed nor encrypted
  sealed   the empty ones again, with xz and a passphrase
  cache    4 GiB in files: what of them, of staging and of the vault is in the page cache meanwhile
  same     one tree archived by two installations: their pieces, byte for byte
  staging  the smallest cap: how much of it is ever taken, looked at every 5 ms
  waiting  the smallest cap and a vault of 1 MB/s: what waiting for room costs

Exit: 0 all goals are met, 1 one is missed or a run failed, 2 wrong usage.
END
}

fail() {
    echo "scale.sh: $*" >&2
    exit 1
}

misused() {
    echo "scale.sh: $*; --help shows how" >&2
    exit 2
}

quick='' only=walk,trees,sealed,cache,same,staging,waiting rounds=5 wait=60 base=${TMPDIR:-/var/tmp} binary='' keep=''
while [[ $# -gt 0 ]]; do
    case $1 in
        --only | --rounds | --wait | --work | --binary)
            [[ $# -ge 2 ]] || misused "$1 needs a value"
            case $1 in
                --only) only=$2 ;;
                --rounds) rounds=$2 ;;
                --wait) wait=$2 ;;
                --work) base=$2 ;;
                --binary) binary=$2 ;;
            esac
            shift 2
            ;;
        --quick) quick=1 && shift ;;
        --keep) keep=1 && shift ;;
        -h | --help) usage && exit ;;
        *) misused "Unknown option $1" ;;
    esac
done
for number in "$rounds" "$wait"; do
    [[ $number =~ ^[1-9][0-9]{0,4}$ ]] || misused "$number is not a number from 1 on"
done
for section in ${only//,/ }; do
    [[ " walk trees sealed cache same staging waiting " == *" $section "* ]] || misused "There is no section $section"
done
wants() { [[ ,$only, == *,$1,* ]]; }

for tool in python3 find fincore openssl; do
    command -v "$tool" >/dev/null || fail "$tool is missing"
done
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [[ -z $binary ]]; then
    binary=$root/target/release/archiver
    [[ -x $binary ]] || (cd "$root" && cargo build --release --locked)
fi
[[ -x $binary ]] || fail "$binary is not a program"
binary=$(realpath "$binary")
! wants walk || (cd "$root" && cargo build --release --locked --example walk)

many=1000000 dirs=200000 empty=100000 hole=1T megabytes=4096
if [[ -n $quick ]]; then many=100000 dirs=20000 empty=10000 hole=16G megabytes=512; fi

work=$(mktemp -d "$base/archiver-scale.XXXXXX")
chmod 700 "$work"
# shellcheck disable=SC2317
clean_up() { if [[ -n $keep ]]; then echo "Left in $work" >&2; else rm -rf "$work"; fi; }
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
(umask 077 && echo 'correct horse battery staple of the benchmark' >"$work/passphrase")

missed=0
judge() {
    local condition=$1
    shift
    if awk "BEGIN { exit !($condition) }"; then echo "PASS $*"; else
        echo "FAIL $*"
        missed=1
    fi
}
calculate() { awk "BEGIN { printf \"%.3g\", $1 }"; }

# make_files DIR COUNT: empty files with names of 17 bytes.
make_files() {
    python3 - "$1" "$2" <<'END'
import os, sys
os.makedirs(sys.argv[1])
at = os.open(sys.argv[1], os.O_RDONLY)
for number in range(int(sys.argv[2])):
    os.close(os.open(f"IMG_{number:08}.jpeg", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=at))
END
}

# make_dirs DIR COUNT: empty directories, a thousand in each.
make_dirs() {
    python3 - "$1" "$2" <<'END'
import os, sys
for number in range(int(sys.argv[2])):
    os.makedirs(f"{sys.argv[1]}/{number // 1000:03}/{number % 1000:03}")
END
}

# make_data DIR MIB: files of 32 MiB that do not shrink.
make_data() {
    local number
    mkdir -p "$1"
    for ((number = 0; number * 32 < $2; number++)); do
        head -c 32M /dev/zero | openssl enc -aes-256-ctr -nosalt -K "$(printf '%064x' 7)" \
            -iv "$(printf '%032x' $((number << 32)))" >"$1/$(printf '%05d' "$number").raw"
    done
}

# configure NAME SOURCE MAX_SIZE CAP METHOD ENCRYPT [MORE]: an installation of its own in $work/NAME.
configure() {
    local at=$work/$1 encrypt='method = "none"'
    rm -rf "$at"
    mkdir -p "$at/state" "$at/staging" "$at/vault"
    [[ $6 == none ]] || encrypt="passphrase_file = \"$work/passphrase\""
    cat >"$at/archiver.toml" <<END
state = "$at/state"
[staging]
path = "$at/staging"
cap = "$4"
[[source]]
name = "data"
path = "$2"
[pack]
max_size = "$3"
[compress]
method = "$5"
[encrypt]
$encrypt
[vault]
url = "file://$at/vault"
host = "h1"
${7:-}
END
}

# watched NAME [OPTION VALUE]...: runs an installation once; what is told of it is in the variables of watch.py.
watched() {
    local name=$1 at=$work/$1 ends=0 told
    shift
    # As it ends when it is told to.
    [[ " $* " != *' --seconds '* ]] || ends=143
    told=$(python3 "$root/benches/watch.py" --log "$at/log" "$@" \
        "$binary" --config "$at/archiver.toml" --verbose run --once)
    status='' seconds='' cores='' rss_kib='' heartbeats='' gap='' staging='' samples='' cached='' idle_cores=''
    # shellcheck disable=SC2086
    declare -g ${told?}
    if [[ $status != 0 && $status != "$ends" ]]; then
        tail -n 20 "$at/log" >&2
        fail "$name ended with $status"
    fi
}

# The time of a command in the middle of all rounds.
median() { sort -n "$1" | awk '{ at[NR] = $1 } END { print (at[int((NR + 1) / 2)] + at[int(NR / 2) + 1]) / 2 }'; }

# timed FILE COMMAND...: appends its seconds.
timed() {
    local file=$1 TIMEFORMAT=%R
    shift
    { time "$@" >"$work/out"; } 2>>"$file"
}

walk() {
    local count round ratio first_time='' first_rss rss
    for count in 10000 100000 "$many"; do
        [[ ! -d $work/tree ]] || rm -rf "$work/tree"
        make_files "$work/tree" "$count"
        rm -f "$work"/figures.*
        find "$work/tree" -printf '%s %T@\n' >/dev/null
        for ((round = 0; round < rounds; round++)); do
            timed "$work/figures.find" find "$work/tree" -printf '%s %T@\n'
            timed "$work/figures.ours" "$root/target/release/examples/walk" "$work/tree"
            awk -v mine="$(tail -n 1 "$work/figures.ours")" -v find="$(tail -n 1 "$work/figures.find")" \
                'BEGIN { print mine / find }' >>"$work/figures.ratio"
        done
        rss=$(sed -n 's/.*peak \([0-9]*\) kB/\1/p' "$work/out")
        ratio=$(median "$work/figures.ratio")
        printf '%s files: walk and cut %s s, find %s s, %s MiB\n' "$count" "$(median "$work/figures.ours")" \
            "$(median "$work/figures.find")" "$(calculate "$rss / 1024")"
        echo "Walking and cutting takes $(calculate "$ratio") times as long as find (the goal is at most 2)"
        judge "$rss < 256 * 1024" "its memory is $(calculate "$rss / 1024") MiB (below 256)"
        [[ -n $first_time ]] || first_time=$(median "$work/figures.ours") first_rss=$rss
    done
    echo "Per entry, $count to 10000: time $(calculate "$(median "$work/figures.ours") / $count / ($first_time / 10000)")," \
        "memory $(calculate "($rss / $count) / ($first_rss / 10000)")"
    rm -rf "$work/tree"
}

# whole TITLE METHOD ENCRYPT MEMORY: a run over $work/tree.
whole() {
    configure run "$work/tree" 512GiB 1600GiB "$2" "$3"
    watched run --notify "$work/notify"
    rm -f "$work/notify"
    printf '%s: %s s, %s s of cores, %s MiB, %s heartbeats\n' "$1" "$seconds" "$cores" \
        "$(calculate "$rss_kib / 1024")" "$heartbeats"
    judge "$rss_kib < $4 * 1024" "its memory is $(calculate "$rss_kib / 1024") MiB (below $4)"
    judge "$gap < 30" "the longest silence between heartbeats is $gap s (below 30)"
    rm -rf "$work/run"
}

trees() {
    make_files "$work/tree" "$many"
    whole "$many files in one directory" none none 256
    rm -rf "$work/tree"
    make_dirs "$work/tree/dirs" "$dirs"
    make_files "$work/tree/files" "$empty"
    whole "$dirs empty directories, $empty empty files" none none 256
    rm -rf "$work/tree"
    mkdir "$work/tree"
    truncate -s "$hole" "$work/tree/file"
    head -c 1M /dev/urandom | dd of="$work/tree/file" conv=notrunc bs=1M seek=4096 iflag=fullblock status=none
    whole "1 MiB of data in $hole" none none 256
    rm -rf "$work/tree"
}

sealed() {
    make_dirs "$work/tree/dirs" "$dirs"
    make_files "$work/tree/files" "$empty"
    # Beside the 256 of the rest: what a coder of level 6 and its buffers take, for each core.
    whole "$dirs empty directories, $empty empty files, with xz and a passphrase" xz passphrase $((256 + 192 * $(nproc)))
    rm -rf "$work/tree"
}

cache() {
    make_data "$work/tree" "$megabytes"
    sync
    python3 - "$work/tree" <<'END'
import os, sys
for name in os.listdir(sys.argv[1]):
    with open(os.path.join(sys.argv[1], name), "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
END
    configure run "$work/tree" 512MiB 4GiB none none
    watched run --cached "$work/tree" --cached "$work/run/staging"
    printf '%s MiB in files: %s s, at most %s MiB of source and staging in the page cache\n' "$megabytes" "$seconds" \
        "$(calculate "$cached / 1048576")"
    judge "$cached < 256 * 1048576" "source and staging take $(calculate "$cached / 1048576") MiB of the page cache (below 256)"
    find "$work/run/vault" -type f -print0 | xargs -0 fincore --bytes --noheadings --raw --output RES |
        awk '{ sum += $1 } END { printf "The vault, afterwards: %.0f MiB\n", sum / 1048576 }'
    rm -rf "$work/run" "$work/tree"
}

same() {
    local name
    make_data "$work/tree" 256
    make_dirs "$work/tree/dirs" 5000
    make_files "$work/tree/files" 5000
    for name in one other; do
        configure "$name" "$work/tree" 32MiB 128MiB none none
        watched "$name"
        find "$work/$name/vault/h1" -name '*.tar' -printf '%f\n' | sort >"$work/$name/names"
    done
    local differ=0 count
    count=$(wc -l <"$work/one/names")
    cmp -s "$work/one/names" "$work/other/names" || differ=1
    while read -r name; do
        cmp -s "$(find "$work/one/vault/h1" -name "$name")" "$(find "$work/other/vault/h1" -name "$name")" || differ=$((differ + 1))
    done <"$work/one/names"
    judge "$differ == 0 && $count > 5" "of $count pieces of two installations $differ differ (none)"
    rm -rf "$work/one" "$work/other" "$work/tree"
}

# 3 × 16 MiB + 1 %, and a byte.
smallest_cap=$((3 * (16 << 20) * 101 / 100 + 1))

staging() {
    make_data "$work/tree" $((megabytes / 8))
    make_files "$work/tree/files" 20000
    configure run "$work/tree" 16MiB "$smallest_cap" none passphrase
    watched run --staging "$work/run/staging"
    judge "$staging <= $smallest_cap" \
        "staging took at most $(calculate "$staging / $smallest_cap") of its cap, in $samples samples (at most 1)"
    rm -rf "$work/run" "$work/tree"
}

waiting() {
    local waits
    make_data "$work/tree" $((wait + 128))
    configure run "$work/tree" 16MiB "$smallest_cap" none none $'[upload]\nbandwidth = "1MB/s"'
    watched run --staging "$work/run/staging" --seconds "$wait" --settled 10
    waits=$(grep -c 'Waiting for room' "$work/run/log" || true)
    judge "${idle_cores:-1} < 0.05" "waiting for room takes ${idle_cores:-?} of a core (below 0.05)"
    judge "$staging <= $smallest_cap" "staging took at most $(calculate "$staging / $smallest_cap") of its cap (at most 1)"
    echo "It waited for room $waits times in $wait s"
    rm -rf "$work/run" "$work/tree"
}

echo "$(nproc) cores, load $(cut -d ' ' -f 1 /proc/loadavg), $(df --output=fstype "$work" | tail -n 1) in $base"
for section in walk trees sealed cache same staging waiting; do
    wants "$section" || continue
    printf '\n%s\n' "$section"
    case $section in
        walk) walk ;;
        trees) trees ;;
        sealed) sealed ;;
        cache) cache ;;
        same) same ;;
        staging) staging ;;
        waiting) waiting ;;
    esac
done
exit "$missed"
