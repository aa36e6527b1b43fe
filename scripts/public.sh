# A place in build/ that httpd's user can read; read with `.` after common.sh, never run.
# shellcheck shell=sh

# public_folder build/NAME: makes that folder anew and prints where it really is. Where the clone lies in a
# place closed to httpd's user (a root-only home, most often), the folder is made in /var/tmp, under a name
# nobody can foretell, and build/NAME is a link to it.
public_folder() {
    if [ -L "$1" ]; then
        old=$(readlink "$1")
        case $old in
            /var/tmp/mod_wsgi_rs-*) rm -rf "$old" ;;
        esac
    fi
    rm -rf "$1"
    mkdir -p "$1"
    if [ "$(id -u)" = 0 ] && [ -n "$(unreachable "$(httpd_user)" "$PWD/$1/.")" ]; then
        rmdir "$1"
        real=$(mktemp -d "/var/tmp/mod_wsgi_rs-${1##*/}.XXXXXX")
        chmod 755 "$real"
        ln -s "$real" "$1"
        printf '%s\n' "$real"
    else
        printf '%s\n' "$PWD/$1"
    fi
}
