#!/usr/bin/env bash
# ceph.sh install | start DIR [PORT] | stop DIR | kill-rgw DIR | start-rgw DIR
#
# A real S3 server that others wrote: Ceph's object gateway (RGW 16) on a cluster of one monitor, one manager and one
# disk, from Debian's packages, without systemd, on loopback alone.
#
#   install     gets the packages that are missing; silent when there are none
#   start       makes the cluster in DIR, or starts the stopped one that is there with all its data; returns when S3
#               answers, with three lines on standard output, for `export $(ceph.sh start DIR)`:
#               S3_ENDPOINT, S3_ACCESS_KEY, S3_SECRET_KEY. On a running one it only says these again.
#   stop        an orderly end; DIR stays
#   kill-rgw    kill -9 of the gateway, as in a crash; start-rgw brings it back, both while the rest runs
#
# PORT is S3's; the cluster takes the 39 that follow. Without it a free block is chosen. It is kept in DIR for later
# starts. So any number of clusters run side by side. CEPH_GIB is the size of the disk (default 8, a sparse file).
# Logs are in DIR/log. Only processes whose pid is in DIR/run and whose command line names DIR are ever ended.
#
# What differs from S3 for a client (43 of 81 documented behaviours hold):
#
#   checksums             x-amz-checksum-* of parts, objects and Complete are ignored: not verified, not kept, not in any
#                         answer; nor is x-amz-mp-object-size. Content-MD5 and x-amz-content-sha256 are verified
#   trailers              a chunked body with a trailing checksum is 400 XAmzContentSHA256Mismatch
#   If-None-Match: *      holds for PutObject (412, one winner in a race), is ignored by CompleteMultipartUpload
#   DEEP_ARCHIVE          is kept and told by HeadObject and lists, but can be read at once; RestoreObject is 501
#   storage class         an unknown one is 400 InvalidArgument, not InvalidStorageClass
#   Complete              takes parts in a wrong order; part 10001 is taken; tags of CreateMultipartUpload are lost
#   Complete's answer     the ETag is empty, and without its quotes when asked again, which is 200: HeadObject has it
#   ListParts             says STANDARD of every upload; of an aborted one it is 404 NoSuchKey, not NoSuchUpload
#   GetObjectAttributes   500
#   GET ?partNumber=N     gives the whole object
#   SSE-S3                x-amz-server-side-encryption: AES256 is 400 InvalidRequest
set -euo pipefail
export LC_ALL=C
. "$(dirname "$0")/common.sh"

packages=(ceph-mon ceph-mgr ceph-osd radosgw ceph-common)

# Every daemon is told its configuration by name.
is_ours() { tr '\0' '\n' <"/proc/$1/cmdline" | grep -qxF "$conf"; }

# Each goes to the background itself, once it has read its configuration and data.
launch() {
    local name=$1
    shift
    ! pid_of "$name" >/dev/null || return 0
    rm -f "$dir/run/$name.pid"
    "$@" --conf "$conf" --pid-file "$dir/run/$name.pid" </dev/null >>"$dir/log/$name.out" 2>&1 || {
        tail -n 20 "$dir/log/$name.out" "$dir/log/$name.log" >&2 || true
        fail "$name does not start"
    }
}

# To anybody: the list of the buckets of nobody.
s3_answers() { [[ $(get /) == HTTP/1.?\ 200* ]]; }

start_rgw() {
    launch rgw radosgw --name client.admin --log-file "$dir/log/rgw.log" --rgw-data "$dir/rgw" \
        --rgw-frontends "beast endpoint=127.0.0.1:$port"
    wait_for 600 s3_answers || { tail -n 20 "$dir/log/rgw.log" >&2; fail 'S3 does not answer'; }
}

start_cluster() {
    launch mon ceph-mon --id a
    launch mgr ceph-mgr --id x
    launch osd ceph-osd --id 0
}

# Everything that a disk of eight GiB, four placement groups and a single copy need, said to all daemons in one file.
write_conf() {
    cat >"$conf" <<END
[global]
fsid = $(cat /proc/sys/kernel/random/uuid)
mon host = [v2:127.0.0.1:$((port + 2)),v1:127.0.0.1:$((port + 1))]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
ms bind port min = $((port + 3))
ms bind port max = $((port + 39))
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
keyring = $dir/keyring
mon data = $dir/mon
mgr data = $dir/mgr
osd data = $dir/osd
run dir = $dir/run
log file = $dir/log/\$type.log
admin socket =
mgr initial modules =
mon data avail warn = 3
mon data avail crit = 1
mon allow pool size one = true
mon warn on pool no redundancy = false
mon max pg per osd = 1000
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd crush update on start = false
osd memory target = 939524096
osd objectstore = bluestore
bluestore block size = $((${CEPH_GIB:-8} << 30))
bluestore block create = true
bluestore fsck on mount = false
rgw enable usage log = false
# Space of what is deleted comes back within seconds.
rgw gc obj min wait = 1
rgw gc processor period = 5
END
}

# Up to the point where `made` stands, what a start that was cut short left behind is worth nothing.
make_cluster() {
    local keys=$dir/keyring osd secret
    mkdir -p "$dir"/{mon,mgr,osd,rgw,run,log}
    write_conf
    ceph-authtool --create-keyring "$keys" --gen-key -n mon. --cap mon 'allow *'
    ceph-authtool "$keys" --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *'
    ceph-authtool "$keys" --gen-key -n mgr.x --cap mon 'allow profile mgr' --cap osd 'allow *'
    ceph-authtool "$keys" --gen-key -n osd.0 --cap mon 'allow profile osd' --cap osd 'allow *' --cap mgr 'allow profile osd'
    monmaptool --create --clobber --fsid "$(sed -n 's/^fsid = //p' "$conf")" \
        --addv a "[v2:127.0.0.1:$((port + 2)),v1:127.0.0.1:$((port + 1))]" "$dir/monmap"
    ceph-mon --conf "$conf" --id a --mkfs --monmap "$dir/monmap" --keyring "$keys"
    launch mon ceph-mon --id a
    launch mgr ceph-mgr --id x
    osd=$(cat /proc/sys/kernel/random/uuid)
    timeout 60 ceph osd new "$osd" 0
    timeout 60 ceph osd crush add osd.0 1.0 host=here root=default
    ceph-osd --conf "$conf" --id 0 --mkfs --osd-uuid "$osd"
    launch osd ceph-osd --id 0
    secret=$(head -c 30 /dev/urandom | base64 | tr '+/' 'ab')
    timeout 120 radosgw-admin user create --uid=archiver --display-name=archiver --access-key=ARCHIVER --secret-key="$secret"
    timeout 60 radosgw-admin zonegroup placement add --rgw-zonegroup default --placement-id default-placement \
        --storage-class DEEP_ARCHIVE
    timeout 60 radosgw-admin zone placement add --rgw-zone default --placement-id default-placement \
        --storage-class DEEP_ARCHIVE --data-pool default.rgw.deep.data
    printf 'S3_ENDPOINT=http://127.0.0.1:%s\nS3_ACCESS_KEY=ARCHIVER\nS3_SECRET_KEY=%s\n' "$port" "$secret" >"$dir/made.new"
    mv "$dir/made.new" "$dir/made"
}

stop() {
    local name
    for name in rgw osd mgr mon; do end "$name"; done
}

start() {
    command -v radosgw >/dev/null || fail 'Ceph is missing: ceph.sh install'
    if [[ -e $dir/made ]]; then
        [[ -z $wanted || $wanted == "$port" ]] || fail "the cluster in $dir is on port $port for good"
        start_cluster
    else
        [[ ! -d $dir || -e $conf || -z $(ls -A "$dir") ]] || fail "$dir is not empty and no cluster"
        if [[ -e $conf ]]; then
            stop
            rm -rf "${dir:?}"/{mon,mgr,osd,rgw,run,log,keyring,monmap,made.new,ceph.conf,port}
        fi
        port=${wanted:-$(choose_port 40)}
        mkdir -p "$dir"
        echo "$port" >"$dir/port"
        mkdir -p "$dir/log"
        trap 'stop; tail -n 20 "$dir/log/make" >&2' EXIT
        make_cluster </dev/null >"$dir/log/make" 2>&1
        trap - EXIT
    fi
    start_rgw
    cat "$dir/made"
}

[[ $# -ge 1 ]] || usage
action=$1 wanted=''
case $action in
    install) [[ $# == 1 ]] || usage ;;
    start) [[ $# == 2 || $# == 3 ]] || usage ;;
    stop | kill-rgw | start-rgw) [[ $# == 2 ]] || usage ;;
    *) usage ;;
esac
if [[ $action == install ]]; then
    get_packages "${packages[@]}"
    exit
fi

dir=$(realpath -m "$2")
[[ $dir != *[[:space:]]* ]] || fail "white space in $dir"
wanted=${3:-}
[[ $wanted =~ ^([1-9][0-9]{3,4})?$ ]] || fail "no port from 1000 on: $wanted"
conf=$dir/ceph.conf
export CEPH_CONF=$conf
port=$(cat "$dir/port" 2>/dev/null || true)
case $action in
    start) start ;;
    stop) stop ;;
    kill-rgw)
        pid=$(pid_of rgw) || fail "no gateway of $dir runs"
        kill -9 "$pid"
        wait_for 100 is_gone rgw || fail 'the gateway does not end'
        ;;
    start-rgw)
        [[ -e $dir/made ]] || fail "no cluster in $dir"
        start_rgw
        ;;
esac
