# Completion of resourcelock for fish. The program itself knows what could follow.

function __resourcelock_complete
    set -l typed (commandline -opc)
    set -l current (commandline -ct)
    set -l answer ($typed[1] completions words -- $typed[2..-1] (string unescape -- $current; or echo $current) 2>/dev/null)
    switch "$answer[1]"
        case words
            printf '%s\n' $answer[2..-1]
        case files
            __fish_complete_path $current
        case programs
            __fish_complete_command
        case 'line *'
            set -l first (math (string replace 'line ' '' -- $answer[1]) + 2)
            if test $first -gt (count $typed)
                complete -C "$current"
            else
                complete -C (string join ' ' -- (string escape -- $typed[$first..-1]) "$current")
            end
    end
end

complete -c resourcelock -f -k -a '(__resourcelock_complete)'
