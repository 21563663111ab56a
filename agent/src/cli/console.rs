//! Text for terminals: tables, sizes, colours; and nothing that a log could do to a terminal.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, stdout};

/// Whether people look at standard output.
pub(super) fn for_people() -> bool {
    stdout().is_terminal()
}

/// How many characters a line of the terminal has, between 80 and 200 whatever it says.
pub(crate) fn width() -> usize {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel writes a `winsize` where it is given one, or fails.
    let asked = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    if asked == 0 { usize::from(size.ws_col).clamp(80, 200) } else { 80 }
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

    /// Aligned, in lines of at most `width` characters as far as the first column can give way: what does not fit there
    /// goes on in the next line.
    pub(crate) fn render_within(&self, width: usize) -> String {
        const LEAST: usize = 20;
        let widest =
            |column: usize| self.rows.iter().filter_map(|row| Some(row.get(column)?.chars().count())).max();
        let others: usize = (1..self.right.len()).map(|column| widest(column).unwrap_or(0) + 2).sum();
        let room = width.saturating_sub(others).max(LEAST);
        let mut folded = Table { rows: Vec::new(), right: self.right.clone() };
        for row in &self.rows {
            let first: Vec<char> = row.first().map(|cell| cell.chars().collect()).unwrap_or_default();
            let mut pieces = first.chunks(room).map(|piece| piece.iter().collect::<String>());
            let begin = [pieces.next().unwrap_or_default()];
            folded.row(begin.into_iter().chain(row.iter().skip(1).cloned()).collect());
            pieces.for_each(|piece| folded.row(vec![piece]));
        }
        folded.render(true)
    }

    /// Aligned, in lines of at most `width` characters as far as the last column can give way: what does not fit there is left
    /// away, which `…` says.
    pub(crate) fn render_shortened(&self, width: usize) -> String {
        const LEAST: usize = 16;
        let last = self.right.len().saturating_sub(1);
        let widest =
            |column: usize| self.rows.iter().filter_map(|row| Some(row.get(column)?.chars().count())).max();
        let others: usize = (0..last).map(|column| widest(column).unwrap_or(0) + 2).sum();
        let room = width.saturating_sub(others).max(LEAST);
        let mut short = Table { rows: self.rows.clone(), right: self.right.clone() };
        for cell in short.rows.iter_mut().filter_map(|row| row.get_mut(last)) {
            *cell = shortened(cell, room);
        }
        short.render(true)
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

/// A text of at most `width` characters; `…` stands for what is left away.
pub(super) fn shortened(text: &str, width: usize) -> String {
    if text.chars().nth(width).is_none() {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
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
            other => visible(other, &mut out),
        }
        rest = &rest[character.len_utf8()..];
    }
    out
}

/// A name that may be shown on a terminal, in a table, too: as [`tamed`], and without colours and tabs.
pub(crate) fn plain(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    name.chars().for_each(|character| visible(character, &mut out));
    out
}

/// JSON that may be shown on a terminal: what it may have in a text as it is and a terminal acts upon is escaped, as JSON reads it
/// back.
pub(crate) fn plain_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '\n' => out.push('\n'),
            other if disturbs(other) => drop(write!(out, "\\u{:04x}", u32::from(other))),
            other => out.push(other),
        }
    }
    out
}

fn visible(character: char, out: &mut String) {
    if disturbs(character) { out.extend(character.escape_default()) } else { out.push(character) }
}

/// What a terminal obeys, ends a line, or turns the direction of writing. None of it takes more than four digits.
fn disturbs(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
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
    fn a_table_fits_its_width_and_loses_nothing() {
        let mut table = Table::new(&["SERIES", ">VALUE"]);
        table.row(vec!["abcdefghij".repeat(6), "12345".to_owned()]);
        table.row(vec!["short".to_owned(), "1".to_owned()]);
        let text = table.render_within(32);
        assert!(text.lines().all(|line| line.chars().count() <= 32), "{text}");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], format!("{}  12345", &"abcdefghij".repeat(6)[..25]));
        assert_eq!(
            lines[1..4].iter().map(|line| line.split(' ').next().unwrap()).collect::<String>(),
            "abcdefghij".repeat(6)
        );
        assert_eq!(lines[4], "short                          1");
        assert_eq!(table.render_within(200), table.render(true));
    }

    #[test]
    fn sizes_are_short_for_people_and_exact_otherwise() {
        for (bytes, people) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")] {
            assert_eq!((size(bytes, true).as_str(), size(bytes, false)), (people, bytes.to_string()));
        }
    }

    #[test]
    fn a_name_does_nothing_to_a_terminal_and_keeps_its_width() {
        assert_eq!(plain("\u{1b}[31ma\tb\u{9b}2J\u{e9}"), "\\u{1b}[31ma\\tb\\u{9b}2J\u{e9}");
        assert_eq!(plain("a\u{2028}b\u{2067}\u{202a}"), "a\\u{2028}b\\u{2067}\\u{202a}");
        assert_eq!(plain_json("{\n\"a\": \"\u{9b}2J\u{7f}\"}"), "{\n\"a\": \"\\u009b2J\\u007f\"}");
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
