# Helpers that the scripts of this folder share; read with `.`, never run.
# shellcheck shell=sh

say() { printf '%s: %s\n' "${0##*/}" "$*"; }
warn() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { warn "$*"; exit 1; }
# Exit status 77 is the customary "not done here, and that is no failure".
skip() { warn "SKIPPED: $*"; exit 77; }

# first PROGRAM...: the path of the first one that exists, or nothing.
first() {
    for candidate; do
        if path=$(command -v "$candidate" 2>/dev/null); then
            printf '%s\n' "$path"
            return 0
        fi
    done
    return 0
}

can_become_root() { [ "$(id -u)" = 0 ] || command -v sudo >/dev/null; }

# as_root COMMAND...: runs it as root, through sudo where needed.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "this needs root, and there is no sudo: run as root: $*"
    fi
}

# The Debian mirror that this machine's apt uses already; DEBIAN_MIRROR overrides it.
debian_mirror() {
    if [ -n "${DEBIAN_MIRROR:-}" ]; then
        printf '%s\n' "$DEBIAN_MIRROR"
    elif command -v apt-get >/dev/null; then
        # shellcheck disable=SC2016  # apt fills these in, not the shell
        apt-get indextargets --format '$(LABEL)|$(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
            sed -n 's/^Debian|//p' | head -n 1
    fi
}

# The keys that Debian's releases are signed with.
debian_keyring() {
    for file in /usr/share/keyrings/debian-archive-keyring.gpg \
        /usr/share/keyrings/debian-archive-keyring.pgp; do
        if [ -r "$file" ]; then
            printf '%s\n' "$file"
            return 0
        fi
    done
    return 0
}

# rustup's programs, and sbin, are often missing from PATH.
PATH=${CARGO_HOME:-${HOME:-/root}/.cargo}/bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH
# httpd's programs, by the names distributions give them.
httpd_program() { first ${HTTPD:+"$HTTPD"} apache2 httpd; }
apxs_program() { first ${APXS:+"$APXS"} apxs apxs2; }

# httpd's folder of loadable modules.
httpd_modules() {
    apxs=$(apxs_program)
    if [ -n "$apxs" ]; then
        "$apxs" -q LIBEXECDIR
        return
    fi
    for dir in /usr/lib/apache2/modules /usr/lib64/httpd/modules /usr/lib/httpd/modules; do
        if [ -d "$dir" ]; then
            printf '%s\n' "$dir"
            return
        fi
    done
}

# The user httpd's children run as when httpd is started by root: the distribution's own.
httpd_user() {
    for user in www-data apache httpd nobody; do
        if id "$user" >/dev/null 2>&1; then
            printf '%s\n' "$user"
            return
        fi
    done
}

# load_modules NAME...: LoadModule lines for those that are files; the others are built in.
load_modules() {
    modules=$(httpd_modules)
    for name; do
        if [ -e "$modules/mod_$name.so" ]; then
            printf 'LoadModule %s_module "%s/mod_%s.so"\n' "$name" "$modules" "$name"
        fi
    done
}

# Where cargo leaves what it builds.
target_dir() { printf '%s\n' "${CARGO_TARGET_DIR:-$PWD/target}"; }

# as_user USER COMMAND...: root runs it with that user's rights.
as_user() {
    user=$1
    shift
    setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups "$@"
}

# unreachable USER FILE: prints the first part of FILE's path that USER may not enter or read.
unreachable() {
    part=
    rest=${2#/}
    while [ "${rest#*/}" != "$rest" ]; do
        part=$part/${rest%%/*}
        rest=${rest#*/}
        as_user "$1" test -x "$part" || { printf '%s\n' "$part"; return; }
    done
    as_user "$1" test -r "$2" || printf '%s\n' "$2"
}
