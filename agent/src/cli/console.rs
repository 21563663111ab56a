//! Text for terminals: tables, sizes, colours; and nothing that a log could do to a terminal.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, stdout};

/// Whether people look at standard output.
pub(super) fn for_people() -> bool {
    stdout().is_terminal()
}

/// A table: aligned for people, with tabs otherwise.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    /// Columns that hold numbers.
    right: Vec<bool>,
}

impl Table {
    /// With this head; names that begin with `>` are aligned to the right.
    pub(crate) fn new(head: &[&str]) -> Table {
        let right = head.iter().map(|name| name.starts_with('>')).collect();
        let names = head.iter().map(|name| name.trim_start_matches('>').to_owned()).collect();
        Table { rows: vec![names], right }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub(crate) fn render(&self, aligned: bool) -> String {
        if !aligned {
            return self.rows.iter().map(|row| row.join("\t") + "\n").collect();
        }
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.right.len()).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), right) in row.iter().zip(&widths).zip(&self.right) {
                let _ =
                    if *right { write!(line, "{cell:>width$}  ") } else { write!(line, "{cell:<width$}  ") };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// `1.5 GiB` for people; the number of bytes otherwise.
pub(crate) fn size(bytes: u64, people: bool) -> String {
    if !people {
        return bytes.to_string();
    }
    let mut value = bytes as f64;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for next in units {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

/// One of six colours, the same for the same name.
pub(super) fn colour_of(name: &str) -> u8 {
    let hash = name.bytes().fold(0_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(byte)));
    31 + u8::try_from(hash % 6).unwrap_or(0)
}

/// A message that may be shown on a terminal: colours pass, anything else that would move the cursor, change the
/// title or answer as if typed is made visible instead.
pub(super) fn tamed(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(character) = rest.chars().next() {
        if let Some(length) = colour_sequence(rest) {
            out.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        match character {
            '\t' => out.push('\t'),
            control if control.is_control() => out.extend(control.escape_default()),
            other => out.push(other),
        }
        rest = &rest[character.len_utf8()..];
    }
    out
}

/// Length of the colour sequence (`ESC [ digits and ; m`) that `text` begins with.
fn colour_sequence(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\u{1b}[")?;
    let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    parameters[end..].starts_with('m').then_some(2 + end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned_for_people_and_tabbed_otherwise() {
        let mut table = Table::new(&["NAME", ">BYTES"]);
        table.row(vec!["a".to_owned(), "1".to_owned()]);
        table.row(vec!["longer".to_owned(), "1234567".to_owned()]);
        assert_eq!(table.render(true), "NAME      BYTES\na             1\nlonger  1234567\n");
        assert_eq!(table.render(false), "NAME\tBYTES\na\t1\nlonger\t1234567\n");
    }

    #[test]
    fn sizes_are_short_for_people_and_exact_otherwise() {
        for (bytes, people) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")] {
            assert_eq!((size(bytes, true).as_str(), size(bytes, false)), (people, bytes.to_string()));
        }
    }

    #[test]
    fn a_log_can_colour_a_terminal_and_do_nothing_else_to_it() {
        for (message, shown) in [
            ("plain \u{e9}\tx", "plain \u{e9}\tx"),
            ("\u{1b}[1;31mred\u{1b}[0m", "\u{1b}[1;31mred\u{1b}[0m"),
            ("\u{1b}[2Jcleared", "\\u{1b}[2Jcleared"),
            ("\u{1b}]0;title\u{7}", "\\u{1b}]0;title\\u{7}"),
            ("a\rb\nc\u{9b}2J", "a\\rb\\nc\\u{9b}2J"),
            ("\u{1b}[", "\\u{1b}["),
        ] {
            assert_eq!(tamed(message), shown);
        }
    }
}
