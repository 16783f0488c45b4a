# What the scripts of the servers share; to be sourced. `dir` is the directory of the server that is meant.
# shellcheck shell=bash disable=SC2154

fail() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# The comment at the top of the script.
usage() {
    sed -n '2,/^[^#]/s/^#\( \|$\)//p' "$0" >&2
    exit 2
}

# Waits until a command succeeds, at most so many tenths of a second.
wait_for() {
    local tenths=$1 try
    shift
    for ((try = 0; try < tenths; try++)); do
        ! "$@" || return 0
        sleep 0.1
    done
    return 1
}

# The pid of a process of ours, if it runs. A pid file may outlive its process, and the pid be another's by now:
# `is_ours PID`, of the script, tells.
pid_of() {
    local pid
    pid=$(cat "$dir/run/$1.pid" 2>/dev/null) && [[ -n $pid ]] && is_ours "$pid" 2>/dev/null && echo "$pid"
}

is_gone() { ! pid_of "$1" >/dev/null; }

end() {
    local name=$1 pid
    pid=$(pid_of "$name") || return 0
    kill "$pid" 2>/dev/null || true
    wait_for 300 is_gone "$name" || kill -9 "$pid" 2>/dev/null || true
    wait_for 50 is_gone "$name" || fail "$name does not end"
    rm -f "$dir/run/$name.pid"
}

# A port on loopback that nobody listens on answers at once.
is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# The first of so many free ports in a row, below those that the kernel hands out to clients.
choose_port() {
    local count=$1 try at port
    for ((try = 0; try < 50; try++)); do
        port=$((16000 + RANDOM % 400 * 40))
        for ((at = port; at < port + count; at++)); do
            is_free "$at" || continue 2
        done
        echo "$port"
        return
    done
    fail "no $count free ports in a row"
}

# The answer to a GET from the server on `port`.
get() {
    (exec 3<>"/dev/tcp/127.0.0.1/$port" && printf 'GET %s HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' "$1" >&3 && timeout 5 cat <&3) 2>/dev/null
}

# Debian's packages that are missing, silently when there are none.
get_packages() {
    local missing=() package as_root=() get
    for package; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true) == installed ]] ||
            missing+=("$package")
    done
    [[ ${#missing[@]} -gt 0 ]] || return 0
    echo "Installing ${missing[*]}" >&2
    [[ $(id -u) == 0 ]] || as_root=(sudo)
    get=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends)
    "${get[@]}" "${missing[@]}" >&2 || { "${as_root[@]}" apt-get update -qq && "${get[@]}" "${missing[@]}" >&2; }
}
