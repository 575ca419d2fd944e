//! The rules one by one, and what holds for every combination of caller, owner, mode, directory and switch.

use super::*;

const ALICE: u32 = 1000;
const BOB: u32 = 1001;
/// What a user namespace shows in place of a user whom it does not know.
const OVERFLOW: u32 = 65_534;
const I2C: u32 = 3001;

struct World {
    /// It is a user namespace that does not know everybody.
    partial: bool,
    /// Of I2C.
    members: &'static [u32],
}

impl Outside for World {
    fn knows_user(&self, uid: u32) -> bool {
        !self.partial || uid != OVERFLOW
    }

    fn knows_group(&self, gid: u32) -> bool {
        !self.partial || gid != OVERFLOW
    }

    fn is_member(&self, uid: u32, gid: u32) -> bool {
        gid == I2C && self.members.contains(&uid)
    }
}

const HOST: World = World {
    partial: false,
    members: &[ALICE],
};
const CONTAINER: World = World {
    partial: true,
    members: &[ALICE],
};

fn judge(trust: &Trust<'_>, file: &Facts, directory: &Facts, world: &World) -> Result<(), Distrust> {
    trust.judge_directory(directory, world)?;
    trust.judge_file(file, directory, world)
}

/// What a caller says.
#[derive(Debug, Clone, Copy, Default)]
struct Says {
    owner: Option<u32>,
    accept: Option<u32>,
    group: Option<u32>,
    mode: Option<u32>,
}

const NOTHING: Says = Says {
    owner: None,
    accept: None,
    group: None,
    mode: None,
};

fn trust(uid: u32, says: Says) -> Trust<'static> {
    let named = Named {
        owners: says.owner.into_iter().collect(),
        accepted: says.accept.into_iter().collect(),
        group: says.group,
        anybody: says.mode.is_some_and(Named::is_for_world),
    };
    Trust::of(uid, Box::leak(Box::new(named)))
}

fn file(owner: u32, group: u32, mode: u32) -> Facts {
    Facts {
        owner,
        group,
        mode,
        links: 1,
    }
}

fn directory(owner: u32, group: u32, mode: u32) -> Facts {
    file(owner, group, mode)
}

fn usual() -> Facts {
    directory(ROOT, ROOT, 0o1777)
}

fn uses(uid: u32, says: Says, file: Facts) -> bool {
    judge(&trust(uid, says), &file, &usual(), &HOST).is_ok()
}

#[test]
fn users_use_their_own_and_roots() {
    assert!(uses(ALICE, NOTHING, file(ALICE, ALICE, 0o600)));
    assert!(uses(ALICE, NOTHING, file(ROOT, I2C, 0o660)));
    assert!(!uses(ALICE, NOTHING, file(BOB, BOB, 0o666)));
    assert!(!uses(ALICE, NOTHING, file(BOB, I2C, 0o660)));
}

/// Whoever may write a file may link it to any name, so nobody knows what an owner has made it for.
#[test]
fn what_the_world_may_write_is_used_by_those_who_say_so() {
    let for_everybody = Says {
        mode: Some(0o666),
        ..NOTHING
    };
    let owner_named = Says {
        owner: Some(BOB),
        ..NOTHING
    };
    for (uid, owner) in [(ALICE, ALICE), (ALICE, ROOT), (ROOT, ROOT), (ROOT, BOB)] {
        let shared = file(owner, I2C, 0o666);
        for says in [NOTHING, owner_named] {
            let judged = judge(&trust(uid, says), &shared, &usual(), &HOST);
            let expected = if owner == BOB && says.owner.is_none() {
                Distrust::Owner { owner: Some(BOB) }
            } else {
                Distrust::World
            };
            assert_eq!(judged, Err(expected));
        }
        assert!(uses(uid, for_everybody, shared));
    }
}

#[test]
fn root_uses_its_own() {
    assert!(uses(ROOT, NOTHING, file(ROOT, ROOT, 0o600)));
    for mode in [0o600, 0o660, 0o666] {
        assert!(!uses(ROOT, NOTHING, file(ALICE, ALICE, mode)));
    }
}

#[test]
fn named_owners_are_used_and_root_makes_theirs() {
    let named = Says {
        owner: Some(BOB),
        ..NOTHING
    };
    for uid in [ROOT, ALICE] {
        assert!(uses(uid, named, file(BOB, BOB, 0o600)));
        assert!(uses(uid, named, file(uid, uid, 0o600)), "and still its own");
        assert!(!uses(uid, named, file(BOB + 1, BOB, 0o600)));
    }
    assert_eq!(trust(ROOT, named).new_owner(), Some(BOB));
    assert_eq!(trust(ALICE, named).new_owner(), None);
    let several = Named {
        owners: vec![BOB, ALICE],
        ..Named::default()
    };
    assert_eq!(Trust::of(ROOT, &several).new_owner(), Some(BOB), "the first one's");
    let accepted = Says {
        accept: Some(ALICE),
        ..NOTHING
    };
    assert!(uses(ROOT, accepted, file(ALICE, ALICE, 0o600)));
    assert_eq!(trust(ROOT, accepted).new_owner(), None);
}

#[test]
fn a_groups_locks_are_those_that_only_it_may_write() {
    let i2c = Says {
        group: Some(I2C),
        ..NOTHING
    };
    for uid in [ROOT, ALICE] {
        assert!(uses(uid, i2c, file(BOB, I2C, 0o660)));
        assert!(uses(uid, i2c, file(BOB, I2C, 0o600)));
        assert!(uses(uid, i2c, file(BOB, I2C, 0o664)));
        assert!(!uses(uid, i2c, file(BOB, I2C, 0o666)));
        assert!(!uses(uid, i2c, file(BOB, I2C, 0o602)));
        assert!(!uses(uid, i2c, file(BOB, BOB, 0o660)));
    }
}

/// There every file belongs to the group, whoever makes it.
#[test]
fn in_a_set_gid_directory_the_group_database_decides() {
    let i2c = Says {
        group: Some(I2C),
        ..NOTHING
    };
    for (mode, by_member, by_other) in [(0o1777, true, true), (0o3777, true, false)] {
        let directory = directory(ROOT, I2C, mode);
        let uses = |owner| judge(&trust(ROOT, i2c), &file(owner, I2C, 0o660), &directory, &HOST).is_ok();
        assert_eq!((uses(ALICE), uses(BOB)), (by_member, by_other), "{mode:o}");
    }
}

#[test]
fn a_mode_for_the_world_lets_every_owner_in() {
    for (mode, any) in [
        (0o600, false),
        (0o660, false),
        (0o770, false),
        (0o666, true),
        (0o604, true),
        (0o601, true),
    ] {
        let says = Says {
            mode: Some(mode),
            ..NOTHING
        };
        for uid in [ROOT, ALICE] {
            assert_eq!(uses(uid, says, file(BOB, BOB, 0o600)), any, "{mode:o}");
            let open = directory(BOB, BOB, 0o777);
            let judged = judge(&trust(uid, says), &file(BOB, BOB, 0o600), &open, &CONTAINER);
            assert_eq!(judged.is_ok(), any, "{mode:o}");
        }
    }
}

#[test]
fn nobody_is_whom_a_user_namespace_does_not_know() {
    let judge = |uid, says, world: &World| judge(&trust(uid, says), &file(OVERFLOW, OVERFLOW, 0o660), &usual(), world);
    let by_name = Says {
        owner: Some(OVERFLOW),
        accept: Some(OVERFLOW),
        group: Some(OVERFLOW),
        ..NOTHING
    };
    for says in [NOTHING, by_name] {
        assert_eq!(
            judge(OVERFLOW, says, &HOST),
            Ok(()),
            "where everybody is known, it is a user"
        );
        let unknown = Err(Distrust::Owner { owner: None });
        for uid in [OVERFLOW, ALICE, ROOT] {
            assert_eq!(judge(uid, says, &CONTAINER), unknown);
        }
    }
    assert_eq!(judge(ROOT, by_name, &HOST), Ok(()));
    assert_eq!(
        judge(ROOT, NOTHING, &HOST),
        Err(Distrust::Owner { owner: Some(OVERFLOW) })
    );
    assert!(!trust(OVERFLOW, NOTHING).owns(OVERFLOW, &CONTAINER));
    assert!(!trust(ROOT, NOTHING).may_complete(OVERFLOW, &CONTAINER));
}

#[test]
fn directories() {
    for (owner, mode, good) in [
        (ROOT, 0o1777, true),
        (ROOT, 0o3777, true),
        (ROOT, 0o755, true),
        (ALICE, 0o1777, true),
        (ALICE, 0o700, true),
        (ROOT, 0o777, false),
        (ROOT, 0o775, false),
        (ALICE, 0o770, false),
        (BOB, 0o1777, false),
        (BOB, 0o700, false),
        (OVERFLOW, 0o1777, false),
    ] {
        let file = file(ALICE, ALICE, 0o600);
        let judged = judge(&trust(ALICE, NOTHING), &file, &directory(owner, 0, mode), &HOST);
        assert_eq!(judged.is_ok(), good, "{owner} {mode:o}: {judged:?}");
        assert!(good || judged == Err(Distrust::Directory));
    }
    // The machine's /dev/shm as a container's root sees it, and one that is open to others.
    for (mode, good) in [(0o1777, true), (0o755, true), (0o777, false)] {
        let directory = directory(OVERFLOW, OVERFLOW, mode);
        let judged = trust(ROOT, NOTHING).judge_directory(&directory, &CONTAINER);
        assert_eq!(judged.is_ok(), good, "{mode:o}");
    }
}

#[test]
fn what_is_missing_is_made_by_the_owner_and_root() {
    for says in [
        NOTHING,
        Says {
            owner: Some(BOB),
            accept: Some(BOB),
            group: Some(I2C),
            mode: Some(0o666),
        },
    ] {
        assert!(trust(ALICE, says).may_complete(ALICE, &HOST));
        assert!(!trust(ALICE, says).may_complete(BOB, &HOST));
        assert!(!trust(ALICE, says).may_complete(ROOT, &HOST));
        assert!(trust(ROOT, says).may_complete(BOB, &HOST));
    }
}

/// Every caller, owner, group, mode, directory, and combination of switches.
#[test]
fn for_every_combination() {
    let some = |values: &[u32]| -> Vec<Option<u32>> {
        std::iter::once(None).chain(values.iter().copied().map(Some)).collect()
    };
    let mut judged = 0;
    for world in [&HOST, &CONTAINER] {
        for uid in [ROOT, ALICE, OVERFLOW] {
            for owner in [ROOT, ALICE, BOB, OVERFLOW] {
                for (group, mode) in [(I2C, 0o660), (I2C, 0o666), (I2C, 0o600), (owner, 0o600), (owner, 0o666)] {
                    for (directory_owner, directory_mode) in [
                        (ROOT, 0o1777),
                        (ROOT, 0o777),
                        (BOB, 0o1777),
                        (ROOT, 0o3777),
                        (OVERFLOW, 0o1777),
                    ] {
                        let file = file(owner, group, mode);
                        let directory = directory(directory_owner, I2C, directory_mode);
                        let judge = |says| judge(&trust(uid, says), &file, &directory, world).is_ok();
                        let by_default = judge(NOTHING);
                        let own = owner == uid && world.knows_user(owner);
                        if by_default {
                            assert!(owner == ROOT || own, "only one's own and root's");
                        }
                        if (own || owner == ROOT) && directory_owner == ROOT && directory_mode & STICKY != 0 {
                            assert_eq!(by_default, mode & 0o002 == 0);
                        }
                        for named in some(&[ALICE, BOB, OVERFLOW]) {
                            for asked_group in some(&[I2C, OVERFLOW]) {
                                for asked_mode in some(&[0o660, 0o666]) {
                                    let says = Says {
                                        owner: named,
                                        accept: None,
                                        group: asked_group,
                                        mode: asked_mode,
                                    };
                                    let context = format!("{uid} {says:?} {file:?} {directory:?} {}", world.partial);
                                    let now = judge(says);
                                    judged += 1;
                                    assert!(now || !by_default, "a switch closes nothing: {context}");
                                    if asked_mode == Some(0o666) {
                                        assert!(now, "{context}");
                                        continue;
                                    }
                                    if !world.knows_user(owner) && group != I2C {
                                        assert!(!now, "nobody known: {context}");
                                    }
                                    if now && !by_default {
                                        let by_owner = named == Some(owner) && world.knows_user(owner);
                                        let by_group = asked_group == Some(group) && mode & 0o002 == 0;
                                        assert!(by_owner || by_group, "{context}");
                                    }
                                    if directory_mode & STICKY == 0 || directory_owner == BOB {
                                        assert!(!now, "{context}");
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(judged > 10_000);
}

#[test]
fn what_may_be_a_note() {
    let long = [b"a".repeat(LOOKED_AT - 1), vec![0]].concat();
    let unended = b"a".repeat(LOOKED_AT);
    let four_pages = vec![0; 4096];
    for (beginning, beside_semaphore, alone, dated) in [
        (&b""[..], true, true, false),
        (&four_pages, true, true, false),
        (b"2024-10-20 16:01:39.571127 - cli\0\0\0", true, true, true),
        (b"2024-10-20 16:01:39.571127 - cli\0older text\0\0", true, true, true),
        (b"2024-10-20 16:01:39.571127\0", true, true, true),
        ("2024-10-20 16:01:39.571127 - größe\0".as_bytes(), true, true, true),
        (b"2024-10-20 16:01:39.571127 - no end", false, false, false),
        (b"2024-10-20 16:01:39.571127 - \x01\0", false, false, false),
        (b"2024-10-20 16:01:39 - cli\0\0\0\0\0\0", true, false, false),
        (b"free text\r\n\t\0", true, false, false),
        (&long, true, false, false),
        (&unended, false, false, false),
        (b"rows of another program\n", false, false, false),
        (b"\x01\0\0\0\x02\0\0\0", false, false, false),
        (b"\x1b[31m\0", false, false, false),
        (b"\x7fELF\0\x01", false, false, false),
    ] {
        let shown = String::from_utf8_lossy(&beginning[..beginning.len().min(50)]);
        assert_eq!(may_be_note(beginning), beside_semaphore, "{shown:?}");
        assert_eq!(may_become_note(beginning), alone, "{shown:?}");
        assert_eq!(is_dated(beginning), dated, "{shown:?}");
    }
}
