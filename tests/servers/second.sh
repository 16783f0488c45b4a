#!/usr/bin/env bash
# second.sh install | start DIR [PORT] | stop DIR
#
# A second opinion on what S3 means, where Ceph 16 has none: checksums that are verified and kept, If-None-Match on
# CompleteMultipartUpload, objects in DEEP_ARCHIVE that must be restored before they are read. It is the S3 of
# LocalStack 4.9.2, alone and in memory, from Python's package index (second.txt), without a licence, and without any
# network once it is installed. It listens on loopback alone.
#
#   install     makes a Python environment (180 MB) in target/servers, or in $S3_SERVERS; silent when it is there
#   start       returns when S3 answers, with three lines on standard output, for `export $(second.sh start DIR)`:
#               S3_ENDPOINT, S3_ACCESS_KEY, S3_SECRET_KEY. On a running one it only says these again.
#   stop        an orderly end; what was stored is gone with it
#
# PORT is S3's; without it a free one is chosen. The log is DIR/log. Only the process whose pid is in DIR/run and whose
# environment names DIR is ever ended.
#
# What differs from S3 for a client (75 of 81 documented behaviours hold):
#
#   keys                  none is refused: unknown ones, a wrong secret, a clock that is an hour off and no signature at
#                         all are let in; only presigned URLs are verified
#   x-amz-content-sha256  not compared with the body; checksums and Content-MD5 are
#   RestoreObject         ends at once, so that HeadObject never says ongoing-request="true"; Expedited is taken for
#                         DEEP_ARCHIVE
#   ListObjectsV2         has no RestoreStatus
#   trailers              a CRC32C in the trailer of a chunked body is 400 InvalidRequest; in the header it is verified
#   Complete, again       404 NoSuchUpload, where S3 may also answer 200
#   what is stored        in memory and in DIR/data; neither objects nor parts outlive the server
set -euo pipefail
export LC_ALL=C
. "$(dirname "$0")/common.sh"

pins=$(realpath "$(dirname "$0")")/second.txt
cache=$(realpath -m "${S3_SERVERS:-$(dirname "$pins")/../../target/servers}")
python=$cache/localstack/bin/python

is_ours() { tr '\0' '\n' <"/proc/$1/environ" | grep -qxF "FILESYSTEM_ROOT=$dir/data"; }

s3_answers() { [[ $(get /_localstack/health) =~ \"s3\":\ \"(running|available)\" ]]; }

answers_or_died() { s3_answers || ! kill -0 "$1" 2>/dev/null; }

# What was installed by other pins is thrown away. Two at once take turns.
install() {
    mkdir -p "$cache"
    (
        flock 9
        ! cmp -s "$pins" "$cache/localstack/pins" || exit 0
        python3 -c 'import ensurepip, venv' 2>/dev/null || get_packages python3-venv
        echo 'Installing LocalStack' >&2
        rm -rf "$cache/localstack"
        python3 -m venv "$cache/localstack"
        "$python" -m pip install --quiet --quiet --disable-pip-version-check --no-deps --requirement "$pins" >&2
        cp "$pins" "$cache/localstack/pins"
    ) 9>"$cache/lock"
}

start() {
    cmp -s "$pins" "$cache/localstack/pins" || fail 'LocalStack is missing: second.sh install'
    mkdir -p "$dir/run"
    if is_gone server; then
        port=${1:-$(choose_port 1)}
        echo "$port" >"$dir/port"
        rm -rf "$dir/data"
        mkdir -p "$dir/data/tmp"
        # Nothing of the caller's reaches it: neither settings nor proxies.
        setsid env -i PATH=/usr/bin:/bin LANG=C.UTF-8 HOME="$dir/data" TMPDIR="$dir/data/tmp" FILESYSTEM_ROOT="$dir/data" \
            PYTHONDONTWRITEBYTECODE=1 GATEWAY_LISTEN="127.0.0.1:$port" SERVICES=s3 STRICT_SERVICE_LOADING=1 \
            EAGER_SERVICE_LOADING=1 DISABLE_EVENTS=1 SKIP_SSL_CERT_DOWNLOAD=1 DNS_ADDRESS=0 S3_SKIP_SIGNATURE_VALIDATION=0 \
            "$python" -m localstack.runtime.main </dev/null >"$dir/log" 2>&1 &
        echo $! >"$dir/run/server.pid"
        wait_for 600 answers_or_died "$!" || true
        s3_answers || { tail -n 20 "$dir/log" >&2; end server; fail 'S3 does not answer'; }
    elif [[ -n ${1:-} && $1 != "$port" ]]; then
        fail "the server of $dir runs on port $port"
    fi
    printf '%s\n' "S3_ENDPOINT=http://127.0.0.1:$port" S3_ACCESS_KEY=test S3_SECRET_KEY=test
}

[[ $# -ge 1 ]] || usage
case $1 in
    install) [[ $# == 1 ]] || usage ;;
    start) [[ $# == 2 || $# == 3 ]] || usage ;;
    stop) [[ $# == 2 ]] || usage ;;
    *) usage ;;
esac
if [[ $1 == install ]]; then
    install
    exit
fi

dir=$(realpath -m "$2")
[[ ${3:-} =~ ^([1-9][0-9]{3,4})?$ ]] || fail "no port from 1000 on: $3"
port=$(cat "$dir/port" 2>/dev/null || true)
case $1 in
    start) start "${3:-}" ;;
    stop) end server ;;
esac
