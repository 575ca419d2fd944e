//! The live view of all locks, as lines of text: what is shown depends on what is known, what was chosen, and the size of
//! the terminal, and on nothing else.

mod detail;
mod row;

pub use detail::Detail;
pub use row::Row;

use super::columns::cut;
use super::{Style, shown};
use resourcelock::system::printable;
use row::listed;
use std::sync::Arc;
use std::time::Instant;
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
    pub fn painted(&self, style: Style) -> String {
        let parameters = match self.look {
            Look::Plain => return self.text.clone(),
            Look::Title => "1",
            Look::Headings => "7",
            Look::Chosen => "1;7",
            Look::Busy => "33",
            Look::Alarm => "31",
            Look::Faint => "2",
        };
        style.paint(parameters, &self.text)
    }
}

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
    let shown: Vec<&Row> = rows.iter().skip(choice.first).take(page(lines)).copied().collect();
    let chosen = choice.chosen.checked_sub(choice.first);
    let (headings, cells) = listed(&shown, chosen, columns, now);
    picture.push(Line::new(filled(headings, columns), Look::Headings, columns));
    for (place, (row, text)) in shown.iter().zip(cells).enumerate() {
        let (text, look) = if Some(place) == chosen {
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

/// With spaces up to this width.
fn filled(mut text: String, columns: usize) -> String {
    text.extend(std::iter::repeat_n(' ', columns.saturating_sub(text.width())));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::text::Unreadable;
    use std::time::{Duration, SystemTime};

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
        assert_eq!(picture[3].painted(Style::default()), picture[3].text);
        let coloured = Style { colour: true };
        assert!(picture[3].painted(coloured).starts_with("\x1b[1;7m>?old"));
        assert_eq!(picture[4].painted(coloured), picture[4].text);
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
    }
}
