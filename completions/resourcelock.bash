# bash completion for resourcelock: commands, options, and the names of existing locks.
#
# One call asks the program itself what can be completed at the cursor (see src/commands/completions.rs).

_resourcelock() {
    local tool=$1 replaced=$2 rest=${COMP_LINE:0:COMP_POINT} i
    local -a words=() starts=() answer=()
    type -P -- "$tool" >/dev/null || tool=resourcelock

    # Bash also splits words at = : @. Rejoin what no blank separates.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        if ((i == 0)) || [[ $rest == [[:blank:]]* ]]; then
            rest=${rest#"${rest%%[![:blank:]]*}"}
            words+=("") starts+=("$i")
        fi
        local part=${COMP_WORDS[i]}
        ((i < COMP_CWORD)) || part=$rest
        words[${#words[@]} - 1]+=$part
        rest=${rest#"$part"}
    done
    local current=${words[${#words[@]} - 1]}
    mapfile -t answer < <("$tool" completions bash -- \
        "${words[@]:1:${#words[@]} - 2}" "${current%"$replaced"}" "$replaced" 2>/dev/null)

    COMPREPLY=()
    case ${answer[0]-} in
        words) COMPREPLY=("${answer[@]:1}") ;;
        command\ *) _resourcelock_command "$((${answer[0]#command } + 1))" "$replaced" ;;
        program) mapfile -t COMPREPLY < <(compgen -c -- "$replaced") ;;
        file) compopt -o default ;;
        user) mapfile -t COMPREPLY < <(compgen -u -- "$replaced") ;;
        group) mapfile -t COMPREPLY < <(compgen -g -- "$replaced") ;;
        process) mapfile -t COMPREPLY < <(compgen -W "$(ps -e -o pid=)" -- "$replaced") ;;
    esac
}

# Completes the command to run under the lock, from word $1 on: with the package bash-completion, as on a line of its own;
# without it, first the name of a program, then files.
_resourcelock_command() {
    local offset
    for offset in _comp_command_offset _command_offset; do
        if declare -F "$offset" >/dev/null; then
            "$offset" "${starts[$1]}"
            return
        fi
    done
    if (($1 == ${#words[@]} - 1)) && [[ $2 != */* ]]; then
        mapfile -t COMPREPLY < <(compgen -c -- "$2")
    else
        compopt -o default
    fi
}

complete -F _resourcelock resourcelock
