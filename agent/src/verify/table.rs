//! The report for people: one line a file, what is wrong below it, a verdict at the end.

use std::fmt::Write as _;

use super::report::{FileReport, Ranges, Report, State};

/// More files than this, and those that are complete or expired, and unrepeated, are only counted.
const LISTED: usize = 40;
/// How many ranges are named; `--json` names more.
const RANGES: usize = 5;

/// The report as text that ends in the verdict. `all` lists every file, however many there are. For `people` the table is
/// aligned; a program gets tabs and plain numbers, and the same lines however many files there are.
#[must_use]
pub(super) fn render(report: &Report, all: bool, people: bool) -> String {
    let dull = |file: &&FileReport| people && !all && report.files.len() > LISTED && is_dull(file);
    let shown: Vec<&FileReport> = report.files.iter().filter(|file| !dull(file)).collect();
    let mut text = table(&shown, people);
    let hidden = report.files.len() - shown.len();
    if hidden > 0 {
        let what = if report.in_state(State::Expired) > 0 { "complete or expired" } else { "complete" };
        let _ = writeln!(
            text,
            "{} more files are {what}, without repeats (--all lists them)",
            grouped(hidden as u64)
        );
    }
    for trouble in &report.unreadable {
        let _ = writeln!(text, "could not be read: {trouble}");
    }
    for note in &report.notes {
        let _ = writeln!(text, "note: {note}");
    }
    if report.foreign > 0 {
        let _ = writeln!(text, "{} messages were neither records nor statements", grouped(report.foreign));
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(&report.verdict);
    text.push('\n');
    text
}

fn is_dull(file: &FileReport) -> bool {
    matches!(file.state, State::Complete | State::Expired) && file.repeated.bytes == 0 && file.lost.is_empty()
}

fn table(files: &[&FileReport], people: bool) -> String {
    const HEAD: [&str; 7] = ["STATE", "RECORDS", "BYTES", "REPEATED", "MISSING", "LOST", "FILE"];
    if files.is_empty() {
        return String::new();
    }
    let number = if people { grouped } else { |number: u64| number.to_string() };
    let rows: Vec<[String; 7]> = files.iter().map(|file| row(file, number)).collect();
    let mut widths = HEAD.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String; 7]| if people { aligned(cells, &widths) } else { cells.join("\t") + "\n" };
    let mut text = line(&HEAD.map(str::to_owned));
    for (row, file) in rows.iter().zip(files) {
        text.push_str(&line(row));
        details(&mut text, file);
    }
    text
}

fn row(file: &FileReport, number: fn(u64) -> String) -> [String; 7] {
    let name = match file.path.as_str() {
        "" => file.fingerprint.as_str(),
        path => path,
    };
    let name = if file.owner.is_empty() { name.to_owned() } else { format!("{} {name}", file.owner) };
    [
        file.state.as_str().to_owned(),
        number(file.delivered.records),
        number(file.delivered.bytes),
        number(file.repeated.records),
        number(file.missing.bytes),
        number(file.lost_bytes()),
        visible(&name),
    ]
}

/// Anybody can write to a topic: nothing in it may speak to the terminal, or look like another line.
fn visible(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut visible, character| {
        if character.is_control() {
            visible.extend(character.escape_default());
        } else {
            visible.push(character);
        }
        visible
    })
}

/// Text to the left, numbers to the right.
fn aligned(cells: &[String; 7], widths: &[usize; 7]) -> String {
    let mut text = format!("{:<width$}", cells[0], width = widths[0]);
    for (cell, width) in cells.iter().zip(widths).take(6).skip(1) {
        let _ = write!(text, "  {cell:>width$}");
    }
    let _ = writeln!(text, "  {}", cells[6]);
    text
}

fn details(text: &mut String, file: &FileReport) {
    let mut say = |what: &str, ranges: &Ranges| {
        if ranges.count > 0 {
            let _ = writeln!(text, "    {what}: {}", named(ranges));
        }
    };
    say("missing", &file.missing);
    say("not confirmed yet", &file.pending);
    say("expired by retention", &file.expired);
    say("repeated", &file.repeated_ranges);
    if file.overlapping > 0 {
        let _ = writeln!(text, "    {} records were there in part before", grouped(file.overlapping));
    }
    for (reason, bytes) in &file.lost {
        let _ = writeln!(text, "    lost: {} bytes, {}", grouped(*bytes), visible(reason));
    }
    if !file.conflicts.is_empty() {
        let offsets: Vec<String> = file.conflicts.iter().take(RANGES).map(u64::to_string).collect();
        let count = file.conflicts.len();
        let _ =
            writeln!(text, "    {count} records came again with other content, at {}", offsets.join(", "));
    }
    if file.beyond > 0 {
        let size = file.size.unwrap_or(0);
        let _ = writeln!(text, "    {} bytes lie beyond its stated end at {size}", grouped(file.beyond));
    }
    if !file.finished && file.state < State::Missing {
        reach(text, file);
    }
}

/// How far a file without a stated end goes.
fn reach(text: &mut String, file: &FileReport) {
    let from = file.expired.ranges.last().map_or(file.from, |[_, end]| *end);
    let state = if file.state == State::Expired { State::Open } else { file.state };
    let _ = write!(text, "    {}: without a gap from {from} to {}", state.as_str(), file.tiled);
    if let Some(size) = file.size.filter(|size| *size > file.tiled) {
        let _ = write!(text, "; it had {} bytes when last stated", grouped(size));
    }
    if file.state == State::Vanished {
        text.push_str("; then it went away while no agent watched, and nobody knows whether there was more");
    }
    text.push('\n');
}

fn named(ranges: &Ranges) -> String {
    let named: Vec<String> =
        ranges.ranges.iter().take(RANGES).map(|[start, end]| format!("{start}..{end}")).collect();
    let more = ranges.count - named.len();
    let rest = if more > 0 { format!(" and {more} more ranges") } else { String::new() };
    format!("{} bytes, {}{rest}", grouped(ranges.bytes), named.join(" "))
}

/// The line that says it all.
#[must_use]
pub(super) fn verdict(report: &Report) -> String {
    let files = report.files.len();
    let mut text = format!(
        "{}: {files} {}{}, {} records, {}, {} missing",
        word(report),
        if files == 1 { "file" } else { "files" },
        counted(report),
        report.delivered.records,
        bytes(report.delivered.bytes),
        amount(report.missing),
    );
    if report.pending > 0 {
        let _ = write!(text, ", {} not confirmed yet", bytes(report.pending));
    }
    if report.expired > 0 {
        let _ = write!(text, ", {} expired by retention", bytes(report.expired));
    }
    let (repeated, lost) = (report.repeated.records, amount(report.lost_bytes()));
    let _ = write!(text, ", {repeated} repeated, {lost} lost");
    if report.conflicts > 0 {
        let _ = write!(text, ", {} in conflict", report.conflicts);
    }
    text
}

fn word(report: &Report) -> &'static str {
    let are = |state| report.in_state(state) > 0;
    match report.files.iter().map(|file| file.state).max() {
        None => "nothing to verify",
        Some(State::Conflicting) => "conflicting",
        Some(State::Missing) => "missing",
        Some(_) if !report.unreadable.is_empty() => "not all could be read",
        Some(_) if are(State::Vanished) => "complete as far as was seen",
        Some(_) if report.in_state(State::Unstated) == report.files.len() => "without a gap, but unstated",
        Some(_) if report.files.iter().any(|file| !file.finished && file.state != State::Expired) => {
            "complete so far"
        }
        Some(State::Expired) => "complete as far as it is kept",
        Some(_) => "complete",
    }
}

/// How many files are in each state that has to be mentioned.
fn counted(report: &Report) -> String {
    let states = [
        (State::Open, "open"),
        (State::Expired, "expired"),
        (State::Vanished, "went away unwatched"),
        (State::Unstated, "unstated"),
        (State::Missing, "missing"),
        (State::Conflicting, "conflicting"),
    ];
    let counted: Vec<String> = states
        .into_iter()
        .filter(|(state, _)| report.in_state(*state) > 0)
        .map(|(state, name)| format!("{} {name}", report.in_state(state)))
        .collect();
    if counted.is_empty() { String::new() } else { format!(" ({})", counted.join(", ")) }
}

fn amount(count: u64) -> String {
    if count == 0 { "0".to_owned() } else { bytes(count) }
}

/// A number of bytes in the unit that suits it.
#[must_use]
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = usize::from(value < 9.95);
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// A number with its thousands apart.
#[must_use]
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        for (count, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (9949, "9.9 kB"),
            (213_400_000, "213 MB"),
            (999_600, "1.0 MB"),
        ] {
            assert_eq!(bytes(count), expected);
        }
        for (number, expected) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (877_159, "877,159"), (1_000_000, "1,000,000")]
        {
            assert_eq!(grouped(number), expected);
        }
    }
}
