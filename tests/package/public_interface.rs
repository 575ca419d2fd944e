//! The library's public interface, as rustdoc shows it, is the committed list: nothing comes or goes unnoticed.
//!
//! `BLESS=1 cargo test --all-features --test package public_interface` rewrites the list.

use super::package_cargo::cargo;
use std::fs;
use std::path::Path;

/// Implementations that say nothing of a type: of the compiler's own traits, and of every type.
const UNSAID: [&str; 5] = [
    "Freeze for",
    "RefUnwindSafe for",
    "Unpin for",
    "UnsafeUnpin for",
    "StructuralPartialEq for",
];

/// The text of a piece of HTML, on one line.
fn text(html: &str) -> String {
    let mut text = String::new();
    let mut rest = html;
    while let Some((before, tag)) = rest.split_once('<') {
        text.push_str(before);
        rest = tag.split_once('>').map_or("", |(_, after)| after);
    }
    text.push_str(rest);
    for (entity, character) in [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&nbsp;", " "),
        ("&amp;", "&"),
    ] {
        text = text.replace(entity, character);
    }
    text.replace("where", " where")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

/// What stands between the first `from` and the `to` after it, and what comes behind.
fn between<'t>(html: &'t str, from: &str, to: &str) -> Option<(&'t str, &'t str)> {
    html.split_once(from)?.1.split_once(to)
}

/// One line for the item, and one for each of its methods and implementations.
fn lines(page: &str) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some((item, _)) = between(page, "<pre class=\"rust item-decl\"><code>", "</code></pre>") {
        lines.push(text(item));
    }
    let (mut rest, mut inherent) = (page, true);
    while let Some(at) = rest.find("class=\"code-header\">") {
        let is_impl = rest[..at].ends_with("<h3 ");
        let (header, after) =
            between(rest, "class=\"code-header\">", if is_impl { "</h3>" } else { "</h4>" }).expect("a header ends");
        let header = text(header);
        rest = after;
        if is_impl {
            inherent = !header.contains(" for ");
            let of_all = header.starts_with("impl<T") && (header.contains(" for T") || header.contains("for T where"));
            if !inherent && !of_all && !UNSAID.iter().any(|unsaid| header.contains(unsaid)) {
                lines.push(format!("    {header}"));
            }
        } else if inherent && header.starts_with("pub ") {
            lines.push(format!("    {header}"));
        }
    }
    lines
}

#[test]
fn public_interface_is_the_committed_one() {
    let folder = tempfile::tempdir().unwrap();
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/package");
    // The model, too, or what it shares with the library would be compiled with other features than in `scripts/test.sh`.
    let output = cargo(&["test", "--doc", "--all-features", "--package", "resourcelock"])
        .args(["--package", "resourcelock-model"])
        .env("RUSTDOC", scripts.join("rustdoc.sh"))
        .env("DOCUMENTATION", folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let pages = folder.path().join("resourcelock");
    let all = fs::read_to_string(pages.join("all.html")).unwrap();
    let links = all
        .split("href=\"")
        .skip(1)
        .filter_map(|link| Some(link.split_once('"')?.0));
    // kind.Name.html
    let is_item = |link: &&str| link.ends_with(".html") && link.split('.').count() == 3 && !link.starts_with('.');
    let mut items: Vec<&str> = links.filter(is_item).collect();
    items.sort_unstable();
    items.dedup();
    let mut found = String::new();
    for item in items {
        for line in lines(&fs::read_to_string(pages.join(item)).unwrap()) {
            found.push_str(&line);
            found.push('\n');
        }
    }
    let listed = scripts.join("public_interface.txt");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&listed, &found).unwrap();
    }
    let expected = fs::read_to_string(&listed).unwrap();
    let news: Vec<&str> = found
        .lines()
        .filter(|line| !expected.lines().any(|other| other == *line))
        .collect();
    let gone: Vec<&str> = expected
        .lines()
        .filter(|line| !found.lines().any(|other| other == *line))
        .collect();
    assert!(
        news.is_empty() && gone.is_empty(),
        "new: {news:#?}\ngone: {gone:#?}\n(BLESS=1 rewrites the list)"
    );
}
