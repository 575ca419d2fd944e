//! What people see who try the program for the first time, before anything has happened.

use crate::common::printed_in_private_shm;

#[test]
fn where_there_is_nothing_that_is_said() {
    let printed = printed_in_private_shm(
        r#""$RL" list; "$RL" list --json; "$RL" new state; "$RL" new history; "$RL" new unget; "$RL" new remove; "$RL" list"#,
    );
    assert_eq!(
        printed,
        "no locks\n{\"version\":1,\"locks\":[],\"unreadable\":[]}\nnew: free (never used)\nnothing yet\n\
         new: was not taken\nnew: there is no such lock\nno locks\n"
    );
}

#[test]
fn completion_can_be_switched_on_as_the_help_says() {
    let printed = printed_in_private_shm(
        r#"PATH=${RL%/*}:$PATH bash --norc -c 'source <(resourcelock completions bash); complete -p resourcelock'"#,
    );
    assert_eq!(printed, "complete -F _resourcelock resourcelock\n");
    let printed = printed_in_private_shm(
        r#"PATH=${RL%/*}:$PATH zsh -f -c 'autoload -Uz compinit; compinit -u -D; source <(resourcelock completions zsh); print $_comps[resourcelock]'"#,
    );
    assert_eq!(printed, "_resourcelock\n");
}
