# Makes the nasty tree in the current directory. Sizes are for pieces of 1 MiB.
set -eu -o pipefail
umask 022

# Names.
mkdir names
cd names
printf a > $'new\nline'
printf b > $'esc\033[31mred'
printf c > ./-rf
printf d > './--checkpoint-action=exec=false'
printf e > '*?[a-z]{x,y}'
printf f > 'trailing space '
printf g > ' leading'
printf h > $'latin1-\xe9\xff\xfe'
printf i > $'back\\slash'
printf j > $'quote"\x27`$(false)'
printf k > "$(printf 'n%.0s' {1..255})"
printf l > "$(printf '\xc3\xa9%.0s' {1..127})"
printf m > '...'
printf n > $'\x01\x7f\t\r'
printf o > 'a=b'
mkdir $'dir \n\xff'
printf p > $'dir \n\xff/000001'
mkdir ' ' '#' '!x'
printf q > ' /x'
cd ..

# Depth: more than 1,600 bytes, and more than 100 and 255 at each bound of the old formats.
(
    for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14; do
        name=$(printf "d$i-%0125d" 0)
        mkdir "$name"
        printf %s "$i" > "$name/file"
        cd "$name"
    done
    ln -s ../file up
    ln file hard
)
for len in 97 98 99 100 101 154 155 156; do
    name=$(printf "%0${len}d" 7)
    printf x > "$name"
    ln -s "$name" "l$len"
done

# Links.
mkdir links
cd links
ln -s nowhere dangling
ln -s /etc/passwd absolute
ln -s ../names dir
ln -s . self
ln -s $'new\nline\xff' strange
ln -s "$(printf '%0*d' 4000 3)" long
ln -s '-rf' dash
printf hard > one
ln one two
ln one three
mkdir far
ln one far/four
setfattr -h -n trusted.note -v link dangling
cd ..

# What is no file.
mkdir special
mkfifo -m 0640 special/fifo
mknod -m 0660 special/char c 1 3
mknod -m 0600 special/block b 7 200
mknod special/large-numbers c 4095 1048575
python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("special/socket")'

# Metadata.
mkdir meta
cd meta
printf 1 > before-1970
touch -d '1901-12-14 12:00:00.123456789 UTC' before-1970
printf 2 > just-before-1970
touch -d '@-0.000000001' just-before-1970
printf 3 > nanoseconds
touch -d '@1234567890.987654321' nanoseconds
printf 4 > year-2242
touch -d '2242-03-16 12:56:31.5 UTC' year-2242
printf 4 > epoch
touch -d @0 epoch
ln -s epoch link-in-time
touch -h -d '@-1000000.25' link-in-time
printf 5 > owner
chown 4294967294:4294967294 owner
printf 5 > owner-3m
chown 3000000:2097152 owner-3m
printf 6 > setuid
chown 1234:5678 setuid
chmod 6755 setuid
mkdir sticky
chmod 3777 sticky
mkdir closed
printf secret > closed/inside
chmod 0 closed/inside closed
printf 7 > xattrs
setfattr -n user.nul -v 0x610062000a xattrs
setfattr -n user.empty xattrs
setfattr -n 'user.na=me %' -v x xattrs
setfattr -n user.large -v "$(printf 'v%.0s' {1..3000})" xattrs
setfattr -n trusted.t -v yes xattrs
printf program > capable
setcap cap_net_raw,cap_dac_read_search+ep capable
mkdir acl
printf 8 > acl/file
setfacl -m u:4242:rw,g:4243:r,m::rwx acl/file
setfacl -m u:4242:rwx acl
setfacl -d -m u:4242:rwx,g:77:r,o::- acl
printf 9 > acl/inherits
mkdir acl/below
setfattr -n user.dir -v d sticky
cd ..
mkdir -p empty/in/empty
: > empty/file

# Holes.
mkdir sparse
truncate -s 700000 sparse/all-hole
printf end | dd of=sparse/end bs=1 seek=600000 status=none
printf begin > sparse/begin
truncate -s 500001 sparse/begin
for at in 0 3 7 20 60; do printf "data-$at" | dd of=sparse/islands bs=8192 seek=$at conv=notrunc status=none; done
# Larger than a piece: segments with data, a bit of it, and none.
printf here | dd of=sparse/large bs=1 seek=100 status=none
printf there | dd of=sparse/large bs=1 seek=2500000 conv=notrunc status=none
truncate -s 3300000 sparse/large

touch -d '2001-01-01 01:01:01.010101010 UTC' names links special meta sparse empty/in empty
touch -d '2002-02-02 02:02:02.2 UTC' .
