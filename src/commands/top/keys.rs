//! What was typed, key by key.

/// A key that means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// A letter of any script.
    Letter(char),
    Enter,
    Escape,
    Erase,
    /// Ctrl-U: all that was typed.
    EraseAll,
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    /// Ctrl-L.
    Redraw,
}

/// Bytes from a terminal, to be read as keys.
#[derive(Debug, Default)]
pub struct Keys(Vec<u8>);

/// What the bytes begin with.
enum Front {
    /// So many bytes that are a key, or nothing that is known.
    Key(usize, Option<Key>),
    /// Something that may still become a key.
    Unfinished,
}

/// No sequence of a key is longer.
const LONGEST: usize = 16;

impl Keys {
    /// Adds what was typed.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// True if what is left may be the beginning of a key: if nothing follows at once, it is not.
    pub fn is_unfinished(&self) -> bool {
        !self.0.is_empty()
    }

    /// The next key; `ended`: nothing follows at once.
    pub fn next(&mut self, ended: bool) -> Option<Key> {
        loop {
            let (length, key) = match front(&self.0) {
                Front::Key(length, key) => (length, key),
                Front::Unfinished if self.0.is_empty() => return None,
                Front::Unfinished if self.0 == [ESC] && ended => (1, Some(Key::Escape)),
                Front::Unfinished if ended || self.0.len() > LONGEST => (self.0.len(), None),
                Front::Unfinished => return None,
            };
            self.0.drain(..length);
            if key.is_some() {
                return key;
            }
        }
    }
}

const ESC: u8 = 0x1b;

fn front(bytes: &[u8]) -> Front {
    match bytes {
        [] | [ESC] | [ESC, b'O'] => Front::Unfinished,
        [ESC, b'O', last, ..] => Front::Key(3, sequence(b"", *last)),
        [ESC, b'[', rest @ ..] => match rest.iter().position(|byte| (0x40..=0x7e).contains(byte)) {
            Some(end) => Front::Key(end + 3, sequence(&rest[..end], rest[end])),
            None => Front::Unfinished,
        },
        [ESC, ..] => Front::Key(1, Some(Key::Escape)),
        [b'\r' | b'\n', ..] => Front::Key(1, Some(Key::Enter)),
        [0x7f | 0x08, ..] => Front::Key(1, Some(Key::Erase)),
        [0x15, ..] => Front::Key(1, Some(Key::EraseAll)),
        [0x0c, ..] => Front::Key(1, Some(Key::Redraw)),
        [first, ..] => {
            let length = match first {
                0x00..0x80 => 1,
                0xc0..0xe0 => 2,
                0xe0..0xf0 => 3,
                0xf0..0xf8 => 4,
                _ => return Front::Key(1, None),
            };
            let Some(letter) = bytes.get(..length) else {
                return Front::Unfinished;
            };
            let letter = std::str::from_utf8(letter).ok().and_then(|text| text.chars().next());
            match letter.filter(|letter| !letter.is_control()) {
                Some(letter) => Front::Key(length, Some(Key::Letter(letter))),
                None => Front::Key(1, None),
            }
        }
    }
}

/// The key behind a control sequence, by its parameters and its last byte.
fn sequence(parameters: &[u8], last: u8) -> Option<Key> {
    match (parameters, last) {
        (_, b'A') => Some(Key::Up),
        (_, b'B') => Some(Key::Down),
        (_, b'H') | (b"1" | b"7", b'~') => Some(Key::First),
        (_, b'F') | (b"4" | b"8", b'~') => Some(Key::Last),
        (b"5", b'~') => Some(Key::PageUp),
        (b"6", b'~') => Some(Key::PageDown),
        (b"", b'M') => Some(Key::Enter), // of the keypad, behind ESC O
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(parts: &[&[u8]]) -> Vec<Key> {
        let mut keys = Keys::default();
        let mut found = Vec::new();
        for part in parts {
            keys.add(part);
            found.extend(std::iter::from_fn(|| keys.next(false)));
        }
        found.extend(std::iter::from_fn(|| keys.next(true)));
        assert!(!keys.is_unfinished());
        found
    }

    #[test]
    fn keys_in_pieces() {
        assert_eq!(
            keys(&[b"q\x1b[A\x1bOB\r"]),
            [Key::Letter('q'), Key::Up, Key::Down, Key::Enter]
        );
        assert_eq!(keys(&[b"\x1b", b"[", b"5~\x7f"]), [Key::PageUp, Key::Erase]);
        assert_eq!(
            keys(&[b"\xc3", "\u{a4}備".as_bytes()[2..].as_ref()]),
            [Key::Letter('備')]
        );
        assert_eq!(keys(&[b"\xe5\x82", b"\x99\x0c"]), [Key::Letter('備'), Key::Redraw]);
        assert_eq!(keys(&[b"\x1b"]), [Key::Escape]);
        assert_eq!(
            keys(&[b"\x1bj\x1b\x1b"]),
            [Key::Escape, Key::Letter('j'), Key::Escape, Key::Escape]
        );
        assert_eq!(
            keys(&[b"\x1b[1;5A\x1b[F\x1b[99z\x01\xff\xc3q"]),
            [Key::Up, Key::Last, Key::Letter('q')]
        );
        assert_eq!(keys(&[b"\x1b[1111111111111111111111", b"q"]), [Key::Letter('q')]);
    }

    /// Whatever arrives, it ends, and nothing is left over.
    #[test]
    fn any_bytes() {
        for first in 0..=255u8 {
            for second in 0..=255u8 {
                keys(&[&[first], &[second, 0x1b]]);
            }
        }
    }
}
