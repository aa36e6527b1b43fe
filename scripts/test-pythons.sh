#!/bin/sh
# Puts every further CPython of this machine where httpd's user can read it, for tests/pythons.rs:
#   build/pythons/<version>        hard links to (or a copy of) ~/.pyenv/versions/<version>, which lies in
#                                  a home that is usually closed to others
#   build/pythons/<version>-venv   a virtual environment of it
#   build/pythons/3.13t            the free-threaded build that scripts/python-freethreaded.sh makes
#
# usage: scripts/test-pythons.sh
#        SKIP_FREE_THREADED=1 scripts/test-pythons.sh    without the free-threaded build; the tests say so
#
# Runs again at no cost. What is left out is said, with the reason.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh
. scripts/public.sh
umask 022

[ -d build/pythons ] || public_folder build/pythons >/dev/null
# The real place: virtual environments keep the path they were made by.
pythons=$(cd build/pythons && pwd -P)

# Gives the copied interpreter a run path of its own: a pyenv build names its original prefix there, which
# others cannot enter. The new text is shorter than any absolute path and is padded with NUL, so nothing
# in the file moves. Scripts among the programs have no such text and stay.
# rewrite_run_path INTERPRETER FILE PREFIX
rewrite_run_path() {
    "$1" - "$2" "$3/lib" <<'PYTHON'
import os, sys
path, old = sys.argv[1], os.fsencode(sys.argv[2])
new = b"$ORIGIN/../lib"
data = open(path, "rb").read()
if b"\0" + old + b"\0" in data and len(new) <= len(old):
    data = data.replace(b"\0" + old + b"\0", b"\0" + new.ljust(len(old), b"\0") + b"\0")
    temporary = path + ".new"
    with open(temporary, "wb") as out:
        out.write(data)
    os.chmod(temporary, 0o755)
    # A new file under the old name: writing into this one would change the original it is linked to.
    os.replace(temporary, path)
PYTHON
}

# take PREFIX NAME: one prefix becomes build/pythons/NAME.
take() {
    prefix=$1
    name=$2
    target=$pythons/$name
    # Which interpreter it was: installed anew, it is another file.
    stamp="$prefix $(stat -L -c '%i %Y' "$prefix/bin/python3")"
    if [ -e "$target/.taken" ] && [ "$(cat "$target/.taken")" = "$stamp" ]; then
        say "$target is there already"
        return 0
    fi
    rm -rf "$target"
    cp -al "$prefix" "$target" 2>/dev/null || { rm -rf "$target" && cp -a "$prefix" "$target"; }
    # Hard links share the mode with their original: what is closed there stays closed.
    for executable in "$target"/bin/python3*; do
        [ -L "$executable" ] || rewrite_run_path "$target/bin/python3" "$executable" "$prefix"
    done
    rm -rf "$target-venv"
    "$target/bin/python3" -m venv --without-pip "$target-venv" ||
        die "$target/bin/python3 cannot make a virtual environment"
    printf '%s\n' "$stamp" >"$target/.taken"
    say "$target is $("$target/bin/python3" -VV | head -n 1), from $prefix"
}

for prefix in "${PYENV_ROOT:-${HOME:-/root}/.pyenv}"/versions/*; do
    name=${prefix##*/}
    if [ -L "$prefix" ] || [ ! -x "$prefix/bin/python3" ]; then
        [ ! -d "$prefix" ] || say "skipped $prefix: no bin/python3, or a link to another version"
        continue
    fi
    about=$("$prefix/bin/python3" -c 'import os, sys, sysconfig
v = sysconfig.get_config_var
shared = v("INSTSONAME") or ""
there = ".so" in shared and os.path.exists(os.path.join(v("LIBDIR"), shared))
print(sys.implementation.name, "%d.%d" % sys.version_info[:2], "shared" if there else "static")') || about=
    case $about in
        "cpython 3."[0-7]" "*) say "skipped $prefix: Python ${about#cpython } is older than the tests look at" ;;
        # 3.8 is taken although it is too old: a test wants to see it refused.
        "cpython 3."*) take "$prefix" "$name" ;;
        *) say "skipped $prefix: not a CPython that runs" ;;
    esac
done

free=$pythons/3.13t
if [ -n "${SKIP_FREE_THREADED:-}" ]; then
    say "skipped the free-threaded Python: SKIP_FREE_THREADED is set"
    echo "SKIP_FREE_THREADED was set" >"$free.skipped"
elif scripts/python-freethreaded.sh; then
    rm -f "$free.skipped"
    take "$PWD/build/python3.13t" 3.13t
else
    code=$?
    [ "$code" = 77 ] || die "the free-threaded Python could not be built (SKIP_FREE_THREADED=1 goes without)"
    echo "scripts/python-freethreaded.sh cannot build it here" >"$free.skipped"
fi
