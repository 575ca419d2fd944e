# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_resourcelock_global_optspecs
    string join \n q/quiet v/verbose backend= h/help V/version
end

function __fish_resourcelock_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_resourcelock_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_resourcelock_using_subcommand
    set -l cmd (__fish_resourcelock_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c resourcelock -n "__fish_resourcelock_needs_command" -l backend -d 'Another engine (RESOURCELOCK_BACKEND)' -r
complete -c resourcelock -n "__fish_resourcelock_needs_command" -s q -l quiet -d 'No messages'
complete -c resourcelock -n "__fish_resourcelock_needs_command" -s v -l verbose -d 'Log on stderr (-vv: in detail; RESOURCELOCK_LOG)'
complete -c resourcelock -n "__fish_resourcelock_needs_command" -s h -l help -d 'Print help'
complete -c resourcelock -n "__fish_resourcelock_needs_command" -s V -l version -d 'Print version'
complete -c resourcelock -n "__fish_resourcelock_needs_command" -a "run" -d 'Run a command under the lock; give it back whatever way it ends'
complete -c resourcelock -n "__fish_resourcelock_needs_command" -a "get" -d 'Take the lock and leave it taken'
complete -c resourcelock -n "__fish_resourcelock_needs_command" -a "unget" -d 'Release the lock, whoever has it'
complete -c resourcelock -n "__fish_resourcelock_needs_command" -a "state" -d 'Show who has the lock and who waits'
complete -c resourcelock -n "__fish_resourcelock_needs_command" -a "trace" -d 'Follow the lock'
complete -c resourcelock -n "__fish_resourcelock_needs_command" -a "history" -d 'Show the last grants, as a table or a picture'
complete -c resourcelock -n "__fish_resourcelock_needs_command" -a "remove" -d 'Delete an idle lock\'s objects'
complete -c resourcelock -n "__fish_resourcelock_needs_command" -a "list" -d 'List all locks of this machine'
complete -c resourcelock -n "__fish_resourcelock_needs_command" -a "doctor" -d 'Look for what could hurt here'
complete -c resourcelock -n "__fish_resourcelock_needs_command" -a "completions" -d 'Print a completion script for a shell'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand run" -s t -s w -l get-timeout -l wait -l timeout -d 'Wait: 1.5, 500ms, 2m; 0 = not, -1 = no limit ' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand run" -s E -l conflict-exit-code -d 'Status when not had in time (default 75)' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand run" -s m -l message -d 'The note: what the lock is taken for' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand run" -s j -l slots -d 'A counting lock: up to N at once' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand run" -l mode -d 'Permissions if it is created now: 600, 660' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand run" -l group -d 'Group if it is created now' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand run" -s c -l command -d 'One string for the shell, instead of COMMAND' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand run" -l limit -d 'End the command after this time' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand run" -s k -l kill-after -d 'Kill it if it runs this much longer' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand run" -l signal -d 'What it is sent at the limit (default TERM)' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand run" -l until -d 'When to give back: command (default) or tree, when all that the command left behind has ended' -r -f -a "command\t''
tree\t''"
complete -c resourcelock -n "__fish_resourcelock_using_subcommand run" -l on-abandoned -d 'If the previous holder died: run (default) or fail (status 65)' -r -f -a "run\t''
fail\t''"
complete -c resourcelock -n "__fish_resourcelock_using_subcommand run" -l recover -d 'If the previous holder died: run CMD first' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand run" -l ttl -d 'Length of a lease (engines with leases)' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand run" -l backend -d 'Another engine (RESOURCELOCK_BACKEND)' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand run" -s n -l nonblock -l nb -d 'Do not wait: the same as -t 0'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand run" -s s -l shared -d 'Share the lock with others that share it'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand run" -s x -s e -l exclusive -d 'Have the lock alone (default)'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand run" -l same-process-ok -d 'If this job holds it already, go on at once'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand run" -s F -l no-fork -d 'Execute the command in this process'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand run" -l replace -d 'Ask the holder to end, then wait for the turn'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand run" -s o -l close -d 'As in flock(1); has no effect'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand run" -s q -l quiet -d 'No messages'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand run" -s v -l verbose -d 'Log on stderr (-vv: in detail; RESOURCELOCK_LOG)'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand run" -s h -l help -d 'Print help'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand get" -s t -s w -l get-timeout -l wait -l timeout -d 'Wait: 1.5, 500ms, 2m; 0 = not, -1 = no limit ' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand get" -s E -l conflict-exit-code -d 'Status when not had in time (default 75)' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand get" -s m -l message -d 'The note: what the lock is taken for' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand get" -s j -l slots -d 'A counting lock: up to N at once' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand get" -l mode -d 'Permissions if it is created now: 600, 660' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand get" -l group -d 'Group if it is created now' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand get" -s a -l auto-unget -d 'Keep it for that long, then release it and exit' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand get" -l pid -d 'Hold it for this process, until that ends' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand get" -l ttl -d 'The hold ends after this time' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand get" -s u -l update -d 'Ignored' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand get" -l backend -d 'Another engine (RESOURCELOCK_BACKEND)' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand get" -s n -l nonblock -l nb -d 'Do not wait: the same as -t 0'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand get" -s s -l shared -d 'Share the lock with others that share it'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand get" -s x -s e -l exclusive -d 'Have the lock alone (default)'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand get" -l same-process-ok -d 'If this job holds it already, go on at once'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand get" -l forever -d 'A hold without a lease (engines with leases)'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand get" -l json -d 'Print JSON (see docs/json.md)'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand get" -s q -l quiet -d 'No messages'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand get" -s v -l verbose -d 'Log on stderr (-vv: in detail; RESOURCELOCK_LOG)'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand get" -s h -l help -d 'Print help'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand unget" -s m -l message -d 'The note: what the lock is taken for' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand unget" -l pid -d 'Release only what is held for this process' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand unget" -l token -d 'Release only the hold with this token' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand unget" -s t -l get-timeout -d 'Ignored' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand unget" -s a -l auto-unget -d 'Ignored' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand unget" -s u -l update -d 'Ignored' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand unget" -l backend -d 'Another engine (RESOURCELOCK_BACKEND)' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand unget" -l json -d 'Print JSON (see docs/json.md)'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand unget" -s q -l quiet -d 'No messages'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand unget" -s v -l verbose -d 'Log on stderr (-vv: in detail; RESOURCELOCK_LOG)'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand unget" -s h -l help -d 'Print help'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand state" -s t -l get-timeout -d 'Ignored' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand state" -s m -l message -d 'Ignored' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand state" -s a -l auto-unget -d 'Ignored' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand state" -s u -l update -d 'Ignored' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand state" -l backend -d 'Another engine (RESOURCELOCK_BACKEND)' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand state" -l mine -d 'With -q: 0 only if this job\'s inherited hold stands'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand state" -l json -d 'Print JSON (see docs/json.md)'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand state" -s q -l quiet -d 'No messages'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand state" -s v -l verbose -d 'Log on stderr (-vv: in detail; RESOURCELOCK_LOG)'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand state" -s h -l help -d 'Print help'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand trace" -s u -l update -d 'Print at this interval (default 0.5)' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand trace" -s t -l get-timeout -d 'Ignored' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand trace" -s m -l message -d 'Ignored' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand trace" -s a -l auto-unget -d 'Ignored' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand trace" -l backend -d 'Another engine (RESOURCELOCK_BACKEND)' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand trace" -s f -l follow -d 'Print changes only, as they happen'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand trace" -l json -d 'Print JSON (see docs/json.md)'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand trace" -s q -l quiet -d 'No messages'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand trace" -s v -l verbose -d 'Log on stderr (-vv: in detail; RESOURCELOCK_LOG)'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand trace" -s h -l help -d 'Print help'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand history" -l svg -d 'Write a timeline as an SVG picture' -r -F
complete -c resourcelock -n "__fish_resourcelock_using_subcommand history" -l html -d 'Write a timeline as an HTML page' -r -F
complete -c resourcelock -n "__fish_resourcelock_using_subcommand history" -l backend -d 'Another engine (RESOURCELOCK_BACKEND)' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand history" -l json -d 'Print JSON (see docs/json.md)'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand history" -s q -l quiet -d 'No messages'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand history" -s v -l verbose -d 'Log on stderr (-vv: in detail; RESOURCELOCK_LOG)'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand history" -s h -l help -d 'Print help'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand remove" -l backend -d 'Another engine (RESOURCELOCK_BACKEND)' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand remove" -l force -d 'Also if it is in use: its holder goes on unprotected'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand remove" -s q -l quiet -d 'No messages'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand remove" -s v -l verbose -d 'Log on stderr (-vv: in detail; RESOURCELOCK_LOG)'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand remove" -s h -l help -d 'Print help'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand list" -l backend -d 'Another engine (RESOURCELOCK_BACKEND)' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand list" -l prometheus -d 'Print metrics for node_exporter\'s textfile collector'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand list" -l json -d 'Print JSON (see docs/json.md)'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand list" -s q -l quiet -d 'No messages'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand list" -s v -l verbose -d 'Log on stderr (-vv: in detail; RESOURCELOCK_LOG)'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand list" -s h -l help -d 'Print help'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand doctor" -l backend -d 'Another engine (RESOURCELOCK_BACKEND)' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand doctor" -l fix -d 'Mend what is safe to mend'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand doctor" -l json -d 'Print JSON (see docs/json.md)'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand doctor" -s q -l quiet -d 'No messages'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand doctor" -s v -l verbose -d 'Log on stderr (-vv: in detail; RESOURCELOCK_LOG)'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand completions" -l backend -d 'Another engine (RESOURCELOCK_BACKEND)' -r
complete -c resourcelock -n "__fish_resourcelock_using_subcommand completions" -s q -l quiet -d 'No messages'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand completions" -s v -l verbose -d 'Log on stderr (-vv: in detail; RESOURCELOCK_LOG)'
complete -c resourcelock -n "__fish_resourcelock_using_subcommand completions" -s h -l help -d 'Print help'
