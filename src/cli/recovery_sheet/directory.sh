get() { cp "$vault/$1" .; }
list() { (cd "$vault" && find "$1" -type f | LC_ALL=C sort); }
readable() { test -r "$vault/$1"; }
thaw() { echo "$vault/$1 cannot be read" >&2; return 1; }
