# fish completion for resourcelock: commands, options, and the names and states of existing locks.
#
# One call asks the program itself what can be completed at the cursor (see src/commands/completions.rs).

function __resourcelock_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l tool $words[1]
    command -q -- $tool; or set tool resourcelock
    set -e words[1]
    set -l answer (command $tool completions fish -- $words "$current" 2>/dev/null)

    # If a value is attached to its option (--option=value), the candidates include the option.
    set -l option (string match -r -- '^--[^=]*=' $current)
    set -l value (string replace -r -- '^--[^=]*=' '' "$current")
    switch "$answer[1]"
        case words
            printf '%s\n' $answer[2..]
        case 'command *'
            set -l first (math (string replace 'command ' '' -- $answer[1]) + 1)
            complete -C (string join ' ' -- (string escape -- $words[$first..]) "$current")
        case program
            complete -C "$value"
        case file
            printf "$option%s\n" (__fish_complete_path "$value")
        case group
            printf "$option%s\n" (__fish_complete_groups)
        case user
            printf "$option%s\n" (__fish_complete_users)
        case process
            printf "$option%s\n" (__fish_complete_pids)
    end
end

complete -c resourcelock -f -k -a '(__resourcelock_complete)'
