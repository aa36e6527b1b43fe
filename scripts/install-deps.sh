#!/bin/sh
# Installs what is missing for one purpose, with the distribution's own packages, and says so.
#
# usage: scripts/install-deps.sh PURPOSE...
#   build          headers, compilers and Rust, enough for `cargo build`
#   serve          build + httpd, Python and its shared library
#   test           serve + what the test suite drives
#   check          rustfmt and clippy
#   bench          serve + load generators, strace, valgrind and what compiles the peers
#   freethreaded   what compiling CPython needs
#   debian13       debootstrap
#
# On Debian and Ubuntu httpd comes from apache2-bin, which is the server and its modules without a
# service: nothing is started, enabled or configured, and a site's own Apache is left as it is.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

main() {
    for purpose; do
        case $purpose in
            build | serve | test | check | bench | freethreaded | debian13) ;;
            *) die "unknown purpose '$purpose'" ;;
        esac
    done
    if command -v apt-get >/dev/null; then
        family=apt
    elif command -v dnf >/dev/null; then
        family=dnf
    else
        family=none
    fi
    for purpose; do
        case $purpose in
            build) build_packages && ensure_rust ;;
            serve) build_packages && serve_packages && ensure_rust ;;
            test) build_packages && serve_packages && test_packages && ensure_rust ;;
            check) ensure_rust_tools ;;
            bench) build_packages && serve_packages && bench_packages && ensure_rust ;;
            freethreaded) freethreaded_packages ;;
            debian13) debian13_packages ;;
        esac
    done
}

# ---- what each purpose needs, per family of distributions ----------------------------------------

build_packages() {
    case $family in
        apt)
            # Any one libclang does (libclang-cpp is another library); the unversioned package is the
            # distribution's choice.
            clang=libclang-dev
            [ -z "$(ls -d /usr/lib/llvm-*/lib/libclang.so* \
                /usr/lib/llvm-*/lib/libclang-[0-9]*.so* 2>/dev/null)" ] || clang=
            # shellcheck disable=SC2086
            need apache2-dev gcc libc6-dev pkg-config ca-certificates $clang
            ;;
        dnf)
            need httpd-devel apr-devel apr-util-devel gcc pkgconf-pkg-config clang \
                redhat-rpm-config
            ;;
        none) need_commands 'apxs apxs2' 'cc gcc' pkg-config ;;
    esac
}

serve_packages() {
    case $family in
        apt)
            need apache2-bin media-types python3 python3-venv curl
            # The library's package carries the version of this release's python3.
            need "lib$(/usr/bin/python3 -c 'import sys; print("python%d.%d" % sys.version_info[:2])')"
            ;;
        dnf)
            # Rocky's minimal images have curl-minimal, which conflicts with curl and is enough.
            command -v curl >/dev/null || need curl
            need httpd python3 python3-libs
            ;;
        none) need_commands 'apache2 httpd' python3 curl ;;
    esac
}

test_packages() {
    case $family in
        apt) need openssl strace nghttp2-client ;;
        dnf)
            need openssl strace mod_ssl mod_http2
            # Rocky keeps h2load in a repository that is off by default.
            command -v h2load >/dev/null || wish nghttp2
            ;;
        none) need_commands openssl strace ;;
    esac
}

bench_packages() {
    case $family in
        apt) need wrk nghttp2-client openssl strace valgrind python3-dev ;;
        dnf)
            need openssl strace valgrind python3-devel mod_ssl mod_http2
            wish wrk
            # As for the tests: in a repository of Rocky's that is off by default.
            command -v h2load >/dev/null || wish nghttp2
            ;;
        none) ;;
    esac
    need_commands wrk h2load openssl strace valgrind
}

freethreaded_packages() {
    case $family in
        apt)
            need gcc libc6-dev make pkg-config xz-utils \
                zlib1g-dev libssl-dev libffi-dev libsqlite3-dev
            ;;
        *) need_commands 'cc gcc' make xz ;;
    esac
}

debian13_packages() {
    case $family in
        apt) need debootstrap debian-archive-keyring ;;
        dnf) need debootstrap debian-keyring ;;
        none) need_commands debootstrap ;;
    esac
}

# ---- packages ------------------------------------------------------------------------------------

# need PACKAGE...: installs those that are missing; ends the script when that fails.
need() {
    missing=
    for package; do
        installed "$package" || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    case $family in
        apt) by_hand="apt-get install$missing" ;;
        dnf) by_hand="dnf install$missing" ;;
    esac
    can_become_root || die "packages are missing, and only root may install them: $by_hand"
    say "installing:$missing"
    # shellcheck disable=SC2086
    install_packages $missing || die "these packages could not be installed:$missing"
}

# wish PACKAGE: as need, but the absence is only reported.
wish() {
    installed "$1" && return 0
    if ! can_become_root; then
        warn "$1 is not installed; what needs it will say so"
        return 0
    fi
    say "installing, if it can be had: $1"
    install_packages "$1" || warn "$1 is not available here; what needs it will say so"
}

installed() {
    case $family in
        apt) dpkg-query -W -f '${Status}\n' "$1" 2>/dev/null | grep -q '^install ok installed' ;;
        dnf) rpm -q "$1" >/dev/null 2>&1 ;;
    esac
}

fresh=
install_packages() {
    case $family in
        apt)
            if [ -z "$fresh" ]; then
                as_root apt-get -q update </dev/null
                fresh=yes
            fi
            as_root env DEBIAN_FRONTEND=noninteractive \
                apt-get -q -y --no-install-recommends install "$@" </dev/null
            ;;
        dnf) as_root dnf -y -q install "$@" </dev/null ;;
    esac
}

# need_commands 'A B' C: one of A or B, and C, must be there; for systems without a known installer.
need_commands() {
    for names; do
        # shellcheck disable=SC2086
        [ -n "$(first $names)" ] || die "one of these programs is needed and not found: $names"
    done
}

# ---- Rust ----------------------------------------------------------------------------------------

minimum=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)

# at_least VERSION: whether it reaches the minimum that Cargo.toml states.
at_least() {
    [ "$(printf '%s\n%s\n' "$minimum" "$1" | sort -V | head -n 1)" = "$minimum" ]
}

have_rust() {
    found=$(rustc --version 2>/dev/null | cut -d ' ' -f 2) || return 1
    command -v cargo >/dev/null && [ -n "$found" ] && at_least "$found"
}

# packaged PACKAGE: whether the distribution offers it new enough.
packaged() {
    case $family in
        apt) version=$(apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: *//p') ;;
        dnf)
            version=$(dnf -q repoquery --latest-limit 1 --qf '%{version}\n' "$1" 2>/dev/null |
                tail -n 1)
            ;;
        none) version= ;;
    esac
    [ -n "$version" ] && [ "$version" != "(none)" ] && at_least "${version%%[+-]*}"
}

ensure_rust() {
    have_rust && return 0
    found=$(rustc --version 2>/dev/null) || found="no Rust"
    say "$found found, $minimum or newer is needed"
    if [ "$family" = apt ] && [ -z "$fresh" ] && can_become_root; then
        as_root apt-get -q update </dev/null
        fresh=yes
    fi
    # Debian 12 has an old `cargo` and a current `cargo-web`, kept for building browsers.
    for package in cargo cargo-web; do
        if can_become_root && packaged "$package"; then
            say "installing Rust from the distribution's package $package"
            install_packages "$package" && hash -r && have_rust && return 0
        fi
    done
    rust_by_rustup
}

rust_by_rustup() {
    if ! command -v rustup >/dev/null && can_become_root && packaged_rustup; then
        say "installing the distribution's rustup"
        install_packages rustup || warn "the distribution's rustup could not be installed"
    fi
    if command -v rustup >/dev/null; then
        say "asking rustup for the stable toolchain"
        rustup toolchain install stable --profile minimal -c rustfmt -c clippy &&
            rustup default stable
    else
        say "installing rustup from https://sh.rustup.rs into ${CARGO_HOME:-$HOME/.cargo}"
        script=$(mktemp)
        if curl --proto '=https' --tlsv1.2 -fsSL https://sh.rustup.rs -o "$script"; then
            # A distribution's older Rust may stay; ours stands before it in PATH.
            RUSTUP_INIT_SKIP_PATH_CHECK=yes \
                sh "$script" -y --no-modify-path --profile minimal -c rustfmt -c clippy \
                </dev/null || true
        fi
        rm -f "$script"
    fi
    hash -r
    have_rust || die "Rust $minimum or newer could not be installed; install it (https://rustup.rs)
and run this again"
}

packaged_rustup() {
    case $family in
        apt) apt-cache policy rustup 2>/dev/null | grep -q 'Candidate: [0-9]' ;;
        dnf) dnf -q repoquery rustup 2>/dev/null | grep -q . ;;
        none) false ;;
    esac
}

ensure_rust_tools() {
    ensure_rust
    have_rust_tools && return 0
    if command -v rustup >/dev/null; then
        rustup component add rustfmt clippy
    else
        case $family in
            apt)
                if packaged rust-clippy && packaged rustfmt; then need rust-clippy rustfmt; fi
                ;;
            dnf) wish clippy && wish rustfmt ;;
        esac
    fi
    have_rust_tools && return 0
    # Debian 12's cargo-web comes without clippy; rustup's toolchain stands before it in PATH.
    rust_by_rustup
    have_rust_tools || die "cargo fmt and cargo clippy are needed and could not be installed"
}

have_rust_tools() {
    cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1
}

main "$@"
