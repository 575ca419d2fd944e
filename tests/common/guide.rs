//! Guides as tests: runs their blocks and compares what happens with what they say.
//!
//! A guide's `console` blocks form one session: `$ ` begins a command, `> ` continues it, and the other lines are what
//! it prints. Numbers, durations and the width of columns may differ.

/// The blocks of a guide in `language`: the rest of each block's opening line, and the content.
pub fn blocks(guide: &str, language: &str) -> Vec<(String, String)> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs")
        .join(guide);
    let guide = std::fs::read_to_string(path).unwrap();
    let mut found = Vec::new();
    for block in guide.split("\n```").skip(1).step_by(2) {
        let (head, content) = block.split_once('\n').unwrap();
        if let Some(rest) = head.strip_prefix(language) {
            found.push((rest.trim().to_owned(), format!("{content}\n")));
        }
    }
    found
}

/// The block of a guide in `language` that has this name behind the language's.
///
/// # Panics
/// If there is none.
pub fn named(guide: &str, language: &str, name: &str) -> String {
    let found = blocks(guide, language).into_iter().find(|(head, _)| head == name);
    found.unwrap_or_else(|| panic!("{guide}: no {language} {name}")).1
}

/// A crontab's variables, with their values, and the commands of its jobs, which stand behind five fields.
pub fn crontab(text: &str) -> (Vec<(String, String)>, Vec<String>) {
    let variable = |line: &str| {
        let (name, value) = line.split_once('=')?;
        let named = name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
        named.then(|| (name.to_owned(), value.to_owned()))
    };
    let command = |line: &str| line.split_whitespace().skip(5).collect::<Vec<_>>().join(" ");
    let jobs = text.lines().filter(|line| variable(line).is_none()).map(command);
    (text.lines().filter_map(variable).collect(), jobs.collect())
}

/// A command and what the guide says it prints.
pub struct Step {
    pub command: String,
    pub prints: String,
}

/// All of a guide's sessions.
///
/// # Panics
/// If there are none.
pub fn steps(guide: &str) -> Vec<Step> {
    let steps: Vec<Step> = blocks(guide, "console")
        .iter()
        .flat_map(|(_, block)| session(block))
        .collect();
    assert!(!steps.is_empty(), "{guide} has no sessions");
    steps
}

/// One session.
pub fn session(block: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in block.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step {
                command: format!("{command}\n"),
                prints: String::new(),
            });
            continue;
        }
        let step = steps.last_mut().expect("a block begins with a command");
        match line.strip_prefix("> ").or((line == ">").then_some("")) {
            Some(more) => step.command.push_str(&format!("{more}\n")),
            None => step.prints.push_str(&format!("{line}\n")),
        }
    }
    steps
}

/// Separates the outputs of two commands.
const NEXT: &str = "==next\n";

/// The session as a bash script.
pub fn script(steps: &[Step]) -> String {
    let mut script = String::new();
    for step in steps {
        script.push_str(&step.command);
        script.push_str("printf '==next\\n'\n");
    }
    script
}

/// Asserts that the script printed what the guide says.
///
/// # Panics
/// If it did not.
pub fn check(steps: &[Step], printed: &str) {
    let answers: Vec<&str> = printed.split_terminator(NEXT).collect();
    assert_eq!(answers.len(), steps.len(), "{printed}");
    for (step, answer) in steps.iter().zip(answers) {
        assert_eq!(
            without_numbers(answer),
            without_numbers(&step.prints),
            "{}it printed:\n{answer}",
            step.command
        );
    }
}

/// Replaces numbers (times, dates, process ids, tokens; not an exit status) by `0`, units of time by `s`, and runs of
/// blanks by one blank.
fn without_numbers(text: &str) -> String {
    let mut plain = String::new();
    for word in text.split([' ', '\t']).filter(|word| !word.is_empty()) {
        if plain.ends_with("status ") {
            plain.push_str(&format!("{word} "));
            continue;
        }
        let mut shown = String::new();
        for letter in word.chars() {
            let after_digit = shown.ends_with('0');
            match letter {
                '0'..='9' if after_digit => {}
                '0'..='9' => shown.push('0'),
                '.' | ':' | '-' if after_digit => {}
                _ => shown.push(letter),
            }
        }
        for unit in ["µs", "ms", "min"] {
            if shown.starts_with(unit) && plain.ends_with("0 ") {
                shown = shown.replacen(unit, "s", 1);
            }
        }
        plain.push_str(&shown);
        plain.push(' ');
    }
    plain.replace(" \n", "\n").replace("\n ", "\n").trim().to_owned()
}
