#!/bin/sh
# Serves one WSGI application through a real httpd with the module built here, until Ctrl-C.
#
# usage: scripts/serve.sh [path/to/wsgi.py]
# environment:
#   PORT         8000       HOST         127.0.0.1
#   PYTHON_HOME  a virtual environment, prefix or interpreter; default: the system's python3
#   PYTHON_PATH  more folders for sys.path; default: the folder of the application
#   SERVE_USER   who httpd's children run as when started by root; default: www-data, apache, …
#
# Everything httpd needs is in build/serve; the system's own Apache and its configuration are
# neither read nor touched.
set -eu
# Relative paths are the caller's, so they are made absolute before the change of folder.
app=${1:-}
case $app in '' | /*) ;; *) app=$PWD/$app ;; esac
cd "$(dirname "$0")/.."
. scripts/common.sh

host=${HOST:-127.0.0.1}
port=${PORT:-8000}
root=$PWD/build/serve
module=${MOD_WSGI_RS_SO:-$(target_dir)/release/libmod_wsgi_rs.so}

httpd=$(httpd_program)
[ -n "$httpd" ] || die "no httpd found; run scripts/install-deps.sh serve"
[ -e "$module" ] || die "$module is not there; run: cargo build --release"
case $port in '' | *[!0-9]*) die "PORT must be a number, not '$port'" ;; esac
if [ -n "$app" ] && [ ! -f "$app" ]; then
    die "there is no application file $app"
fi

mkdir -p "$root"
user_line=
if [ "$(id -u)" = 0 ]; then
    user=${SERVE_USER:-$(httpd_user)}
    group=$(id -gn "$user")
    user_line="User $user
Group $group"
    if [ -z "$app" ]; then
        # A checkout below /root is closed to that user, and the example should work all the same.
        stage=$(mktemp -d)
        trap 'rm -rf "$stage"' EXIT
        chmod 755 "$stage"
        install -m 644 examples/hello/wsgi.py "$stage/wsgi.py"
        app=$stage/wsgi.py
    fi
    closed=$(unreachable "$user" "$app")
    if [ -d "$closed" ]; then mode=a+x; else mode=a+r; fi
    [ -z "$closed" ] || die "httpd's children run as '$user', who cannot read $app:
$closed is closed to them.
Do one of these: move the application out of $closed (to /srv, say); open it with 'chmod $mode $closed';
name a user who may read it with SERVE_USER=name; or run this as an ordinary user who may read it."
else
    app=${app:-$PWD/examples/hello/wsgi.py}
    [ -r "$app" ] || die "you may not read $app"
fi
folder=$(cd "$(dirname "$app")" && pwd)
app=$folder/$(basename "$app")
case $app$root in
    *[\"\\]*) die "httpd's configuration cannot hold a path with a quote or a backslash: $app" ;;
esac

cat >"$root/httpd.conf" <<CONF
# Written by scripts/serve.sh; overwritten the next time.
ServerRoot "$root"
DefaultRuntimeDir "$root"
PidFile "$root/httpd.pid"
ServerName localhost
Listen $host:$port
$user_line

$(load_modules mpm_event unixd authz_core log_config)
LoadModule wsgi_module "$module"

# The lines land on this terminal whatever it is: a device, a pipe or a file.
ErrorLog "|/bin/cat"
LogLevel warn wsgi:info
LogFormat "%h %t \"%r\" %>s %b" short
CustomLog "|/bin/cat" short

DocumentRoot "$root"
<Directory />
    AllowOverride None
    Require all denied
</Directory>
<Directory "$folder">
    Require all granted
</Directory>

${PYTHON_HOME:+WSGIPythonHome "$PYTHON_HOME"}
WSGIPythonPath "${PYTHON_PATH:-$folder}"
WSGIApplicationGroup %{GLOBAL}
WSGIScriptAlias / "$app"
CONF

"$httpd" -t -f "$root/httpd.conf" >"$root/configtest.log" 2>&1 || {
    cat "$root/configtest.log" >&2
    die "httpd does not take $root/httpd.conf"
}

# A process that a script starts with & ignores SIGINT, so Ctrl-C reaches only this script, which
# stops httpd in order: applications get to run their exit handlers.
"$httpd" -DFOREGROUND -f "$root/httpd.conf" &
pid=$!
asked=
finish() {
    asked=yes
    kill -TERM "$pid" 2>/dev/null || :
}
trap finish INT TERM HUP

url=http://$host:$port/
tries=100
until curl -s -o "$root/first-answer" --max-time 60 "$url"; do
    [ -z "$asked" ] || break
    kill -0 "$pid" 2>/dev/null || break
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || break
    sleep 0.1
done
if [ -z "$asked" ] && kill -0 "$pid" 2>/dev/null; then
    say "serving $app at $url (Ctrl-C stops it)"
fi

# wait returns early when a signal arrives, hence the second one.
status=0
wait "$pid" || status=$?
while kill -0 "$pid" 2>/dev/null; do
    status=0
    wait "$pid" || status=$?
done
if [ -n "$asked" ]; then
    say "stopped"
    exit 0
fi
die "httpd ended by itself (status $status); is port $port in use?"
