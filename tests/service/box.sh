#!/usr/bin/env bash
# box.sh up ROOT DIR BIND SUITE | run DIR COMMAND… | down DIR
#
# A real systemd as PID 1 of a container, without one on this machine: ROOT is a Debian made here when it is missing,
# of SUITE or else of the suite of this machine; DIR holds what is known of the running box, BIND is seen in it as /host.
# It shares the network of this machine. Changes in the box are gone with it.
# Needs root, systemd-container, mmdebstrap.
set -euo pipefail

packages=systemd,systemd-sysv,dbus,procps,ca-certificates

inside() { nsenter -t "$(cat "$dir/leader")" -a -- "$@"; }
is_alive() { kill -0 "$(cat "$dir/nspawn")" 2>/dev/null; }

case $1 in
    up)
        root=$2 dir=$3 bind=$4
        suite=${5:-$(. /etc/os-release && echo "$VERSION_CODENAME")}
        case $suite in
            bookworm) packages+=,libnettle8,libhogweed6,libgmp10 ;;
            *) packages+=,libnettle8t64,libhogweed6t64,libgmp10 ;;
        esac
        # A mirror may be out of reach for a moment.
        for ((try = 0; try < 3; try++)); do
            [[ $(cat "$root/made" 2>/dev/null) != "$packages" ]] || break
            rm -rf "$root"
            ! mmdebstrap --quiet --variant=minbase --include="$packages" "$suite" "$root" || echo "$packages" >"$root/made"
        done
        [[ -e $root/made ]]
        # Where cgroups are of both versions, the box gets those of version 2 alone.
        groups=/sys/fs/cgroup/unified
        [[ -d $groups ]] || groups=/sys/fs/cgroup
        group=$groups/archiver-box-$$
        mkdir -p "$dir" "$group"
        echo "$group" >"$dir/group"
        unshare --mount --propagation private bash -c '
            echo $$ >"$1/cgroup.procs"
            umount -l /sys/fs/cgroup
            mount -t cgroup2 cgroup2 /sys/fs/cgroup
            exec systemd-nspawn --quiet --register=no --keep-unit --volatile=overlay --console=pipe --resolv-conf=off \
                --timezone=off --link-journal=no --directory="$2" --bind-ro="$3":/host \
                --machine="archiver-box-$4" --boot
        ' _ "$group" "$root" "$bind" "$$" </dev/null >"$dir/log" 2>&1 &
        echo $! >"$dir/nspawn"
        for ((try = 0; try < 600; try++)); do
            if pgrep -P "$(cat "$dir/nspawn")" | head -n 1 >"$dir/leader" && [[ -s $dir/leader ]]; then
                state=$(inside systemctl is-system-running 2>/dev/null || true)
                [[ $state != running && $state != degraded ]] || exit 0
            fi
            is_alive || break
            sleep 0.1
        done
        cat "$dir/log" >&2
        exit 1
        ;;
    run)
        dir=$2
        inside "${@:3}"
        ;;
    down)
        dir=$2
        inside systemctl poweroff --no-wall 2>/dev/null || true
        for ((try = 0; try < 200; try++)); do
            is_alive || break
            sleep 0.1
        done
        ! is_alive || kill -9 "$(cat "$dir/leader")"
        find "$(cat "$dir/group")" -depth -type d -exec rmdir {} \; 2>/dev/null || true
        ;;
esac
