#!/bin/sh
# Builds a free-threaded CPython 3.13 with a shared library into build/python3.13t, once.
#
# The source is that of Debian 13's python3.13 package, which apt fetches and verifies. Debian's
# patches are left out on purpose: the tests want CPython as its authors ship it.
#
# usage: scripts/python-freethreaded.sh
#   exit 0: build/python3.13t/bin/python3.13t is there;  77: not possible here, the reason is said;
#   anything else: it failed
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

suite=trixie
package=python3.13
prefix=$PWD/build/python3.13t
work=$PWD/build/python3.13t-source
python=$prefix/bin/python3.13t

# The probe is the finished state itself, so an interrupted build is taken up again.
probe() {
    "$python" -c 'import sqlite3, ssl, sys, sysconfig, zlib
sys.exit(0 if sysconfig.get_config_var("Py_GIL_DISABLED") == 1 else 1)' 2>/dev/null
}

if [ -x "$python" ] && probe; then
    say "$python is there already"
    exit 0
fi

command -v apt-get >/dev/null || skip "the source package is fetched with apt-get, which is not here"
mirror=$(debian_mirror)
[ -n "$mirror" ] || skip "apt has no Debian mirror; name one in DEBIAN_MIRROR"
keyring=$(debian_keyring)
[ -n "$keyring" ] || skip "Debian's archive keys are missing (package debian-archive-keyring)"
scripts/install-deps.sh freethreaded

# apt works in folders of our own: the system's sources and package lists are never touched.
mkdir -p "$work/apt/lists/partial" "$work/apt/cache/archives/partial"
printf 'deb-src [signed-by=%s] %s %s main\n' "$keyring" "$mirror" "$suite" >"$work/apt/sources.list"
own_apt() {
    apt-get -q \
        -o Dir::Etc::SourceList="$work/apt/sources.list" -o Dir::Etc::SourceParts=- \
        -o Dir::State::Lists="$work/apt/lists" -o Dir::Cache="$work/apt/cache" \
        -o APT::Sandbox::User="$(id -un)" -o Acquire::Languages=none "$@"
}

say "fetching the source of $package from Debian ($suite)"
own_apt update
rm -rf "$work/tree" "$work/download"
mkdir -p "$work/tree" "$work/download"
(cd "$work/download" && own_apt source --download-only "$package")
tar -xf "$(find "$work/download" -name "${package}_*.orig.tar.*" ! -name "*.asc")" \
    -C "$work/tree" --strip-components=1

say "building free-threaded CPython, one to two minutes (log: build/python3.13t-source/build.log)"
rm -rf "$prefix"
if ! (
    cd "$work/tree"
    # The run path lets bin/python3.13t find its library without LD_LIBRARY_PATH.
    ./configure --prefix="$prefix" --disable-gil --enable-shared --disable-test-modules \
        LDFLAGS="-Wl,-rpath,$prefix/lib"
    make -j"$(nproc)"
    make install
) >"$work/build.log" 2>&1; then
    tail -n 30 "$work/build.log" >&2
    die "building free-threaded CPython failed"
fi
probe ||
    die "$python is not free-threaded, or lacks ssl, sqlite3 or zlib; see $work/build.log"
rm -rf "$work/tree" "$work/apt" "$work/download"
say "$("$python" -VV) is in $prefix"
