#!/bin/sh
# Replaces FILE by standard input, unless the writer's lock (RESOURCELOCK_TOKEN) is older than the last writer's.
#
#   RESOURCELOCK_TOKEN=N accept.sh FILE < NEW
#
# It runs on the host that has the file. The highest token so far stands in FILE.token.
set -eu
file=${1:?"usage: RESOURCELOCK_TOKEN=N accept.sh FILE < NEW"}

if [ $# -eq 1 ]; then
    token=${RESOURCELOCK_TOKEN:?"is not set: the token of the lock under which the new content was made"}
    # One writer at a time here, under a lock of this machine. Its own token takes the place of the other in the
    # environment; so that one is handed on as an argument.
    name=accept-$(realpath -m -- "$file" | cksum | cut -d ' ' -f 1)
    exec resourcelock --backend local: "$name" run -- "$0" "$file" "$token"
fi
token=$2

highest=0
[ ! -e "$file.token" ] || read -r highest <"$file.token"
if [ "$token" -lt "$highest" ]; then
    echo "accept.sh: $file: token $token is lower than $highest: this holder has been replaced" >&2
    exit 1
fi
cat > "$file.new"
# First the token: a crash in between refuses old writers for nothing, which does no harm.
echo "$token" > "$file.token.new"
mv -- "$file.token.new" "$file.token"
mv -- "$file.new" "$file"
