#!/bin/sh
# Proves that the module built here runs elsewhere: in a Debian 13 of its own, with that system's
# httpd, Python 3.13 and libpython, and without any compiler.
#
# usage: scripts/debian13.sh              the check; the system is made once, in build/debian13
#        scripts/debian13.sh --no-module  only that the system and its httpd work
#        scripts/debian13.sh --remove     removes build/debian13
#   environment: MOD_WSGI_RS_SO  the module; default: target/release/libmod_wsgi_rs.so
#   exit 0: it serves;  77: not possible here, the reason is said;  anything else: it failed
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

suite=trixie
version=3.13
root=$PWD/build/debian13
module=${MOD_WSGI_RS_SO:-$(target_dir)/release/libmod_wsgi_rs.so}

main() {
    case ${1:-} in
        --remove)
            # A mount left by an interrupted debootstrap must not be emptied with the folder.
            awk -v top="$root/" 'index($2, top) == 1 { print $2 }' /proc/mounts | sort -r |
                while read -r mounted; do umount "$mounted"; done
            rm -rf --one-file-system "$root"
            ;;
        --inside) inside "$2" "$3" ;;
        --no-module) outside none ;;
        '') outside "$module" ;;
        *) die "unknown option '$1'" ;;
    esac
}

outside() {
    [ "$(id -u)" = 0 ] || skip "making and entering another system needs root"
    [ "$1" = none ] || [ -e "$1" ] || die "$1 is not there; run: cargo build --release"
    unshare --mount sh -c 'mount -t tmpfs none /mnt' 2>/dev/null ||
        skip "this machine does not allow mounting (a container without that right?)"
    make_system

    rm -rf "$root/srv/check"
    mkdir -p "$root/srv/check/htdocs"
    chmod 755 "$root/srv" "$root/srv/check"
    install -m 644 examples/hello/wsgi.py "$root/srv/check/wsgi.py"
    [ "$1" = none ] || install -m 644 "$1" "$root/srv/check/mod_wsgi_rs.so"

    port=$(free_port)
    # Namespaces of its own: whatever happens, no mount stays behind and no process lives on.
    status=0
    unshare --mount --pid --fork --kill-child "$0" --inside "$1" "$port" || status=$?
    if [ "$status" != 0 ]; then
        tail -n 30 "$root/srv/check/error.log" >&2 2>/dev/null || :
        die "the check in Debian 13 failed"
    fi
}

make_system() {
    [ ! -e "$root/.complete" ] || return 0
    scripts/install-deps.sh debian13
    keyring=$(debian_keyring)
    [ -n "$keyring" ] || skip "Debian's archive keys are missing (package debian-archive-keyring)"
    main --remove
    mkdir -p "$root"
    say "making a Debian 13 in $root (log: build/debian13.log)"
    # apache2-bin is the server with its modules; nothing here may need more. Without a mirror in
    # apt's sources debootstrap takes its own.
    # shellcheck disable=SC2046
    debootstrap --variant=minbase --keyring="$keyring" \
        --include="apache2-bin,python3,libpython$version,curl" \
        "$suite" "$root" $(debian_mirror) >"$root.log" 2>&1 || {
        tail -n 20 "$root.log" >&2
        die "debootstrap failed"
    }
    chroot "$root" apt-get clean
    touch "$root/.complete"
}

free_port() {
    /usr/bin/python3 -c 'import socket
with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    print(s.getsockname()[1])'
}

# inside MODULE PORT: runs in the namespaces.
inside() {
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"

    for compiler in cc gcc clang rustc; do
        if in_system sh -c "command -v $compiler" >/dev/null; then
            die "$compiler is in the Debian 13, where no compiler may be"
        fi
    done
    say "$(in_system /usr/sbin/apache2 -v | sed -n 's/^Server version: //p'), $(in_system python3 --version)"

    echo "static file" >"$root/srv/check/htdocs/index.html"
    write_config "$1" "$2"
    in_system /usr/sbin/apache2 -DFOREGROUND -f /srv/check/httpd.conf &
    httpd=$!
    trap 'kill -TERM "$httpd" 2>/dev/null || :' EXIT

    # That system's own httpd first: if this fails, the module is not at fault.
    expect "http://127.0.0.1:$2/static/index.html" "static file"
    if [ "$1" = none ]; then
        say "Debian 13's httpd serves a file; the module was not asked for"
        return 0
    fi
    expect "http://127.0.0.1:$2/" "Hello from mod_wsgi_rs!"
    expect "http://127.0.0.1:$2/" "Python:   $version."
    say "the module built here serves in Debian 13 with its Python $version"
}

in_system() { chroot "$root" "$@"; }

# expect URL TEXT: the answer holds TEXT; it is asked for until httpd accepts connections.
expect() {
    answer=$(in_system curl -sS --retry 20 --retry-connrefused --retry-delay 1 --max-time 60 "$1") ||
        die "no answer from $1"
    case $answer in
        *"$2"*) ;;
        *) die "$1 answered without '$2':
$answer" ;;
    esac
}

write_config() {
    {
        cat <<CONF
ServerRoot /srv/check
DefaultRuntimeDir /srv/check
PidFile /srv/check/httpd.pid
ErrorLog /srv/check/error.log
ServerName localhost
Listen 127.0.0.1:$2
User www-data
Group www-data
CONF
        for name in mpm_event authz_core alias mime; do
            echo "LoadModule ${name}_module /usr/lib/apache2/modules/mod_$name.so"
        done
        cat <<CONF
TypesConfig /dev/null
Alias /static /srv/check/htdocs
<Directory /srv/check>
    Require all granted
</Directory>
CONF
        if [ "$1" != none ]; then
            cat <<CONF
LoadModule wsgi_module /srv/check/mod_wsgi_rs.so
WSGIScriptAlias / /srv/check/wsgi.py
CONF
        fi
    } >"$root/srv/check/httpd.conf"
}

main "$@"
