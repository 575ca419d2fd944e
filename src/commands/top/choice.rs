//! What somebody who looks at the screen has chosen, by keys.

use super::keys::Key;
use crate::output::top::{self, Board, Choice, Row};

/// What is to be done about a key, besides drawing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    Nothing,
    /// Show the lock of this name; `None`: all of them.
    Show(Option<String>),
    Redraw,
    Quit,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Chosen {
    filter: String,
    typing: bool,
    /// The lock that is chosen. It stays chosen wherever it moves to.
    lock: Option<String>,
    /// Its place; when it is gone, that is another one's.
    place: usize,
    /// The place of the first one on the screen.
    first: usize,
    /// The lock that is shown alone.
    shown: Option<String>,
    /// The first line of it on the screen.
    line: usize,
}

impl Chosen {
    /// The locks that fit the filter, in their order.
    pub fn rows<'a>(&self, board: &'a Board) -> Vec<&'a Row> {
        board
            .rows
            .iter()
            .map(|row| &**row)
            .filter(|row| row.contains(&self.filter))
            .collect()
    }

    /// The lock that is shown alone.
    pub fn shown(&self) -> Option<&str> {
        self.shown.as_deref()
    }

    /// The first line of that on the screen.
    pub fn line(&self) -> usize {
        self.line
    }

    /// For the picture of all locks.
    pub fn choice(&self) -> Choice<'_> {
        Choice {
            filter: &self.filter,
            typing: self.typing,
            chosen: self.place,
            first: self.first,
        }
    }

    /// Follows what has been chosen to where it is now, on a screen with so many columns and lines.
    pub fn settle(&mut self, board: &Board, (columns, lines): (usize, usize)) {
        let page = top::page(lines);
        let rows = self.rows(board);
        let same = rows
            .iter()
            .position(|row| Some(row.name.as_str()) == self.lock.as_deref());
        self.choose(&rows, same.unwrap_or(self.place));
        let last = rows.len().saturating_sub(page);
        let least = (self.place + 1).saturating_sub(page);
        self.first = self.first.max(least).min(self.place).min(last);
        let length = board.detail.as_ref().map_or(0, |detail| detail.length(columns));
        self.line = self.line.min(length.saturating_sub(page));
    }

    fn choose(&mut self, rows: &[&Row], place: usize) {
        self.place = place.min(rows.len().saturating_sub(1));
        self.lock = rows.get(self.place).map(|row| row.name.clone());
    }

    /// Does what the key says.
    pub fn press(&mut self, key: Key, board: &Board, size: (usize, usize)) -> Wish {
        if key == Key::Redraw {
            return Wish::Redraw;
        }
        if self.typing {
            self.type_filter(key);
        } else if self.shown.is_some() {
            return self.press_at_one(key, top::page(size.1));
        } else {
            return self.press_at_all(key, board, top::page(size.1));
        }
        Wish::Nothing
    }

    fn type_filter(&mut self, key: Key) {
        match key {
            Key::Letter(letter) => self.filter.push(letter),
            Key::Erase => _ = self.filter.pop(),
            Key::EraseAll => self.filter.clear(),
            Key::Enter => self.typing = false,
            Key::Escape => {
                self.filter.clear();
                self.typing = false;
            }
            _ => {}
        }
    }

    fn press_at_all(&mut self, key: Key, board: &Board, page: usize) -> Wish {
        let rows = self.rows(board);
        match key {
            Key::Letter('q') => return Wish::Quit,
            Key::Letter('/') => self.typing = true,
            Key::Escape => self.filter.clear(),
            Key::Enter => {
                if let Some(row) = rows.get(self.place) {
                    self.shown = Some(row.name.clone());
                    self.line = 0;
                    return Wish::Show(self.shown.clone());
                }
            }
            key => {
                if let Some(place) = moved(key, self.place, page, rows.len()) {
                    self.choose(&rows, place);
                }
            }
        }
        Wish::Nothing
    }

    fn press_at_one(&mut self, key: Key, page: usize) -> Wish {
        match key {
            Key::Letter('q') => return Wish::Quit,
            Key::Escape | Key::Enter | Key::Erase => {
                self.shown = None;
                return Wish::Show(None);
            }
            key => {
                if let Some(line) = moved(key, self.line, page, usize::MAX) {
                    self.line = line;
                }
            }
        }
        Wish::Nothing
    }
}

/// Where a key leads from `place`.
fn moved(key: Key, place: usize, page: usize, length: usize) -> Option<usize> {
    let last = length.saturating_sub(1);
    match key {
        Key::Up | Key::Letter('k') => Some(place.saturating_sub(1)),
        Key::Down | Key::Letter('j') => Some(place.saturating_add(1).min(last)),
        Key::PageUp => Some(place.saturating_sub(page)),
        Key::PageDown | Key::Letter(' ') => Some(place.saturating_add(page).min(last)),
        Key::First | Key::Letter('g') => Some(0),
        Key::Last | Key::Letter('G') => Some(last),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::text::Unreadable;
    use resourcelock::LockName;
    use std::sync::Arc;
    use std::time::Instant;

    const SIZE: (usize, usize) = (80, 8); // five locks have room

    fn board(names: &[&str]) -> Board {
        let row = |name: &&str| {
            let unreadable = Unreadable {
                name: LockName::new(name).expect("a name"),
                reason: "no permission".to_owned(),
                owner: None,
            };
            Arc::new(Row::unreadable(&unreadable, Instant::now()))
        };
        Board {
            rows: names.iter().map(row).collect(),
            ..Board::default()
        }
    }

    fn press(chosen: &mut Chosen, keys: &[Key], board: &Board) -> Wish {
        let mut last = Wish::Nothing;
        for key in keys {
            last = chosen.press(*key, board, SIZE);
            chosen.settle(board, SIZE);
        }
        last
    }

    fn chosen(board: &Board) -> Chosen {
        let mut chosen = Chosen::default();
        chosen.settle(board, SIZE);
        chosen
    }

    #[test]
    fn what_is_chosen_stays_chosen() {
        let first = board(&["a", "b", "c", "d", "e", "f", "g", "h"]);
        let mut chosen = chosen(&first);
        press(&mut chosen, &[Key::Down, Key::Letter('j')], &first);
        assert_eq!((chosen.choice().chosen, chosen.lock.as_deref()), (2, Some("c")));
        let moved = board(&["x", "c", "a", "b"]);
        chosen.settle(&moved, SIZE);
        assert_eq!((chosen.choice().chosen, chosen.lock.as_deref()), (1, Some("c")));
        let gone = board(&["x"]);
        chosen.settle(&gone, SIZE);
        assert_eq!((chosen.choice().chosen, chosen.lock.as_deref()), (0, Some("x")));
        chosen.settle(&board(&[]), SIZE);
        assert_eq!((chosen.choice().chosen, chosen.lock.as_deref()), (0, None));
        assert_eq!(press(&mut chosen, &[Key::Enter], &board(&[])), Wish::Nothing);
    }

    #[test]
    fn the_list_scrolls_as_far_as_needed() {
        let board = board(&["a", "b", "c", "d", "e", "f", "g", "h"]);
        let mut chosen = chosen(&board);
        let at = |chosen: &Chosen| (chosen.choice().chosen, chosen.choice().first);
        for (key, place) in [
            (Key::Up, (0, 0)),
            (Key::PageDown, (5, 1)),
            (Key::Last, (7, 3)),
            (Key::Down, (7, 3)),
            (Key::Up, (6, 3)),
            (Key::PageUp, (1, 1)),
            (Key::Letter(' '), (6, 2)),
            (Key::First, (0, 0)),
        ] {
            press(&mut chosen, &[key], &board);
            assert_eq!(at(&chosen), place, "{key:?}");
        }
        press(&mut chosen, &[Key::Last], &board);
        chosen.settle(&board, (80, 100)); // the window has grown
        assert_eq!(at(&chosen), (7, 0));
    }

    #[test]
    fn filter() {
        let board = board(&["alpha", "beta", "Gamma"]);
        let mut chosen = chosen(&board);
        let names = |chosen: &Chosen| {
            chosen
                .rows(&board)
                .iter()
                .map(|row| row.name.clone())
                .collect::<Vec<_>>()
        };
        // While it is typed, a q is a q.
        press(&mut chosen, &[Key::Letter('/'), Key::Letter('q')], &board);
        assert!(chosen.choice().typing && names(&chosen).is_empty());
        press(
            &mut chosen,
            &[Key::Erase, Key::Letter('g'), Key::Letter('A'), Key::Enter],
            &board,
        );
        assert_eq!(
            (names(&chosen), chosen.choice().typing),
            (vec!["Gamma".to_owned()], false)
        );
        assert_eq!(
            press(&mut chosen, &[Key::Enter], &board),
            Wish::Show(Some("Gamma".to_owned()))
        );
        assert_eq!(press(&mut chosen, &[Key::Escape], &board), Wish::Show(None));
        assert_eq!(names(&chosen).len(), 1, "that key was for the lock");
        press(&mut chosen, &[Key::Escape], &board);
        assert_eq!(names(&chosen).len(), 3);
        press(
            &mut chosen,
            &[
                Key::Letter('/'),
                Key::Letter('b'),
                Key::EraseAll,
                Key::Letter('b'),
                Key::Escape,
            ],
            &board,
        );
        assert_eq!(names(&chosen).len(), 3);
        assert_eq!(press(&mut chosen, &[Key::Letter('q')], &board), Wish::Quit);
    }
}
