#!/usr/bin/env bash
# mta.sh ROOT DIR PORT
#
# A real mail server, Exim, on PORT of 127.0.0.1, until it is killed: it takes mails only after STARTTLS and AUTH.
# ROOT is a Debian made here when it is missing; DIR/host holds its certificate and key, and gets the mails in
# DIR/host/mails. Needs root and mmdebstrap.
set -euo pipefail

root=$1 dir=$2 port=$3
if [[ ! -e $root/made ]]; then
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    # A mirror may be out of reach for a moment.
    for ((try = 0; try < 3; try++)); do
        rm -rf "$root"
        ! mmdebstrap --quiet --variant=minbase --include=exim4-daemon-light "$suite" "$root" || touch "$root/made"
        [[ ! -e $root/made ]] || break
    done
    [[ -e $root/made ]]
fi
exec unshare --mount --pid --fork --kill-child bash -euo pipefail -c '
    root=$1 dir=$2 port=$3
    mkdir -p "$dir/over"
    mount -t tmpfs tmpfs "$dir/over"
    mkdir "$dir/over/up" "$dir/over/work" "$dir/over/root"
    mount -t overlay overlay -o "lowerdir=$root,upperdir=$dir/over/up,workdir=$dir/over/work" "$dir/over/root"
    in=$dir/over/root
    mkdir -p "$in/host" "$dir/host/mails"
    mount --bind "$dir/host" "$in/host"
    mount -t proc proc "$in/proc"
    mount --bind /dev "$in/dev"
    chroot "$in" chown mail /host/mails
    chroot "$in" install -o Debian-exim -m 600 /host/key.pem /etc/key.pem
    install -m 644 "$in/host/cert.pem" "$in/etc/cert.pem"
    cat >"$in/etc/exim4/exim4.conf" <<END
primary_hostname = mail.example.org
local_interfaces = 127.0.0.1
daemon_smtp_ports = $port
host_lookup =
rfc1413_query_timeout = 0s
log_file_path = /host/exim-%slog
tls_advertise_hosts = *
tls_certificate = /etc/cert.pem
tls_privatekey = /etc/key.pem
auth_advertise_hosts = \${if eq{\$tls_in_cipher}{}{}{*}}
acl_smtp_rcpt = recipient
begin acl
recipient:
  deny !encrypted = *
  deny !authenticated = *
  accept
begin routers
everybody:
  driver = accept
  transport = keep
begin transports
keep:
  driver = appendfile
  directory = /host/mails
  maildir_format
  user = mail
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_set_id = \$auth2
  server_condition = \${if and{{eq{\$auth2}{backup}}{eq{\$auth3}{a password of a test}}}}
END
    chmod 644 "$in/etc/exim4/exim4.conf"
    touch "$dir/host/exim-mainlog" "$dir/host/exim-paniclog" "$dir/host/exim-rejectlog"
    chroot "$in" chown Debian-exim /host/exim-mainlog /host/exim-paniclog /host/exim-rejectlog
    exec chroot "$in" exim4 -bdf
' _ "$root" "$dir" "$port"
