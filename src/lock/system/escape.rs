//! Text from elsewhere, made safe to show.

/// True for a character that a reader does not see, or that makes a line look like another one: control characters,
/// those that reorder or break a line, and those of no width (Unicode's Default_Ignorable_Code_Point). Accents and the
/// letters of all scripts are none of these.
pub fn disturbs(c: char) -> bool {
    // Almost all text ends here.
    if c < '\u{ad}' {
        return c.is_control();
    }
    matches!(c,
        | '\u{ad}'                   // soft hyphen
        | '\u{34f}'                  // combining grapheme joiner
        | '\u{61c}'                  // Arabic letter mark
        | '\u{115f}' | '\u{1160}'    // Hangul fillers
        | '\u{17b4}' | '\u{17b5}'    // Khmer inherent vowels
        | '\u{180b}'..='\u{180f}'    // Mongolian variation selectors, vowel separator
        | '\u{200b}'..='\u{200f}'    // zero-width space and joiners, left-to-right and right-to-left marks
        | '\u{2028}'..='\u{202e}'    // line and paragraph separators; embeddings and overrides
        | '\u{2060}'..='\u{206f}'    // word joiner, invisible operators, isolates
        | '\u{3164}'                 // Hangul filler
        | '\u{fe00}'..='\u{fe0f}'    // variation selectors
        | '\u{feff}'                 // zero-width no-break space (byte order mark)
        | '\u{ffa0}'                 // half-width Hangul filler
        | '\u{fff0}'..='\u{fffb}'    // interlinear annotations
        | '\u{1bca0}'..='\u{1bca3}'  // shorthand format controls
        | '\u{1d173}'..='\u{1d17a}'  // musical format controls
        | '\u{e0000}'..='\u{e0fff}'  // tags, variation selectors
    )
}

/// Text for messages: whatever disturbs ([`disturbs`]) is escaped as in Rust's literals, and nothing else. Text that was
/// escaped already stays as it is.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            shown.extend(c.escape_debug());
        } else if disturbs(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Bytes for display: whatever disturbs, and what is not UTF-8, is escaped by number.
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

    #[test]
    fn what_cannot_be_seen_is_shown() {
        for c in "\u{ad}\u{61c}\u{115f}\u{200b}\u{200d}\u{200f}\u{2028}\u{2029}\u{202a}\u{2060}\u{2066}\u{3164}\u{fe0f}\
                  \u{feff}\u{fff9}\u{e0041}\u{9b}\u{7f}"
            .chars()
        {
            let shown = printable(&format!("a{c}b"));
            assert!(shown.is_ascii() && shown.len() > 3, "{shown}");
            assert_eq!(printable(&shown), shown, "once is enough");
        }
        for text in ["größe", "e\u{301}", "備份", "عربي", "हिन्दी", "\u{1f512}", "a\u{a0}b"] {
            assert_eq!(printable(text), text);
        }
    }
}
