# make rehearse DIR=…  the main job on a directory: pack, compress, encrypt, deliver, restore, compare
# make check           all tests
# make faults          the tests of kills, disks that fail, power cuts, hostile sources and networks at length; SEED= LEVEL=
# make deps            what these need: Debian packages, and servers for tests; the others call it
# make install         DESTDIR= PREFIX=/usr BINARY=
# make deb             a Debian package, in target/debian
# make bench           ratios to tar | xz | gpg, to zstd and to restic, of an upload to aws, s5cmd and rclone, and of
#                      bringing back to gpg | xz | tar and to aws

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

DESTDIR ?=
PREFIX ?= /usr
DIR ?=
CARGO ?= cargo
SEED ?=
LEVEL ?= 1

# To build: a C compiler for what is bundled, nettle and clang's library for OpenPGP.
# To test: the stock tools that must be able to read what we write.
PACKAGES := build-essential pkg-config nettle-dev libclang-dev gnupg xz-utils zstd acl attr strace libarchive-tools libcap2-bin \
            e2fsprogs xfsprogs python3 jq curl openssl systemd-container mmdebstrap procps zbar-tools

# To test against S3 that others wrote: Ceph, and Python for LocalStack, that tests/servers/second.sh installs below
# target. Nobody who only builds needs these 600 MB.
S3_PACKAGES := ceph-mon ceph-mgr ceph-osd radosgw ceph-common python3-venv

BINARY ?= target/release/archiver
VERSION ?= $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)

# Debian's shell looks here for packages, and there for what was installed by hand.
ZSH := $(if $(filter /usr,$(PREFIX)),vendor-completions,site-functions)

.PHONY: build deps build-deps rehearse check faults bench install deb

build: build-deps
	$(CARGO) build --release --locked

# Silent and without network when nothing is missing. Package lists are fetched only when they are needed.
build-deps: wanted := $(PACKAGES)
deps: wanted := $(PACKAGES) $(S3_PACKAGES)
deps build-deps:
	@command -v $(CARGO) >/dev/null || { echo 'Cargo is missing: install Rust from https://rustup.rs' >&2; exit 1; }
	@if ! command -v dpkg-query >/dev/null; then \
	    echo 'Not a Debian system; these are needed under the names they have here: $(wanted)' >&2; exit 0; \
	fi; \
	missing=(); \
	for package in $(wanted); do \
	    status=$$(dpkg-query -W -f '$${db:Status-Status}' "$$package" 2>/dev/null || true); \
	    [[ $$status == installed ]] || missing+=("$$package"); \
	done; \
	[[ $${#missing[@]} -gt 0 ]] || exit 0; \
	echo "Installing $${missing[*]}" >&2; \
	as_root=(); \
	if [[ $$(id -u) != 0 ]]; then \
	    command -v sudo >/dev/null || { echo 'Become root, or install sudo, for this' >&2; exit 1; }; \
	    as_root=(sudo); \
	fi; \
	install=("$${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends); \
	"$${install[@]}" "$${missing[@]}" >&2 || { "$${as_root[@]}" apt-get update -qq; "$${install[@]}" "$${missing[@]}" >&2; }
	@[[ $@ != deps ]] || tests/servers/second.sh install

rehearse: build
	$(BINARY) rehearse $(if $(DIR),"$(DIR)")

check: deps
	status=0; \
	$(CARGO) test --locked --no-fail-fast --package archiver-s3-double || status=$$?; \
	$(CARGO) test --locked --no-fail-fast || status=$$?; \
	exit $$status

faults: deps
	tests/faults.sh $(or $(SEED),$$RANDOM) $(LEVEL)

bench: build
	benches/speed.sh
	benches/upload.sh
	benches/restore.sh
	benches/scale.sh --quick

# Builds only where nothing is built yet, so that root needs no Rust: `make build && sudo make install`.
$(BINARY):
	$(MAKE) build

# What there is of units and of what they need; the configuration only where there is none.
UNITS := '$(DESTDIR)$(PREFIX)/lib/systemd/system'

install: $(BINARY)
	install -D -m 0755 $(BINARY) '$(DESTDIR)$(PREFIX)/bin/archiver'
	install -D -m 0644 -t $(UNITS) packaging/systemd/*.service
	install -D -m 0755 packaging/systemd/generator '$(DESTDIR)$(PREFIX)/lib/systemd/system-generators/archiver'
	sed -i 's|/usr/bin/|$(PREFIX)/bin/|g' $(UNITS)/archiver*.service \
	    '$(DESTDIR)$(PREFIX)/lib/systemd/system-generators/archiver'
	install -D -m 0644 packaging/systemd/sysusers.conf '$(DESTDIR)$(PREFIX)/lib/sysusers.d/archiver.conf'
	install -D -m 0644 -t '$(DESTDIR)$(PREFIX)/lib/systemd/catalog' packaging/systemd/archiver.catalog
	install -D -m 0644 packaging/systemd/tmpfiles.conf '$(DESTDIR)$(PREFIX)/lib/tmpfiles.d/archiver.conf'
	[[ -e '$(DESTDIR)/etc/archiver.toml' ]] || install -D -m 0640 config/archiver.toml '$(DESTDIR)/etc/archiver.toml'
	install -D -m 0644 -t '$(DESTDIR)$(PREFIX)/share/doc/archiver/examples' packaging/examples/home.conf
	pages=$$($(BINARY) man --list); \
	for file in $$pages; do \
	    page=$${file%.*}; page=$${page#archiver-}; \
	    [[ $$page != archiver ]] || page=; \
	    $(BINARY) man $$page | \
	        install -D -m 0644 /dev/stdin "$(DESTDIR)$(PREFIX)/share/man/man$${file##*.}/$$file"; \
	done
	$(BINARY) completions bash | install -D -m 0644 /dev/stdin '$(DESTDIR)$(PREFIX)/share/bash-completion/completions/archiver'
	$(BINARY) completions zsh | install -D -m 0644 /dev/stdin '$(DESTDIR)$(PREFIX)/share/zsh/$(ZSH)/_archiver'
	$(BINARY) completions fish | install -D -m 0644 /dev/stdin '$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/archiver.fish'
	install -D -m 0644 LICENSE '$(DESTDIR)$(PREFIX)/share/doc/archiver/LICENSE'
	install -D -m 0644 CHANGELOG.md '$(DESTDIR)$(PREFIX)/share/doc/archiver/CHANGELOG.md'

deb: $(BINARY)
	@command -v dpkg-shlibdeps >/dev/null || { echo 'dpkg-dev is missing: apt-get install dpkg-dev' >&2; exit 1; }
	mkdir -p $(or $(OUT),target/debian)
	packaging/deb.sh '$(BINARY)' '$(VERSION)' '$(or $(OUT),target/debian)'
