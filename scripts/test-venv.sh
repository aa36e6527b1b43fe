#!/bin/sh
# Makes build/venv: the real applications (Django, Flask, CherryPy, web.py) and the real clients
# (requests, httpx with HTTP/2) that tests/apps.rs drives, in pinned versions from PyPI.
#
# usage: scripts/test-venv.sh            with the system's python3
#        PYTHON=/usr/bin/python3.12 scripts/test-venv.sh
#
# Runs again at no cost: a stamp names interpreter and versions, and nothing is done while it fits.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh
. scripts/public.sh
umask 022

# /usr/bin first: a python3 found through PATH may lie in a private home (pyenv, conda), where httpd's
# user cannot read it.
python=$(first ${PYTHON:+"$PYTHON"} /usr/bin/python3 python3)
[ -n "$python" ] || die "no python3; run scripts/install-deps.sh test"

version=$("$python" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])')
case $version in
    2.* | 3.[0-8].*) die "$python is Python $version; 3.9 or newer is needed" ;;
    3.9.*) wanted=tests/sites/requirements-3.9.txt ;;
    *) wanted=tests/sites/requirements.txt ;;
esac

venv=build/venv
stamp="$python $version $(cksum <"$wanted")"
if [ -f "$venv/.stamp" ] && [ "$(cat "$venv/.stamp")" = "$stamp" ]; then
    say "$venv is there already"
    exit 0
fi
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    die "$python has no venv module; run scripts/install-deps.sh test"

folder=$(public_folder "$venv")
"$python" -m venv --clear "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check \
    --only-binary :all: -r "$wanted" || die "pip could not install $wanted"

if [ "$(id -u)" = 0 ]; then
    closed=$(unreachable "$(httpd_user)" "$(readlink -f "$folder/bin/python")")
    [ -z "$closed" ] || die "the user that httpd runs as, $(httpd_user), cannot get past $closed" \
        "to the interpreter of $venv; name another one, for example PYTHON=/usr/bin/python3"
fi
printf '%s\n' "$stamp" >"$venv/.stamp"
say "$venv has Python $version with $(grep -c == "$wanted") packages"
