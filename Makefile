# The commands of this project. GNU make.
#
#   make serve [APP=path/to/wsgi.py] [PORT=8000]   build, and serve an application through httpd
#   make test                                      everything that must pass
#   make check                                     formatting and lints
#   make bench-quick                               ratios to the bare handler and to mod_wsgi
#   make bench [BENCH="--rounds 16 …"]             the published figures, against every peer
#   make install [DESTDIR=…] [LIBEXECDIR=…]        the module and daemon mode's two files into httpd's folder of modules
#   make clean                                     what was built; the caches in build/ stay
#   make distclean                                 those as well

# rustup's cargo first, as in scripts/common.sh.
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH):/usr/local/sbin:/usr/sbin:/sbin

APP ?=
PORT ?= 8000
BENCH ?= --rounds 16 --markdown docs/performance.md
TARGET := $(or $(CARGO_TARGET_DIR),target)
APXS = $(or $(shell command -v apxs || command -v apxs2),apxs)
LIBEXECDIR ?= $(shell $(APXS) -q LIBEXECDIR)

.PHONY: all serve release test check bench bench-quick bench-prepare install clean distclean

all: release

release:
	scripts/install-deps.sh build
	cargo build --release --workspace

serve:
	scripts/install-deps.sh serve
	cargo build --release --workspace
	@PORT='$(PORT)' scripts/serve.sh '$(APP)'

# The integration tests load target/debug/libmod_wsgi_rs.so, which `cargo test` alone does not make.
test:
	scripts/install-deps.sh test
	scripts/test-venv.sh
	scripts/test-pythons.sh
	cargo build --workspace
	cargo test --workspace

check:
	scripts/install-deps.sh check
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

bench: bench-prepare
	bench/run.py $(BENCH)

bench-quick: bench-prepare
	bench/run.py --quick

# The benchmark's own tests first: figures are no better than what counts them.
bench-prepare:
	scripts/install-deps.sh bench
	python3 -m unittest discover -q -s bench
	cargo build --release --workspace

# No dependency on the build: `sudo make install` must not compile as root.
install:
	@for file in libmod_wsgi_rs.so libmod_wsgi_engine.so mod_wsgi_supervisor; do \
	    test -e "$(TARGET)/release/$$file" || { echo "run 'make' first" >&2; exit 1; }; done
	@test -n '$(LIBEXECDIR)' || { echo "apxs is not there; name httpd's folder of modules in LIBEXECDIR" >&2; exit 1; }
	install -d '$(DESTDIR)$(LIBEXECDIR)'
	install -m 644 '$(TARGET)/release/libmod_wsgi_engine.so' '$(DESTDIR)$(LIBEXECDIR)/mod_wsgi_engine.so'
	install -m 755 '$(TARGET)/release/mod_wsgi_supervisor' '$(DESTDIR)$(LIBEXECDIR)/mod_wsgi_supervisor'
	install -m 644 '$(TARGET)/release/libmod_wsgi_rs.so' '$(DESTDIR)$(LIBEXECDIR)/mod_wsgi_rs.so'

clean:
	cargo clean
	rm -rf build/serve

distclean: clean
	scripts/debian13.sh --remove
	@for link in build/*; do case "$$(readlink "$$link")" in /var/tmp/mod_wsgi_rs-*) rm -rf "$$(readlink "$$link")";; esac; done
	rm -rf build
