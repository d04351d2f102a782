# Runs one server for an owner, and outlives the owner just long enough to stop the server.
#
#   sh -c SCRIPT NAME REMOVE LOG SIGNAL PATIENCE COMMAND...
#
#   REMOVE    directory to remove at the end, or nothing
#   LOG       file that gets what the server prints
#   SIGNAL    what asks the server to end soon
#   PATIENCE  seconds after which it is no longer asked but made to
#   COMMAND   the server's command line, which each start completes with a port
#
# Standard input is a pipe only the owner holds. It carries requests, "ID VERB [PORT]", one a line, each answered on
# standard output with "ID ok [PID]" or "ID not-running". When it ends, however the owner ended, everything is cleaned
# up. All signals are sent from here because this is the server's parent: until it waits for the server, no other
# process can get the server's number.

# Someone else's signals (a terminal's, an init system's) must not keep this from cleaning up; nor a reply to a dead owner.
trap '' HUP INT QUIT TERM PIPE

remove=$1 log=$2 signal=$3 patience=$4
shift 4
server=

# children PARENT STATES: the children whose state letter matches a bracket expression.
# state PID: the letter, or nothing if there is no such process.
if [ -r /proc/self/stat ]; then
    children() { cat /proc/[0-9]*/stat 2>/dev/null | sed -n "s/^\([0-9]*\) (.*) $2 $1 .*/\1/p"; }
    state() { sed -n 's/^[0-9]* (.*) \([A-Za-z]\) .*/\1/p' "/proc/$1/stat" 2>/dev/null; }
else
    children() { ps -axo pid=,stat=,ppid= | sed -n "s/^ *\([0-9]*\)  *$2[^ ]*  *$1 *\$/\1/p"; }
    state() { ps -o stat= -p "$1" | sed -n 's/^ *\([A-Za-z]\).*/\1/p'; }
fi

running() {
    [ -n "$server" ] || return 1
    case $(state "$server") in '' | Z | X) return 1 ;; esac
}

# Stops the server's process itself and waits until it really stands, so that it starts no more children.
halt() {
    kill -STOP "$server" 2>/dev/null
    turns=0
    while [ "$turns" -lt 500 ]; do
        case $(state "$server") in '' | [TtZX]) break ;; esac
        turns=$((turns + 1))
    done
}

# signal_children SIGNAL STATES: sends until no child is in one of these states.
signal_children() {
    turns=0
    while some=$(children "$server" "$2") && [ -n "$some" ] && [ "$turns" -lt 500 ]; do
        kill "-$1" $some 2>/dev/null
        turns=$((turns + 1))
    done
}

freeze() {
    halt
    signal_children STOP '[^TtZX]'
}

thaw() {
    signal_children CONT '[Tt]'
    kill -CONT "$server" 2>/dev/null
}

# As if the machine had lost power: nothing gets to say goodbye, and nothing is left when this returns.
crash() {
    halt
    signal_children KILL '[^ZX]'
    kill -KILL "$server" 2>/dev/null
    wait "$server" 2>/dev/null
    server=
}

# Asks, then insists. The request is repeated because a server that has only just begun may not listen yet.
stop() {
    running || return 0
    thaw
    (
        asked=0
        while [ "$asked" -lt "$((patience * 5))" ]; do
            kill "-$signal" "$server"
            sleep 0.2
            asked=$((asked + 1))
        done
        kill -QUIT "$server" # PostgreSQL ends at once and recovers at its next start
        sleep 5
        halt
        signal_children KILL '[^ZX]'
        kill -KILL "$server"
    ) </dev/null >/dev/null 2>&1 &
    insisting=$!
    wait "$server" 2>/dev/null
    kill -KILL "$insisting" 2>/dev/null
    wait "$insisting" 2>/dev/null
}

while read -r id verb port; do
    answer=ok
    case $verb in
        start)
            if ! running; then
                [ -z "$server" ] || wait "$server" 2>/dev/null
                "$@" "$port" </dev/null >>"$log" 2>&1 &
                server=$!
            fi
            answer="ok $server"
            ;;
        stop) stop ;;
        freeze | thaw | crash) if running; then "$verb"; else answer=not-running; fi ;;
    esac
    echo "$id $answer"
done

stop
[ -n "$remove" ] || exit 0

# A PostgreSQL that was killed leaves a small shared memory segment behind; its number is the second on the seventh line.
segment=$(sed -n '7s/^ *[0-9]*  *\([0-9]*\).*/\1/p' "$remove/data/postmaster.pid" 2>/dev/null)
[ -z "$segment" ] || ipcrm -m "$segment" 2>/dev/null

# A program of the owner that has not noticed its death yet may still be writing here.
tries=0
while [ -e "$remove" ] && [ "$tries" -lt 100 ]; do
    rm -rf "$remove" 2>/dev/null || sleep 0.1
    tries=$((tries + 1))
done
