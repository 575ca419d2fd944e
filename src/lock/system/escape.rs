//! Text from elsewhere, made safe to show.

/// Control characters, and the marks that reorder a line on the screen.
fn disturbs(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Text for messages: whatever could disturb a terminal is escaped as in Rust's literals, and nothing else.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if disturbs(c) {
            shown.extend(c.escape_debug());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Bytes for display: whatever could disturb a terminal, and what is not UTF-8, is escaped by number.
pub fn printable_bytes(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if disturbs(c) {
                shown.extend(c.escape_unicode());
            } else {
                shown.push(c);
            }
        }
        for byte in chunk.invalid() {
            shown.push_str(&format!("\\x{byte:02x}"));
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaping() {
        assert_eq!(printable_bytes("bus scan ä".as_bytes()), "bus scan ä");
        assert_eq!(printable_bytes(b"a\x1b]0;x\x07\xff\n"), "a\\u{1b}]0;x\\u{7}\\xff\\u{a}");
        assert_eq!(printable("it's ä\x1b[31m\n\u{202e}"), "it's ä\\u{1b}[31m\\n\\u{202e}");
    }
}
