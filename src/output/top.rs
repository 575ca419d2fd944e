//! The live view of all locks, as lines of text: what is shown depends on what is known, what was chosen, and the size of
//! the terminal, and on nothing else.

use super::columns::{Shape, Table, cut};
use super::sentence::{note_text, short_duration};
use super::text::{self, Unreadable};
use super::{Style, names, shown};
use resourcelock::system::printable;
use resourcelock::{HistoryRecord, State};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use unicode_width::UnicodeWidthStr;

/// One line, in one look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub text: String,
    pub look: Look,
}

/// How a line looks, where there is colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    Plain,
    Title,
    Headings,
    Chosen,
    /// Somebody waits.
    Busy,
    /// Something that somebody should look at.
    Alarm,
    /// Free.
    Faint,
}

impl Line {
    fn new(text: impl AsRef<str>, look: Look, width: usize) -> Self {
        // What strangers wrote has been escaped; what has been forgotten is escaped here.
        let text = cut(&printable(text.as_ref()), Some(width));
        Self { text, look }
    }

    /// As a terminal gets it.
    pub fn painted(&self, colour: bool) -> String {
        // SGR in ECMA-48.
        let parameters = match self.look {
            _ if !colour => return self.text.clone(),
            Look::Plain => return self.text.clone(),
            Look::Title => "1",
            Look::Headings => "7",
            Look::Chosen => "1;7",
            Look::Busy => "33",
            Look::Alarm => "31",
            Look::Faint => "2",
        };
        format!("\x1b[{parameters}m{}\x1b[0m", self.text)
    }
}

/// What is shown of a lock.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its name as it is.
    pub name: String,
    owner: String,
    trusted: bool,
    word: &'static str,
    /// How long it has been held, when this was read.
    held: Option<Duration>,
    since: Option<SystemTime>,
    /// When the longest wait began; if nobody waits, the oldest hold.
    began: Option<SystemTime>,
    process: String,
    user: String,
    command: String,
    note: String,
    waiting: usize,
    longest: Option<Duration>,
    skips: u64,
    grants: Option<u64>,
    token: Option<u64>,
    /// The holder has died, or an earlier one did, and nobody has said yet that all is well.
    death: bool,
    read: Instant,
}

impl Row {
    /// Of a lock that was read at this instant.
    pub fn new(state: &State, read: Instant) -> Self {
        let first = state.holders.first();
        let others = match state.holders.len().saturating_sub(1) + state.holders_left_out {
            0 => String::new(),
            others => format!(" +{others}"),
        };
        let held_for = first.map(|holder| {
            let mut requester = holder.requester.clone();
            // Whoever keeps it is the one to be looked at.
            if let Some(survivor) = &holder.kept_by {
                requester.pid = survivor.pid;
                requester.command = survivor.command.clone();
            } else if holder.detached {
                requester.pid = holder.bound_pid.or(requester.pid);
            }
            requester
        });
        let note = note_text(&state.note);
        Self {
            name: state.name.to_string(),
            owner: text::owner_cell(state),
            trusted: state.trusted,
            word: text::word(state),
            held: text::longest(state),
            since: first.and_then(|holder| holder.since),
            began: match state.waiters.as_slice() {
                [] => state.holders.iter().filter_map(|holder| holder.since).min(),
                waiters => waiters.iter().filter_map(|waiter| waiter.since).min(),
            },
            process: match &held_for {
                Some(requester) if requester.is_foreign() => "?".to_owned(),
                Some(requester) => names::process_on(requester.pid, &requester.host) + &others,
                None => String::new(),
            },
            user: held_for.as_ref().and_then(names::user_of).unwrap_or_default(),
            command: match &held_for {
                Some(requester) => requester.command.clone().unwrap_or_default(),
                None if state.foreign => "(Python module)".to_owned(),
                None => String::new(),
            },
            note: held_for
                .as_ref()
                .map_or(note, |requester| text::note_cell(note, requester))
                .to_owned(),
            waiting: state.waiters.len() + state.waiters_left_out,
            longest: state.waiters.iter().filter_map(|waiter| waiter.waited).max(),
            skips: state.counters.map_or(0, |counters| counters.consecutive_timeouts),
            grants: state.counters.map(|counters| counters.acquisitions),
            token: first.and_then(|holder| holder.token),
            death: state.abandoned.is_some() || state.holders.iter().any(|holder| !holder.alive),
            read,
        }
    }

    /// Of a lock that cannot be inspected.
    pub fn unreadable(unreadable: &Unreadable, read: Instant) -> Self {
        Self {
            name: unreadable.name.to_string(),
            owner: unreadable.owner.map(names::user).unwrap_or_default(),
            trusted: true,
            word: "?",
            held: None,
            since: None,
            began: None,
            process: String::new(),
            user: String::new(),
            command: String::new(),
            note: shown(&unreadable.reason),
            waiting: 0,
            longest: None,
            skips: 0,
            grants: None,
            token: None,
            death: false,
            read,
        }
    }

    fn is_held(&self) -> bool {
        !matches!(self.word, "free" | "?")
    }

    /// Where it stands in the list: first what is waited for, the longest wait first; then what is held, the oldest hold
    /// first; then what is free; last what cannot be inspected. Time passes for all alike, so nothing moves by itself.
    fn rank(&self) -> (usize, bool, u128, &str) {
        let group = match () {
            () if self.waiting > 0 => 0,
            () if self.is_held() => 1,
            () if self.word == "free" => 2,
            () => 3,
        };
        // Two views of one time differ by less than that.
        let began = self
            .began
            .filter(|_| group < 2)
            .and_then(|began| began.duration_since(SystemTime::UNIX_EPOCH).ok());
        let tenths = began.map_or(0, |began| began.as_millis() / 100);
        (group, began.is_none(), tenths, &self.name)
    }

    /// True if any of what is shown contains this text, in capitals or not.
    pub fn contains(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        [
            &shown(&self.name),
            &self.owner,
            &self.process,
            &self.user,
            &self.command,
            &self.note,
        ]
        .iter()
        .any(|cell| cell.to_lowercase().contains(&text))
    }

    fn look(&self) -> Look {
        match () {
            () if self.death || self.word == "?" => Look::Alarm,
            () if self.waiting > 0 => Look::Busy,
            () if self.is_held() => Look::Plain,
            () => Look::Faint,
        }
    }

    fn sign(&self) -> char {
        match () {
            () if !self.trusted => '?',
            () if self.death => '!',
            () => ' ',
        }
    }
}

/// A column of the list.
struct Column {
    heading: &'static str,
    /// How wide a terminal has to be to have it.
    from: usize,
    shape: Shape,
    /// The time is the one that has passed since the lock was read.
    cell: fn(&Row, Duration) -> String,
}

const fn text_column(heading: &'static str, from: usize, least: usize, cell: fn(&Row, Duration) -> String) -> Column {
    let shape = Shape {
        cut: true,
        right: false,
        least,
    };
    Column {
        heading,
        from,
        shape,
        cell,
    }
}

const fn number_column(heading: &'static str, from: usize, least: usize, cell: fn(&Row, Duration) -> String) -> Column {
    let shape = Shape {
        cut: false,
        right: true,
        least,
    };
    Column {
        heading,
        from,
        shape,
        cell,
    }
}

/// A number that is worth to be looked at.
fn unless_zero(number: u64) -> String {
    match number {
        0 => String::new(),
        number => number.to_string(),
    }
}

/// Behind the lock's name, which every row begins with.
const COLUMNS: [Column; 13] = [
    text_column("OWNER", 120, 5, |row, _| row.owner.clone()),
    text_column("STATE", 120, 6, |row, _| row.word.to_owned()),
    number_column("AGE", 0, 6, |row, passed| match row.held {
        Some(held) => short_duration(held.saturating_add(passed)),
        None if row.is_held() => "?".to_owned(),
        None => row.word.to_owned(),
    }),
    text_column("SINCE", 150, 8, |row, _| row.since.map(text::clock).unwrap_or_default()),
    text_column("PID", 0, 7, |row, _| row.process.clone()),
    text_column("USER", 0, 4, |row, _| row.user.clone()),
    text_column("COMMAND", 0, 7, |row, _| row.command.clone()),
    number_column("QUEUE", 0, 5, |row, _| unless_zero(row.waiting as u64)),
    number_column("LONGEST", 0, 7, |row, passed| {
        row.longest
            .map(|longest| short_duration(longest.saturating_add(passed)))
            .unwrap_or_default()
    }),
    number_column("SKIPS", 0, 5, |row, _| unless_zero(row.skips)),
    number_column("GRANTS", 150, 6, |row, _| {
        row.grants.map(unless_zero).unwrap_or_default()
    }),
    number_column("TOKEN", 170, 16, |row, _| {
        row.token.map(|token| token.to_string()).unwrap_or_default()
    }),
    text_column("NOTE", 0, 4, |row, _| row.note.clone()),
];

/// All that is known, as it was read last.
#[derive(Debug, Clone, Default)]
pub struct Board {
    /// Where the locks are kept.
    pub place: String,
    /// In the order in which they are listed.
    pub rows: Vec<Arc<Row>>,
    /// Why this could not be read anew.
    pub trouble: Option<String>,
    /// The lock that was asked for.
    pub detail: Option<Detail>,
}

impl Board {
    /// Adds a lock, in its place.
    pub fn add(&mut self, row: Arc<Row>) {
        let place = self.rows.partition_point(|other| other.rank() < row.rank());
        self.rows.insert(place, row);
    }
}

/// One lock with everything about it.
#[derive(Debug, Clone)]
pub struct Detail {
    pub name: String,
    /// As `state` shows it.
    state: Vec<String>,
    /// The last first.
    past: Vec<HistoryRecord>,
    /// Why the past is not all that there was.
    gap: Option<String>,
}

/// What was chosen of it, to be shown.
#[derive(Debug, Clone, Copy)]
pub struct Choice<'a> {
    /// Only what contains this.
    pub filter: &'a str,
    /// That is being typed.
    pub typing: bool,
    /// The lock, by its place among those that are listed.
    pub chosen: usize,
    /// The place of the first one on the screen; of one lock's view the first line.
    pub first: usize,
}

/// The lines above and below the list.
const FRAME: usize = 3;

/// How many locks, or lines of one lock's view, have room.
pub fn page(lines: usize) -> usize {
    lines.saturating_sub(FRAME).max(1)
}

/// All locks, in that many columns and lines.
pub fn overview(
    board: &Board,
    rows: &[&Row],
    choice: Choice<'_>,
    (columns, lines): (usize, usize),
    now: Instant,
) -> Vec<Line> {
    let columns = columns.max(1);
    let mut picture = vec![Line::new(title(board), Look::Title, columns)];
    let shown: Vec<&&Row> = rows.iter().skip(choice.first).take(page(lines)).collect();
    let (headings, cells) = listed(&shown, choice, columns, now);
    picture.push(Line::new(filled(headings, columns), Look::Headings, columns));
    for (place, (row, text)) in shown.iter().zip(cells).enumerate() {
        let is_chosen = choice.first + place == choice.chosen;
        let (text, look) = if is_chosen {
            (filled(text, columns), Look::Chosen)
        } else {
            (text, row.look())
        };
        picture.push(Line::new(text, look, columns));
    }
    if rows.is_empty() {
        let nothing = match choice.filter {
            "" => "  no locks".to_owned(),
            filter => format!("  no lock whose row contains '{filter}'"),
        };
        picture.push(Line::new(nothing, Look::Plain, columns));
    }
    let keys = match (choice.typing, choice.filter) {
        (true, filter) => format!("filter: {filter}_   Enter: keep   Esc: clear"),
        (false, "") => "↑↓: select   Enter: queue and history   /: filter   q: quit".to_owned(),
        (false, filter) => {
            format!("↑↓: select   Enter: queue and history   /: filter   q: quit   (filter: {filter})")
        }
    };
    framed(picture, board, &keys, (columns, lines))
}

/// The headings, and a line of text for each lock.
fn listed(shown: &[&&Row], choice: Choice<'_>, width: usize, now: Instant) -> (String, Vec<String>) {
    let columns = || COLUMNS.iter().filter(|column| column.from <= width);
    let headings: Vec<&str> = std::iter::once("  LOCK")
        .chain(columns().map(|column| column.heading))
        .collect();
    let name = Shape {
        cut: true,
        right: false,
        least: 14,
    };
    let shapes: Vec<Shape> = std::iter::once(name)
        .chain(columns().map(|column| column.shape))
        .collect();
    let mut table = Table::new(&headings);
    for (place, row) in shown.iter().enumerate() {
        let mark = if choice.first + place == choice.chosen {
            '>'
        } else {
            ' '
        };
        let name = format!("{mark}{}{}", row.sign(), self::shown(&row.name));
        let passed = now.saturating_duration_since(row.read);
        let cells = columns().map(|column| (column.cell)(row, passed));
        table.push(std::iter::once(name).chain(cells).collect::<Vec<_>>());
    }
    let mut lines = table.fit(&shapes, width);
    (lines.remove(0), lines)
}

fn title(board: &Board) -> String {
    let held = board.rows.iter().filter(|row| row.is_held()).count();
    let waiting: usize = board.rows.iter().map(|row| row.waiting).sum();
    let locks = match board.rows.len() {
        1 => "1 lock".to_owned(),
        locks => format!("{locks} locks"),
    };
    format!(
        "resourcelock on {}: {locks}, {held} held, {waiting} waiting",
        board.place
    )
}

/// Fills up to all lines; the last ones say what is wrong, and which keys there are.
fn framed(mut picture: Vec<Line>, board: &Board, keys: &str, (columns, lines): (usize, usize)) -> Vec<Line> {
    picture.resize(lines.saturating_sub(1), Line::new("", Look::Plain, columns));
    if let (Some(trouble), [_, .., last]) = (&board.trouble, picture.as_mut_slice()) {
        *last = Line::new(trouble, Look::Alarm, columns);
    }
    picture.push(Line::new(keys, Look::Title, columns));
    picture.truncate(lines.max(1));
    picture
}

/// One lock, in that many columns and lines.
pub fn one_lock(board: &Board, detail: &Detail, first: usize, (columns, lines): (usize, usize)) -> Vec<Line> {
    let columns = columns.max(1);
    let title = format!("resourcelock on {}: {}", board.place, shown(&detail.name));
    let mut picture = vec![Line::new(title, Look::Title, columns)];
    let content = detail.lines(columns);
    picture.extend(content.into_iter().skip(first).take(page(lines)));
    framed(
        picture,
        board,
        "↑↓: scroll   Esc: all locks   q: quit",
        (columns, lines),
    )
}

impl Detail {
    /// Of a lock and what has ended of it, oldest first; `gap` says why that is not all that there was.
    pub fn new(name: &str, state: Option<&State>, mut past: Vec<HistoryRecord>, gap: Option<String>) -> Self {
        past.reverse();
        let state = match state {
            Some(state) => text::state(state, Style::default()),
            None => format!("{}: free (never used)", shown(name)),
        };
        Self {
            name: name.to_owned(),
            state: state.lines().map(str::to_owned).collect(),
            past,
            gap,
        }
    }

    /// How many lines it has.
    pub fn length(&self, columns: usize) -> usize {
        self.lines(columns).len()
    }

    fn lines(&self, columns: usize) -> Vec<Line> {
        let plain = |text: &str| Line::new(text, Look::Plain, columns);
        let mut lines: Vec<Line> = Vec::new();
        for line in &self.state {
            lines.extend(wrapped(line, columns).iter().map(|part| plain(part)));
        }
        lines.push(plain(""));
        if let Some(gap) = &self.gap {
            lines.extend(wrapped(gap, columns).iter().map(|part| plain(part)));
        }
        let mut table = Table::new(&[
            "ENDED", "HOW", "STATUS", "HELD", "WAITED", "PID", "USER", "COMMAND", "NOTE",
        ]);
        let words = |least| Shape {
            cut: true,
            right: false,
            least,
        };
        let number = Shape {
            cut: false,
            right: true,
            least: 6,
        };
        let shapes = [
            words(8),
            words(9),
            words(6),
            number,
            number,
            words(7),
            words(4),
            words(7),
            words(4),
        ];
        for record in &self.past {
            table.push([
                text::clock(record.ended),
                record.how.as_str().to_owned(),
                text::status_cell(record),
                text::held_cell(record, short_duration),
                record.waited.map_or_else(|| "-".to_owned(), short_duration),
                names::process_on(record.requester.pid, &record.requester.host),
                names::user_of(&record.requester).unwrap_or_default(),
                record.requester.command.clone().unwrap_or_default(),
                text::note_cell(&record.note, &record.requester).to_owned(),
            ]);
        }
        let mut rows = table.fit(&shapes, columns).into_iter();
        let headings = rows.next().unwrap_or_default();
        lines.push(Line::new(filled(headings, columns), Look::Headings, columns));
        if self.past.is_empty() {
            lines.push(plain("nothing has ended yet"));
        }
        for (record, row) in self.past.iter().zip(rows) {
            let look = if record.failed() { Look::Alarm } else { Look::Plain };
            lines.push(Line::new(row, look, columns));
        }
        lines
    }
}

/// With spaces up to this width.
fn filled(mut text: String, columns: usize) -> String {
    text.extend(std::iter::repeat_n(' ', columns.saturating_sub(text.width())));
    text
}

/// How far the continuation of a line is indented: as deep as what `state` says.
const INDENT: usize = 13;

/// A line in pieces of at most this width, broken between words where there are any.
fn wrapped(line: &str, columns: usize) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut piece = String::new();
    for word in line.split_inclusive(' ') {
        if !piece.trim().is_empty() && piece.width() + word.trim_end().width() > columns {
            pieces.push(std::mem::take(&mut piece));
            if columns > 2 * INDENT {
                piece.push_str(&" ".repeat(INDENT));
            }
        }
        piece.push_str(word);
    }
    pieces.push(piece);
    pieces.into_iter().map(|piece| piece.trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, word: &'static str, read: Instant) -> Row {
        Row {
            word,
            owner: "pi".to_owned(),
            note: String::new(),
            ..Row::unreadable(
                &Unreadable {
                    name: resourcelock::LockName::new(name).expect("a name"),
                    reason: String::new(),
                    owner: None,
                },
                read,
            )
        }
    }

    fn held(name: &str, seconds: u64, command: &str, note: &str, read: Instant) -> Row {
        Row {
            held: Some(Duration::from_secs(seconds)),
            began: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 - seconds)),
            process: "4711".to_owned(),
            user: "pi".to_owned(),
            command: command.to_owned(),
            note: note.to_owned(),
            grants: Some(17),
            token: Some(1_795_890_477_619_793),
            ..row(name, "locked", read)
        }
    }

    fn board(read: Instant) -> Board {
        let waited_for = Row {
            waiting: 2,
            longest: Some(Duration::from_secs(185)),
            began: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)),
            skips: 3,
            ..held("i2c", 7_800, "read_sensor.sh", "bus scan", read)
        };
        let rows = [
            row("archive", "free", read),
            held("young", 5, "sleep", "", read),
            Row {
                trusted: false,
                owner: "eve (claims)".to_owned(),
                ..held("old", 500, "sleep", "", read)
            },
            Row {
                death: true,
                ..row("broken", "free", read)
            },
            Row {
                note: "no permission".to_owned(),
                ..row("secret", "?", read)
            },
            Row {
                word: "slots",
                ..held("備份", 100, "備份.sh", "夜間備份", read)
            },
            waited_for,
        ];
        let mut board = Board {
            place: "this machine".to_owned(),
            ..Board::default()
        };
        rows.into_iter().for_each(|row| board.add(Arc::new(row)));
        board
    }

    fn picture(board: &Board, filter: &str, chosen: usize, size: (usize, usize), now: Instant) -> Vec<Line> {
        let rows: Vec<&Row> = board
            .rows
            .iter()
            .map(|row| &**row)
            .filter(|row| row.contains(filter))
            .collect();
        let choice = Choice {
            filter,
            typing: false,
            chosen,
            first: 0,
        };
        overview(board, &rows, choice, size, now)
    }

    fn text(picture: &[Line]) -> String {
        picture
            .iter()
            .map(|line| format!("{}\n", line.text.trim_end()))
            .collect()
    }

    #[test]
    fn all_locks_in_80_columns() {
        let read = Instant::now();
        let now = read + Duration::from_secs(2);
        let picture = picture(&board(read), "", 1, (80, 13), now);
        assert_eq!(
            text(&picture),
            "\
resourcelock on this machine: 7 locks, 4 held, 2 waiting
  LOCK            AGE PID     USER COMMAND      QUEUE LONGEST SKIPS NOTE
  i2c           2h10m 4711    pi   read_sensor…     2   3m07s     3 bus scan
>?old           8m22s 4711    pi   sleep
  備份          1m42s 4711    pi   備份.sh                          夜間備份
  young            7s 4711    pi   sleep
  archive        free
 !broken         free
  secret            ?                                               no permissi…



↑↓: select   Enter: queue and history   /: filter   q: quit
"
        );
        let looks: Vec<Look> = picture.iter().map(|line| line.look).collect();
        assert_eq!(
            looks[..9],
            [
                Look::Title,
                Look::Headings,
                Look::Busy,
                Look::Chosen,
                Look::Plain,
                Look::Plain,
                Look::Faint,
                Look::Alarm,
                Look::Alarm
            ]
        );
        assert_eq!(picture[3].painted(false), picture[3].text);
        assert!(picture[3].painted(true).starts_with("\x1b[1;7m>?old"));
    }

    #[test]
    fn more_columns_where_there_is_room() {
        let read = Instant::now();
        let picture = picture(&board(read), "SCAN", 0, (200, 6), read);
        assert_eq!(
            text(&picture),
            "\
resourcelock on this machine: 7 locks, 4 held, 2 waiting
  LOCK          OWNER  STATE      AGE  SINCE     PID      USER  COMMAND         QUEUE  LONGEST  SKIPS  GRANTS             TOKEN  NOTE
> i2c           pi     locked   2h10m            4711     pi    read_sensor.sh      2    3m05s      3      17  1795890477619793  bus scan


↑↓: select   Enter: queue and history   /: filter   q: quit   (filter: SCAN)
"
        );
    }

    #[test]
    fn what_is_wrong_stands_above_the_keys() {
        let read = Instant::now();
        let trouble = Some("one:2379 cannot be reached".to_owned());
        let board = Board {
            trouble,
            rows: Vec::new(),
            ..board(read)
        };
        let picture = picture(&board, "", 0, (40, 6), read);
        assert_eq!(
            text(&picture),
            "\
resourcelock on this machine: 0 locks, …
  LOCK            AGE PID     USER COMM…
  no locks

one:2379 cannot be reached
↑↓: select   Enter: queue and history  …
"
        );
    }

    /// Whatever the size, no more than that is written, and nothing is too much for it.
    #[test]
    fn every_size() {
        let read = Instant::now();
        let mut board = board(read);
        board.trouble = Some("夜間備份 ".repeat(30));
        let detail = Detail::new("i2c", None, Vec::new(), Some("備份備份 and so on ".repeat(20)));
        for columns in (0..60).chain([79, 80, 99, 100, 119, 120, 150, 170, 500]) {
            for lines in 0..15 {
                let one = one_lock(&board, &detail, 3, (columns, lines));
                for picture in [picture(&board, "", 2, (columns, lines), read), one] {
                    assert_eq!(picture.len(), lines.max(1), "{columns} columns");
                    for line in picture {
                        assert!(
                            line.text.width() <= columns.max(1),
                            "{} in {columns} columns",
                            line.text
                        );
                    }
                }
            }
        }
    }

    /// What strangers wrote moves no cursor.
    #[test]
    fn nothing_that_disturbs() {
        let read = Instant::now();
        let mut board = board(read);
        board.rows = vec![Arc::new(held("a\u{202e}b", 1, "\x1b[2Jcommand", "a\nnote\x07", read))];
        board.place = "\x1b]0;title\x07".to_owned();
        board.trouble = Some("\x1b[1A".to_owned());
        let mut lines = picture(&board, "\x1b[2J", 0, (200, 8), read);
        lines.extend(one_lock(
            &board,
            &Detail::new("i2c", None, Vec::new(), Some("\x1b[3J".to_owned())),
            0,
            (80, 9),
        ));
        for line in lines {
            assert!(!line.text.contains(resourcelock::system::disturbs), "{:?}", line.text);
        }
    }

    #[test]
    fn one_lock_that_does_not_exist() {
        let read = Instant::now();
        let detail = Detail::new("i2c", None, Vec::new(), None);
        assert_eq!(
            text(&one_lock(&board(read), &detail, 0, (80, 8))),
            "\
resourcelock on this machine: i2c
i2c: free (never used)

ENDED    HOW       STATUS   HELD WAITED PID     USER COMMAND NOTE
nothing has ended yet


↑↓: scroll   Esc: all locks   q: quit
"
        );
        assert_eq!(
            wrapped(
                "  held by    2048 (sleep, root), exclusive, command 2052, since 09:31:02",
                50
            ),
            [
                "  held by    2048 (sleep, root), exclusive,",
                "             command 2052, since 09:31:02"
            ]
        );
    }
}
