# What the demos share; read by their run.sh. Each works on a copy of its sources, in a temporary directory, with a
# daemon of its own, which is ended with everything else of it.
#
# PLUGD, PLUGCTL and GO name the programs, where they are not on PATH.

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/demo-XXXXXX")
daemon=

plugd() { command "${PLUGD:-plugd}" "$@"; }
plugctl() { command "${PLUGCTL:-plugctl}" "$@"; }
go() { command "${GO:-go}" "$@"; }

finish() {
    status=$?
    trap - EXIT HUP INT PIPE TERM
    if [ -n "$daemon" ]; then
        kill "$daemon" 2>/dev/null || true
        wait "$daemon" 2>/dev/null || true
    fi
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 141' PIPE
trap 'exit 143' TERM

# The sources lie as they did: the Go module of a demo says where the package plugd is, from where it is itself.
mkdir -p "$work/demos"
cp -R "$here/../../go" "$work/go"
cp -R "$here" "$work/demos/"
cd "$work/demos/$(basename "$here")"

CGO_CFLAGS="-O2 -I$(plugd --include-dir)"
# What Go has compiled is kept from run to run, where that can be.
GOCACHE=${GOCACHE:-$(cd "$here/../../.." && pwd)/.cache/go-build}
mkdir -p "$GOCACHE" 2>/dev/null || GOCACHE=$work/cache
CGO_ENABLED=1 GOPROXY=off GOFLAGS='' GOWORK=off
PLUGD_SOCKET=$work/control.sock
export CGO_CFLAGS CGO_ENABLED GOCACHE GOPROXY GOFLAGS GOWORK PLUGD_SOCKET

# Says what comes.
say() { printf '\n# %s\n' "$*"; }

# Shows a command, and what it prints; tells its status if that is not 0.
show() {
    printf '$ %s\n' "$1"
    eval "$1" 2>&1 || printf '(exit status %d)\n' $?
}

# Starts the daemon with the plugins in ./plugins and the configuration in ./plugd.toml, and waits until it is ready.
start_daemon() {
    touch plugd.toml "$work/log"
    printf '$ plugd --config plugd.toml --plugin-dir plugins &\n'
    # By exec: the process is the daemon itself, and not a shell that waits for it.
    (exec "${PLUGD:-plugd}" --config plugd.toml --plugin-dir plugins --socket "$PLUGD_SOCKET" \
        --state-dir "$work/state" --log-format json </dev/null >"$work/log" 2>&1) &
    daemon=$!
    for _ in $(seq 200); do
        if grep -q plugd_ready "$work/log"; then
            return
        fi
        if ! kill -0 "$daemon" 2>/dev/null; then
            break
        fi
        sleep 0.1
    done
    cat "$work/log" >&2
    exit 1
}
