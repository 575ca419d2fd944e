#!/bin/sh
# Replaces FILE by standard input, unless the writer's lock (RESOURCELOCK_TOKEN) is older than the last writer's.
#
#   RESOURCELOCK_TOKEN=N accept.sh FILE [BYTES] < NEW
#
# It runs on the host that has the file. BYTES is how much has to come: a connection that breaks off looks like the end
# of the input. Without it, only empty input is refused. The highest token so far stands in FILE.token.
# When it fails, it says why (status 1: the writer is too late), and FILE is as before.
set -eu
file=${1:?"usage: RESOURCELOCK_TOKEN=N accept.sh FILE [BYTES] < NEW"}

refuse() { # STATUS WHY
    echo "accept.sh: $2" >&2
    exit "$1"
}

check_token() { # WHERE TOKEN
    case $2 in '' | *[![:digit:]]*) refuse 2 "$1: '$2' is not a token" ;; esac
}

if [ $# -lt 4 ]; then
    token=${RESOURCELOCK_TOKEN:?"is not set: the token of the lock under which the new content was made"}
    check_token "$file" "$token"
    # All of it has to be here before the lock is taken: a writer that hangs must not hold up its successors.
    new=$file.new.$$
    trap 'rm -f -- "$new"' EXIT
    trap "exit 2" HUP INT PIPE TERM
    cat > "$new" || refuse 2 "$file: the new content cannot be kept"
    size=$(wc -c < "$new")
    [ "$size" -gt 0 ] || [ $# -eq 2 ] || refuse 2 "$file: the input is empty"
    [ "$size" -eq "${2:-$size}" ] || refuse 2 "$file: $size bytes have come, not $2"
    # One writer at a time here, under a lock of this machine. Its own token takes the place of the other in the
    # environment; so that one is handed on as an argument.
    name=accept-$(realpath -m -- "$file" | cksum | cut -d ' ' -f 1)
    resourcelock --backend local: "$name" run -- "$0" "$file" "$size" "$token" "$new"
    exit
fi
token=$3 new=$4

highest=0
[ ! -e "$file.token" ] || highest=$(cat -- "$file.token")
check_token "$file.token" "$highest"
# sort compares numbers of any length.
if ! printf '%s\n' "$highest" "$token" | sort -n -C; then
    refuse 1 "$file: token $token is lower than $highest: this holder has been replaced"
fi
# First the token: a crash in between refuses old writers for nothing, which does no harm.
echo "$token" > "$file.token.new"
mv -- "$file.token.new" "$file.token"
mv -- "$new" "$file"
