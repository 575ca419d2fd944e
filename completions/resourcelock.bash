# Completion of resourcelock for bash. The program itself knows what could follow.

_resourcelock() {
    # Bash splits words at '=' and ':' as well: put them together again. starts[i] is where word i begins.
    local words=() starts=() i word line=$COMP_LINE cur
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if ((i > 0)) && [[ -n $word && $line == "$word"* ]]; then
            words[${#words[@]} - 1]+=$word
        else
            words+=("$word")
            starts+=("$i")
        fi
        line=${line#"${line%%[![:space:]]*}"}
        line=${line#"$word"}
    done
    cur=${words[${#words[@]} - 1]}
    # Quotes that are still open, and backslashes, are the shell's.
    local unquoted=${cur#[\'\"]}
    unquoted=${unquoted//\\/}
    words[${#words[@]} - 1]=$unquoted

    local answer found=()
    {
        IFS= read -r answer
        while IFS= read -r line; do found+=("${line%%$'\t'*}"); done
    } < <("$1" completions words -- "${words[@]:1}" 2>/dev/null)

    COMPREPLY=()
    case $answer in
        words)
            # Readline replaces only what stands after the last '=' or ':'.
            local kept=${unquoted%"${COMP_WORDS[COMP_CWORD]}"}
            [[ ${COMP_WORDS[COMP_CWORD]} == [=:] ]] && kept=$unquoted
            [[ $cur == [\'\"]* ]] && kept=
            for word in "${found[@]}"; do
                word=${word#"$kept"}
                case $cur in
                    [\'\"]*) COMPREPLY+=("$word") ;;
                    *) COMPREPLY+=("$(printf %q "$word")") ;;
                esac
            done
            ;;
        files) compopt -o default 2>/dev/null ;;
        programs) mapfile -t COMPREPLY < <(compgen -c -- "$unquoted") ;;
        line\ *)
            local first=${starts[${answer#line } + 1]}
            if declare -F _comp_command_offset >/dev/null; then
                _comp_command_offset "$first"
            elif declare -F _command_offset >/dev/null; then
                _command_offset "$first"
            elif ((first == COMP_CWORD)); then
                mapfile -t COMPREPLY < <(compgen -c -- "$unquoted")
            else
                compopt -o default 2>/dev/null
            fi
            ;;
    esac
}

complete -F _resourcelock resourcelock
