//! A timeline as a table for people.

use std::fmt::Write as _;

use super::Entry;

const COLUMNS: [&str; 8] = ["TIME", "COUNT", "TYPE", "REASON", "NAMESPACE", "OBJECT", "SOURCE", "MESSAGE"];

/// The widest cell of a column, and the longest message: who makes an event may write what he likes.
const WIDEST: usize = 64;
const LONGEST: usize = 4096;

/// A table like that of `kubectl get events`, oldest first, with times in UTC, and with namespaces where there are several.
/// Whatever could change what a terminal does is shown as an escape.
#[must_use]
pub fn render(entries: &[Entry]) -> String {
    let rows: Vec<[String; 8]> = entries.iter().map(row).collect();
    let is_one = entries.windows(2).all(|pair| pair[0].namespace == pair[1].namespace);
    let mut widths = COLUMNS.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let mut line = |cells: [&str; 8]| {
        let [time, count, kind, reason, namespace, object, source, message] = cells;
        let [a, b, c, d, e, f, g, _] = widths;
        let _ = write!(text, "{time:a$}  {count:>b$}  {kind:c$}  {reason:d$}  ");
        if !is_one {
            let _ = write!(text, "{namespace:e$}  ");
        }
        let _ = writeln!(text, "{object:f$}  {source:g$}  {message}");
    };
    line(COLUMNS);
    rows.iter().for_each(|row| line(row.each_ref().map(String::as_str)));
    text
}

fn row(entry: &Entry) -> [String; 8] {
    let time = jiff::Timestamp::from_nanosecond(i128::from(entry.time)).unwrap_or_default();
    let mut object = format!("{}/{}", entry.object_kind.to_lowercase(), entry.name);
    if !entry.container.is_empty() {
        let _ = write!(object, "[{}]", entry.container);
    }
    let cell = |text: &str| safe(text, WIDEST);
    [
        format!("{time:.0}"),
        entry.count.to_string(),
        cell(&entry.kind),
        cell(&entry.reason),
        cell(&entry.namespace),
        cell(&object),
        cell(&entry.component),
        safe(entry.message.trim_end(), LONGEST),
    ]
}

/// Control characters and those that turn text around as escapes; what is longer than `most` ends in `…`.
fn safe(text: &str, most: usize) -> String {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    let mut safe = String::with_capacity(text.len().min(most));
    for (place, character) in text.chars().enumerate() {
        if place + 1 >= most && text.chars().nth(most).is_some() {
            safe.push('…');
            break;
        }
        match character {
            '\n' | '\t' => safe.push(' '),
            c if c.is_control() || turns(c) => safe.extend(c.escape_unicode()),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_and_harmless() {
        let entry = |name: &str, message: &str| Entry {
            time: 1_767_225_600_000_000_000,
            count: 12,
            kind: "Warning".to_owned(),
            reason: "BackOff".to_owned(),
            object_kind: "Pod".to_owned(),
            name: name.to_owned(),
            container: "main".to_owned(),
            component: "kubelet".to_owned(),
            message: message.to_owned(),
            ..Entry::default()
        };
        let mut entries = [entry("a", "one\ntwo\n"), entry("abc", "\u{1b}[2J\u{202e}x")];
        let expected = "\
TIME                  COUNT  TYPE     REASON   OBJECT         SOURCE   MESSAGE
2026-01-01T00:00:00Z     12  Warning  BackOff  pod/a[main]    kubelet  one two
2026-01-01T00:00:00Z     12  Warning  BackOff  pod/abc[main]  kubelet  \\u{1b}[2J\\u{202e}x
";
        assert_eq!(render(&entries), expected);
        entries[0].reason = "r".repeat(1 << 20);
        entries[0].message = "m".repeat(1 << 20);
        let table = render(&entries);
        assert!(
            table.contains(&format!("{}…  ", "r".repeat(63)))
                && table.contains(&format!("{}…", "m".repeat(4095)))
        );
        assert!(table.len() < 10_000, "{}", table.len());
        entries[0].reason = "BackOff".to_owned();
        entries[1].namespace = "shop".to_owned();
        assert!(render(&entries).contains("REASON   NAMESPACE  OBJECT"), "{}", render(&entries));
    }
}
