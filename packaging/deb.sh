#!/usr/bin/env bash
# deb.sh BINARY VERSION OUT: a Debian package of a program that is built, into the directory OUT. Needs dpkg-dev, no root.
set -euo pipefail

binary=$(realpath "$1") version=$2 out=$(realpath "$3")
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
umask 022
make --no-print-directory install BINARY="$binary" DESTDIR="$root" PREFIX=/usr >/dev/null
strip --strip-unneeded --remove-section=.comment --remove-section=.note "$root/usr/bin/archiver"
install -d -m 0700 "$root/etc/archiver"

doc=$root/usr/share/doc/archiver
rm "$doc/LICENSE"
install -m 0644 packaging/debian/copyright "$doc/copyright"
maintainer=$(sed -n 's/^Maintainer: //p' packaging/debian/control)
printf 'archiver (%s) stable; urgency=medium\n\n  * What is new: CHANGELOG.md.gz\n\n -- %s  %s\n' \
    "$version" "$maintainer" "$(date -R -r CHANGELOG.md)" >"$doc/changelog"
find "$root/usr/share/man" "$doc"/{changelog,CHANGELOG.md} -type f -exec gzip -9n {} +
# Keys and what names them are nobody's business.
install -d "$root/usr/share/lintian/overrides"
printf 'archiver: %s\n' 'non-standard-dir-perm 0700 != 0755 [etc/archiver/]' \
    'non-standard-file-perm 0640 != 0644 [etc/archiver.toml]' >"$root/usr/share/lintian/overrides/archiver"

# The libraries that it is linked with say which packages, and how new.
mkdir -p "$work/debian" "$root/DEBIAN"
cp packaging/debian/control "$work/debian/control"
libraries=$(cd "$work" && dpkg-shlibdeps -O "$root/usr/bin/archiver" 2>/dev/null | sed -n 's/^shlibs:Depends=//p')
[[ -n $libraries ]]

arch=$(dpkg --print-architecture)
size=$(du -k -s --apparent-size "$root" | cut -f 1)
sed -n '/^Package:/,$p' packaging/debian/control |
    sed -e "s/^Architecture: .*/Version: $version\nArchitecture: $arch\nInstalled-Size: $size/" \
        -e "s/\${shlibs:Depends}/$libraries/" >"$root/DEBIAN/control"
for field in Maintainer Priority Section; do
    line=$(grep "^$field:" packaging/debian/control)
    sed -i "1a $line" "$root/DEBIAN/control"
done
echo /etc/archiver.toml >"$root/DEBIAN/conffiles"
install -m 0755 packaging/debian/{postinst,prerm,postrm} "$root/DEBIAN/"
(cd "$root" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
dpkg-deb --root-owner-group -Zxz -z1 --build "$root" "$out/archiver_${version}_$arch.deb"
