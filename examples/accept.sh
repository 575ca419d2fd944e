#!/bin/sh
# Replaces FILE with standard input, unless the writer's token (RESOURCELOCK_TOKEN) is lower than the last writer's.
#
#   RESOURCELOCK_TOKEN=N accept.sh FILE [BYTES] < NEW
#
# Run it on the host where the file is. BYTES is how much input to expect: a broken connection looks like the end of the
# input. Without BYTES, only empty input is refused. FILE.token keeps the highest token so far.
# If it fails, it says why (status 1: the writer is too late) and leaves FILE unchanged.
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
    token=${RESOURCELOCK_TOKEN:?"not set: it must be the token of the lock under which the new content was made"}
    check_token "$file" "$token"
    # Read all of it before taking the lock: a writer that hangs must not hold up its successors.
    new=$file.new.$$
    trap 'rm -f -- "$new"' EXIT
    trap "exit 2" HUP INT PIPE TERM
    cat > "$new" || refuse 2 "$file: cannot store the new content"
    size=$(wc -c < "$new")
    [ "$size" -gt 0 ] || [ $# -eq 2 ] || refuse 2 "$file: the input is empty"
    [ "$size" -eq "${2:-$size}" ] || refuse 2 "$file: received $size bytes, not $2"
    # One writer at a time, under a local lock. `run` sets RESOURCELOCK_TOKEN to that lock's token, so the writer's token
    # is passed on as an argument.
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
# The token comes first: after a crash in between, older writers are refused although nothing newer was written, which
# does no harm.
echo "$token" > "$file.token.new"
mv -- "$file.token.new" "$file.token"
mv -- "$new" "$file"
