# Adds to the nasty tree files about as large as a piece of 1 MiB, and many small ones.
set -eu -o pipefail

# Sizes at the bound of a piece: at, below, above, and where headers and end make the difference.
mkdir sizes
for size in 1048577 1048576 1048575 1042945 1042944 1042943 1042432; do
    head -c $size /dev/urandom > sizes/f$size
done
head -c 2500000 /dev/urandom > sizes/three
chown 4294967294:99 sizes/three
chmod 4711 sizes/three
setfattr -n user.seg -v yes sizes/three
touch -d '1965-05-05 05:05:05.555555555 UTC' sizes/three

# Many, so that pieces are cut between them; and a hard link into another piece.
mkdir many
for i in $(seq 100); do head -c $((i * 300)) /dev/urandom > "many/$i"; done
ln links/one zz-far-link
ln many/1 zz-far-link-2
ln many/1 zz-far-link-3

touch -d '2001-01-01 01:01:01.010101010 UTC' sizes many
touch -d '-1 year' .
