#!/bin/bash
# Measures archiver against the pipe that people would use instead, on this machine, in one run.

set -euo pipefail
export LC_ALL=C

usage() {
    cat <<'END'
Usage: benches/speed.sh [OPTION]...

Measures wall time and output size of archiver, of tar | xz | gpg, of tar | zstd | gpg and of restic, on two
corpora: text (many source-like files of this machine) and media (files of 1 to 8 MiB that do not shrink).
The runs are interleaved, each round in another order; the table has medians. Everything lies on one disk,
and everything is on it when a run ends (ours and restic by their own fsync, the pipes by sync). On a machine that
does other things too, compare the seconds of cores (user and system time of all threads) as well.

  --size MIB       of each corpus (default 256)
  --runs N         of each program (default 5)
  --pieces N       that ours must make at least: max_size is the size of the corpus through N (default 8)
  --corpus NAME    text or media (default: both)
  --only LIST      comma separated, of ours,unproven,ours-zstd,peer,peer-zstd,restic (default: all);
                   without peer, nothing is judged
  --level N        of xz, of ours and of the peer (default 6)
  --work DIR       where to work; needs room for five corpora (default /var/tmp)
  --binary FILE    the program (default: target/release/archiver, built when it is missing)
  --warm           leave the page cache alone; without it, it is dropped before every run, as root
  --logs DIR       keep the logs of ours there
  --keep           leave the working directory where it is
  -h, --help       this text

Goals, of wall time with xz, ours to peer: at most 1.15 as it comes (all proven), at most 1.05 with prove = false.
Exit: 0 all goals are met or none was judged, 1 a goal is missed or a run failed, 2 wrong usage.
END
}

fail() {
    echo "speed.sh: $*" >&2
    exit 1
}

misused() {
    echo "speed.sh: $*; --help shows how" >&2
    exit 2
}

size=256 runs=5 pieces=8 corpora='text media' only=ours,unproven,ours-zstd,peer,peer-zstd,restic level=6
base=/var/tmp binary='' warm='' keep='' logs=''

while [[ $# -gt 0 ]]; do
    case $1 in
        --size | --runs | --pieces | --corpus | --only | --level | --work | --binary | --logs)
            [[ $# -ge 2 ]] || misused "$1 needs a value"
            case $1 in
                --size) size=$2 ;;
                --runs) runs=$2 ;;
                --pieces) pieces=$2 ;;
                --corpus) corpora=$2 ;;
                --only) only=$2 ;;
                --level) level=$2 ;;
                --work) base=$2 ;;
                --binary) binary=$2 ;;
                --logs) logs=$2 ;;
            esac
            shift 2
            ;;
        --warm) warm=1 && shift ;;
        --keep) keep=1 && shift ;;
        -h | --help) usage && exit ;;
        *) misused "Unknown option $1" ;;
    esac
done
for number in "$size" "$runs" "$pieces"; do
    [[ $number =~ ^[1-9][0-9]{0,5}$ ]] || misused "$number is not a number from 1 on"
done
[[ $level =~ ^[0-9]$ ]] || misused "The level of xz is 0 to 9, not $level"
for corpus in $corpora; do
    [[ $corpus == text || $corpus == media ]] || misused "There is no corpus $corpus"
done
read -ra programs <<<"${only//,/ }"
for program in "${programs[@]}"; do
    case $program in
        ours | unproven | ours-zstd | peer | peer-zstd | restic) ;;
        *) misused "There is no program $program" ;;
    esac
done

for tool in tar xz zstd gpg openssl awk find; do
    command -v "$tool" >/dev/null || fail "$tool is missing"
done

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [[ -z $binary ]]; then
    binary=$root/target/release/archiver
    [[ -x $binary ]] || (cd "$root" && cargo build --release --locked)
fi
[[ -x $binary ]] || fail "$binary is not a program"
binary=$(realpath "$binary")

if [[ " ${programs[*]} " == *' restic '* ]] && ! command -v restic >/dev/null; then
    echo 'restic is missing (apt install restic), so its line is left out' >&2
    kept=()
    for program in "${programs[@]}"; do [[ $program == restic ]] || kept+=("$program"); done
    programs=("${kept[@]}")
fi

if [[ -n $warm ]]; then
    caches='left alone'
elif [[ $(id -u) == 0 ]] && [[ -w /proc/sys/vm/drop_caches ]]; then
    caches='dropped before every run'
else
    caches='left alone, since only root can drop it'
    warm=1
fi

[[ -z $logs ]] || { mkdir -p "$logs" && logs=$(realpath "$logs"); }
work=$(mktemp -d "$base/archiver-speed.XXXXXX")
chmod 700 "$work"
export GNUPGHOME=$work/gnupg RESTIC_PASSWORD_FILE=$work/passphrase RESTIC_CACHE_DIR=$work/restic-cache

# Also after Ctrl-C, which reaches the program being measured too.
clean_up() {
    gpgconf --kill gpg-agent 2>/dev/null || true
    if [[ -n $keep ]]; then echo "Left in $work" >&2; else rm -rf "$work"; fi
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

mkdir -m 700 "$GNUPGHOME" "$work/out" "$work/corpus"
(umask 077 && echo 'correct horse battery staple of the benchmark' >"$work/passphrase")

# Text files of this machine in the order of their names, until there are enough. The same machine, the same corpus.
make_text() {
    local dir=$1 places=() place
    for place in "${CARGO_HOME:-$HOME/.cargo}/registry/src" /usr/include /usr/src /usr/lib/python3* /usr/share; do
        [[ -d $place ]] && places+=("$place")
    done
    for place in "${places[@]}"; do
        find "$place" -xdev -type f -readable -size -2048k ! -path $'*\n*' -print0 2>/dev/null | sort -z || true
    done | { xargs -0 -r grep -IlZ -m1 . || true; } |
        xargs -0 -r stat --printf '%s\t%n\n' |
        awk -F '\t' -v wanted=$((size << 20)) 'sum < wanted { sum += $1; sub(/^[0-9]+\t\//, ""); print }' \
            >"$work/text.list"
    tar -C / -cf - --no-recursion --verbatim-files-from -T "$work/text.list" | tar -C "$dir" -xf - --no-same-owner
    rm "$work/text.list"
}

# Keystream of AES under a fixed key, cut into files of 1 to 8 MiB.
make_media() {
    local dir=$1 left=$size number=0 len
    while [[ $left -gt 0 ]]; do
        len=$((number * 5 % 8 + 1))
        len=$((len < left ? len : left))
        number=$((number + 1))
        mkdir -p "$dir/reel-$((number / 16))"
        head -c "$((len << 20))" /dev/zero |
            openssl enc -aes-256-ctr -nosalt -K "$(printf '%064x' 7)" -iv "$(printf '%032x' $((number << 32)))" \
                >"$dir/reel-$((number / 16))/$(printf '%05d' "$number").raw"
        left=$((left - len))
    done
}

configure() {
    local out=$1 source=$2 method=$3 method_level=$4 prove=$5
    local piece=$((size << 20))
    piece=$((piece / pieces > 1 << 20 ? piece / pieces : 1 << 20))
    cat <<END
state = "$out/state"
[staging]
path = "$out/staging"
cap = $((piece * 8 + (64 << 20)))
[[source]]
name = "speed"
path = "$source"
[pack]
max_size = $piece
[compress]
method = "$method"
level = $method_level
threads = 0
[encrypt]
passphrase_file = "$work/passphrase"
prove = $prove
[vault]
url = "file://$out/vault"
END
}

seal() {
    gpg --batch --quiet --no-tty --pinentry-mode loopback --passphrase-file "$work/passphrase" -c \
        --cipher-algo AES256 --compress-algo none --output "$1"
}

prepare() {
    local program=$1 out=$2 source=$3
    mkdir "$out" "$out/vault" "$out/state" "$out/staging"
    case $program in
        ours) configure "$out" "$source" xz "$level" true >"$out/archiver.toml" ;;
        unproven) configure "$out" "$source" xz "$level" false >"$out/archiver.toml" ;;
        ours-zstd) configure "$out" "$source" zstd 9 true >"$out/archiver.toml" ;;
        restic) restic -q init --repo "$out/vault" ;;
    esac
}

run() {
    local program=$1 out=$2 source=$3
    case $program in
        ours | unproven | ours-zstd) "$binary" --config "$out/archiver.toml" --verbose run --once 2>"$out/log" ;;
        peer) tar -C "$source" -cf - . | xz -T0 "-$level" | seal "$out/vault/all" && sync "$out/vault/all" ;;
        peer-zstd) tar -C "$source" -cf - . | zstd -q -9 -T2 --long=27 | seal "$out/vault/all" && sync "$out/vault/all" ;;
        restic) restic -q backup --repo "$out/vault" "$source" ;;
    esac
}

# One measured run; appends seconds, bytes and seconds of cores to the program's figures.
measure() {
    local program=$1 corpus=$2 round=$3 out=$work/out/run seconds cpu bytes status=0 TIMEFORMAT='%R %U %S'
    prepare "$program" "$out" "$work/corpus/$corpus"
    sync
    [[ -n $warm ]] || echo 3 >/proc/sys/vm/drop_caches
    { time run "$program" "$out" "$work/corpus/$corpus" 2>&3 || status=$?; } 3>&2 2>"$work/time"
    read -r seconds cpu < <(awk '{ printf "%.2f %.2f\n", $1, $2 + $3 }' "$work/time")
    if [[ $status != 0 ]]; then
        [[ ! -e $out/log ]] || tail -n 20 "$out/log" >&2
        fail "$program ended with $status"
    fi
    bytes=$(find "$out/vault" -type f -printf '%s\n' | awk '{ sum += $1 } END { printf "%d", sum }')
    echo "$seconds $bytes $cpu" >>"$work/figures.$corpus.$program"
    if [[ -e $out/log ]]; then
        local made
        made=$(find "$out/vault" -path '*/.archiver' -prune -o -name '*.tar.*' -type f -print | wc -l)
        [[ $made -ge $pieces ]] || fail "$program made only $made pieces"
        [[ -z $logs ]] || cp "$out/log" "$logs/$corpus.$program.$round.log"
    fi
    printf '%s %s, round %s: %s s (%s s of cores), %s bytes\n' \
        "$corpus" "$program" "$round" "$seconds" "$cpu" "$bytes" >&2
    rm -rf "$out"
}

# The figure in a column, in the middle of all rounds.
median() {
    sort -n -k "$3,$3" "$work/figures.$1.$2" |
        awk -v column="$3" '{ at[NR] = $column } END { print (at[int((NR + 1) / 2)] + at[int(NR / 2) + 1]) / 2 }'
}

title() {
    case $1 in
        ours) echo "archiver, xz -$level" ;;
        unproven) echo "archiver, xz -$level, prove = false" ;;
        ours-zstd) echo 'archiver, zstd -9' ;;
        peer) echo "peer: tar | xz -T0 -$level | gpg" ;;
        peer-zstd) echo 'tar | zstd -9 -T2 --long=27 | gpg' ;;
        restic) echo "$(restic version | cut -d ' ' -f 1,2) backup" ;;
    esac
}

missed=0
judge() {
    local corpus=$1 program=$2 ratio=$3 goal
    case $program in
        ours) goal=1.15 ;;
        unproven) goal=1.05 ;;
        *) return 0 ;;
    esac
    if awk -v ratio="$ratio" -v goal=$goal 'BEGIN { exit !(ratio <= goal) }'; then
        echo "PASS (at most $goal)"
    else
        echo "FAIL (at most $goal)"
        return 1
    fi
}

report() {
    local corpus=$1 program seconds ratio verdict peer=''
    [[ ! -e $work/figures.$corpus.peer ]] || peer=$(median "$corpus" peer 1)
    printf '\n%s: %s files, %s MiB\n' "$corpus" "$(find "$work/corpus/$corpus" -type f | wc -l)" \
        "$(find "$work/corpus/$corpus" -type f -printf '%s\n' | awk '{ sum += $1 } END { printf "%.1f", sum / 1048576 }')"
    printf '  %-38s %9s %9s %9s %9s %11s\n' '' 'median s' 'all s' 'to peer' 'cores s' 'output MiB'
    for program in "${programs[@]}"; do
        seconds=$(median "$corpus" "$program" 1)
        ratio=- verdict=''
        if [[ -n $peer ]]; then
            ratio=$(awk -v ours="$seconds" -v peer="$peer" 'BEGIN { printf "%.3f", ours / peer }')
            verdict=$(judge "$corpus" "$program" "$ratio") || missed=1
        fi
        printf '  %-38s %9.2f %9s %9s %9.2f %11.2f  %s\n' "$(title "$program")" "$seconds" \
            "$(sort -n "$work/figures.$corpus.$program" | awk 'NR == 1 { low = $1 } END { printf "%.0f-%.0f", low, $1 }')" \
            "$ratio" "$(median "$corpus" "$program" 3)" "$(median "$corpus" "$program" 2 | awk '{ print $1 / 1048576 }')" "$verdict"
    done
}

for corpus in $corpora; do
    echo "Making $size MiB of $corpus" >&2
    mkdir "$work/corpus/$corpus"
    "make_$corpus" "$work/corpus/$corpus"
    for ((round = 0; round < runs; round++)); do
        for ((turn = 0; turn < ${#programs[@]}; turn++)); do
            measure "${programs[$(((round + turn) % ${#programs[@]}))]}" "$corpus" "$((round + 1))"
        done
    done
done

echo
echo "$(nproc) cores, load $(cut -d ' ' -f 1 /proc/loadavg); $runs interleaved runs; page cache: $caches"
for corpus in $corpora; do
    report "$corpus"
done
exit "$missed"
