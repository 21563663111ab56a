//! Samples as text.
//!
//! Samples of one family always come out together under one HELP and TYPE, in whatever order collectors write
//! them and however many write the same family.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use taffrail_record::{Family, Kind, Labels, Samples, Series};

/// The two text formats that Prometheus reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Text format 0.0.4.
    #[default]
    Text,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// The best of what an `Accept` header asks for; the text format when it asks for neither.
    #[must_use]
    pub fn negotiate(accept: &str) -> Format {
        let mut best = (Format::Text, 0.0);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let format = match parts.next() {
                Some("application/openmetrics-text") => Format::OpenMetrics,
                Some("text/plain" | "text/*" | "*/*") => Format::Text,
                _ => continue,
            };
            let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
            if quality > best.1 {
                best = (format, quality);
            }
        }
        best.0
    }

    /// What stands behind all samples.
    fn end(self) -> &'static str {
        match self {
            Format::Text => "",
            Format::OpenMetrics => "# EOF\n",
        }
    }

    /// The `Content-Type` of an answer in this format.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// So many bytes are worth a piece of their own.
const LARGE: usize = 32 * 1024;

/// Takes samples, gives text.
#[derive(Debug, Default)]
pub struct Exposition {
    sections: Vec<Section>,
    by_name: HashMap<Cow<'static, str>, usize>,
    current: Option<usize>,
    /// Those of the current family, as who writes now declared it.
    labels: &'static [&'static str],
    spares: Option<Arc<Spares>>,
    behind: Option<Arc<Mutex<Exposition>>>,
}

/// The memory of an earlier text, by family: the next one is about as large, and megabytes of new memory cost more than what is
/// written into them.
#[derive(Debug, Default)]
pub struct Spares(Mutex<HashMap<Cow<'static, str>, String>>);

#[derive(Debug)]
struct Section {
    header: Header,
    /// The sample lines; they are the same in both formats.
    lines: String,
}

/// A family, with its name and help as they were given.
#[derive(Debug, Clone)]
struct Header {
    name: Cow<'static, str>,
    kind: Kind,
    help: Cow<'static, str>,
}

impl From<&'static Family> for Header {
    fn from(family: &'static Family) -> Header {
        Header { name: Cow::Borrowed(family.name), kind: family.kind, help: Cow::Borrowed(family.help) }
    }
}

impl Exposition {
    /// Without samples.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Without samples; its text is written into the memory of an earlier one.
    #[must_use]
    pub fn reusing(spares: &Arc<Spares>) -> Self {
        Exposition { spares: Some(Arc::clone(spares)), ..Self::default() }
    }

    /// To be appended to `page`, whose samples are earlier than its own.
    #[must_use]
    pub(crate) fn behind(self, page: &Arc<Mutex<Exposition>>) -> Self {
        Exposition { behind: Some(Arc::clone(page)), ..self }
    }

    /// Gives its memory to the next one.
    pub fn give_back(self) {
        let Some(spares) = self.spares else { return };
        let spare = |mut section: Section| {
            let length = section.lines.len();
            section.lines.shrink_to(length + length / 8);
            section.lines.clear();
            (section.header.name, section.lines)
        };
        // What was not used this time is let go.
        *spares.0.lock() = self.sections.into_iter().map(spare).collect();
    }

    /// How long the text is in bytes, but for the headers.
    #[must_use]
    pub fn length(&self) -> usize {
        self.sections.iter().map(|section| section.lines.len()).sum()
    }

    /// Writes the text.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn write_to(&self, format: Format, to: &mut impl io::Write) -> io::Result<()> {
        let mut header = String::new();
        for section in self.sections.iter().filter(|section| !section.lines.is_empty()) {
            header.clear();
            section.header.write(&mut header, format);
            to.write_all(header.as_bytes())?;
            to.write_all(section.lines.as_bytes())?;
        }
        to.write_all(format.end().as_bytes())
    }

    /// Adds the samples of `other`.
    pub fn append(&mut self, other: Exposition) {
        for section in other.sections {
            let index = self.by_name.get(&section.header.name).copied();
            let Some(index) = index else {
                self.by_name.insert(section.header.name.clone(), self.sections.len());
                self.sections.push(section);
                continue;
            };
            let known = &mut self.sections[index];
            if known.lines.is_empty() {
                known.header = section.header;
            }
            known.lines.push_str(&section.lines);
        }
        self.current = None;
    }

    /// The text, in pieces that need only be put one behind the other: what is large is not copied, what is small is put
    /// together, for each piece costs who sends it. A family without samples is left out.
    #[must_use]
    pub fn into_pieces(mut self, format: Format) -> Vec<String> {
        let (mut pieces, mut small) = (Vec::new(), String::new());
        for section in self.sections.iter_mut().filter(|section| !section.lines.is_empty()) {
            section.header.write(&mut small, format);
            if section.lines.len() < LARGE {
                small.push_str(&section.lines);
            } else {
                pieces.extend([std::mem::take(&mut small), std::mem::take(&mut section.lines)]);
            }
        }
        small.push_str(format.end());
        pieces.push(small);
        self.give_back();
        pieces
    }

    /// The text in one piece.
    #[must_use]
    pub fn render(self, format: Format) -> String {
        self.into_pieces(format).concat()
    }

    fn begin(&mut self, name: &str, header: impl FnOnce() -> Header) {
        let known = self.by_name.get(name).copied();
        self.current = known.or_else(|| {
            let header = header();
            self.by_name.insert(header.name.clone(), self.sections.len());
            let spare = self.spares.as_ref().and_then(|spares| spares.0.lock().remove(name));
            self.sections.push(Section { header, lines: spare.unwrap_or_default() });
            Some(self.sections.len() - 1)
        });
    }

    /// The current family. A sample before any family has no name to go by and is dropped.
    fn current(&mut self) -> Option<&mut Section> {
        self.sections.get_mut(self.current?)
    }
}

impl Samples for Exposition {
    fn family(&mut self, family: &'static Family) {
        self.begin(family.name, || Header::from(family));
        self.labels = family.labels;
    }

    fn named(&mut self, name: &str, kind: Kind, help: &str) {
        let (name, help) = (name.to_owned(), help.to_owned());
        self.begin(&name.clone(), || Header { name: name.into(), kind, help: help.into() });
        self.labels = &[];
    }

    fn sample(&mut self, values: &[&str], value: f64) {
        let labels = self.labels;
        let Some(Section { header, lines }) = self.current() else { return };
        debug_assert_eq!(labels.len(), values.len(), "{}", header.name);
        lines.push_str(&header.name);
        for (index, (label, text)) in labels.iter().zip(values).enumerate() {
            lines.push(if index == 0 { '{' } else { ',' });
            lines.push_str(label);
            lines.push_str("=\"");
            escape(lines, text, true);
            lines.push('"');
        }
        lines.push_str(if labels.is_empty() { " " } else { "} " });
        number(lines, value);
    }

    fn labelled(&mut self, labels: &[&Labels], value: f64) {
        let Some(Section { header, lines }) = self.current() else { return };
        lines.push_str(&header.name);
        let mut between = '{';
        for part in labels.iter().map(|part| part.as_str()).filter(|part| !part.is_empty()) {
            lines.push(between);
            lines.push_str(part);
            between = ',';
        }
        lines.push_str(if between == '{' { " " } else { "} " });
        number(lines, value);
    }

    fn series(&mut self, series: &Series, value: f64) {
        let Some(Section { lines, .. }) = self.current() else { return };
        lines.push_str(series.as_str());
        lines.push(' ');
        number(lines, value);
    }

    fn earlier(&self, name: &str) -> Option<(Kind, Vec<Series>)> {
        let page = self.behind.as_ref()?.lock();
        let Section { header, lines } = &page.sections[*page.by_name.get(name)?];
        let series = lines.lines().filter_map(|line| line.rsplit_once(' '));
        let series: Vec<Series> = series.map(|(series, _)| Series::verbatim(series.to_owned())).collect();
        (!series.is_empty()).then_some((header.kind, series))
    }
}

impl Header {
    fn write(&self, text: &mut String, format: Format) {
        let (name, kind) = match (format, self.kind, self.name.strip_suffix("_total")) {
            (Format::OpenMetrics, Kind::Counter, Some(base)) => (base, "counter"),
            // OpenMetrics wants `_total` on every counter; what has another name is left untyped.
            (Format::OpenMetrics, Kind::Counter, None) | (Format::OpenMetrics, Kind::Untyped, _) => {
                (&*self.name, "unknown")
            }
            (_, kind, _) => (&*self.name, kind.name()),
        };
        let _ = write!(text, "# HELP {name} ");
        escape(text, &self.help, format == Format::OpenMetrics);
        let _ = write!(text, "\n# TYPE {name} {kind}\n");
    }
}

/// Escapes backslash and newline, and quotes where the text stands in quotes.
fn escape(out: &mut String, text: &str, quotes: bool) {
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            other => out.push(other),
        }
    }
}

/// Writes the value and ends the line.
fn number(out: &mut String, value: f64) {
    // Whole numbers that a float holds exactly are most of all values, and much cheaper to write as such.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let _ = match value {
        value if value.fract() == 0.0 && value.abs() < EXACT => writeln!(out, "{}", value as i64),
        value if value.is_nan() => writeln!(out, "NaN"),
        f64::INFINITY => writeln!(out, "+Inf"),
        f64::NEG_INFINITY => writeln!(out, "-Inf"),
        value if value.abs() >= 1e21 || value.abs() < 1e-7 => writeln!(out, "{value:e}"),
        value => writeln!(out, "{value}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    static BYTES: Family = Family {
        name: "x_bytes_total",
        kind: Kind::Counter,
        help: "Bytes \"read\"\nor \\ not.",
        labels: &["pod"],
    };
    static LEVEL: Family = Family { name: "x_level", kind: Kind::Gauge, help: "Level.", labels: &[] };
    static ODD: Family = Family { name: "x_odd", kind: Kind::Counter, help: "Odd.", labels: &[] };
    static EMPTY: Family = Family { name: "x_empty", kind: Kind::Gauge, help: "Empty.", labels: &[] };

    fn exposition() -> Exposition {
        let mut exposition = Exposition::new();
        exposition.family(&BYTES);
        exposition.sample(&["a\"b\\c\nd"], 3.0);
        exposition.family(&LEVEL);
        exposition.sample(&[], 0.25);
        exposition.family(&BYTES);
        exposition.series(&Series::new(&BYTES, &["second"]), 1e300);
        exposition.family(&ODD);
        exposition.sample(&[], f64::INFINITY);
        exposition.family(&EMPTY);
        exposition
    }

    #[test]
    fn families_come_out_whole_with_one_header_each() {
        assert_eq!(
            exposition().render(Format::Text),
            "# HELP x_bytes_total Bytes \"read\"\\nor \\\\ not.\n\
             # TYPE x_bytes_total counter\n\
             x_bytes_total{pod=\"a\\\"b\\\\c\\nd\"} 3\n\
             x_bytes_total{pod=\"second\"} 1e300\n\
             # HELP x_level Level.\n\
             # TYPE x_level gauge\n\
             x_level 0.25\n\
             # HELP x_odd Odd.\n\
             # TYPE x_odd counter\n\
             x_odd +Inf\n"
        );
    }

    #[test]
    fn open_metrics_names_counters_without_total_and_ends_in_eof() {
        assert_eq!(
            exposition().render(Format::OpenMetrics),
            "# HELP x_bytes Bytes \\\"read\\\"\\nor \\\\ not.\n\
             # TYPE x_bytes counter\n\
             x_bytes_total{pod=\"a\\\"b\\\\c\\nd\"} 3\n\
             x_bytes_total{pod=\"second\"} 1e300\n\
             # HELP x_level Level.\n\
             # TYPE x_level gauge\n\
             x_level 0.25\n\
             # HELP x_odd Odd.\n\
             # TYPE x_odd unknown\n\
             x_odd +Inf\n\
             # EOF\n"
        );
    }

    #[test]
    fn families_that_the_machine_names_have_their_own_kind_and_labels() {
        let mut exposition = Exposition::new();
        exposition.named("node_vmstat_pgfault", Kind::Untyped, "/proc/vmstat.");
        exposition.sample(&[], 7.0);
        exposition.named("x_level", Kind::Gauge, "Level.");
        let (pod, disk) = (Labels::new([("pod", "a\"b"), ("id", "/")]), Labels::new([("device", "sda")]));
        exposition.labelled(&[&disk, &Labels::NONE, &pod], 1.0);
        exposition.labelled(&[&Labels::NONE], 2.0);
        let text = "# HELP node_vmstat_pgfault /proc/vmstat.\n# TYPE node_vmstat_pgfault untyped\n\
                    node_vmstat_pgfault 7\n# HELP x_level Level.\n# TYPE x_level gauge\n\
                    x_level{device=\"sda\",pod=\"a\\\"b\",id=\"/\"} 1\nx_level 2\n";
        assert_eq!(exposition.render(Format::Text), text);

        let mut exposition = Exposition::new();
        exposition.named("node_vmstat_pgfault", Kind::Untyped, "/proc/vmstat.");
        exposition.sample(&[], 7.0);
        assert!(exposition.render(Format::OpenMetrics).contains("# TYPE node_vmstat_pgfault unknown\n"));
    }

    #[test]
    fn a_text_in_used_memory_is_the_same_text() {
        let spares = Arc::new(Spares::default());
        for lines in [3, 500, 2, 0, 4] {
            let fill = |mut exposition: Exposition| {
                exposition.family(&LEVEL);
                (0..lines).for_each(|n| exposition.sample(&[], f64::from(n)));
                exposition
            };
            let mut page = Exposition::reusing(&spares);
            page.append(fill(Exposition::reusing(&spares)));
            let mut text = Vec::new();
            page.write_to(Format::OpenMetrics, &mut text).expect("memory takes all");
            let expected = fill(Exposition::new()).render(Format::OpenMetrics);
            assert_eq!(String::from_utf8(text).expect("text"), expected);
            assert!(page.length() <= expected.len());
            page.give_back();
            let kept: usize = spares.0.lock().values().map(String::capacity).sum();
            assert!(kept <= expected.len() * 2, "{kept} kept after {}", expected.len());
        }
    }

    #[test]
    fn appended_samples_join_their_families() {
        let mut first = exposition();
        let mut second = Exposition::new();
        second.family(&LEVEL);
        second.sample(&[], -1.0);
        first.append(second);
        let text = first.render(Format::Text);
        assert_eq!(text.matches("# TYPE x_level").count(), 1);
        assert!(text.contains("x_level 0.25\nx_level -1\n"), "{text}");
    }

    #[test]
    fn a_family_is_what_the_first_one_with_samples_says() {
        let mut first = Exposition::new();
        first.family(&LEVEL);
        let mut second = Exposition::new();
        second.named("x_level", Kind::Counter, "Files.");
        second.sample(&[], 1.0);
        first.append(second);
        assert_eq!(first.render(Format::Text), "# HELP x_level Files.\n# TYPE x_level counter\nx_level 1\n");
    }

    #[test]
    fn samples_have_the_labels_of_who_writes_them() {
        let mut exposition = Exposition::new();
        exposition.named("x_bytes_total", Kind::Counter, "Files.");
        exposition.sample(&[], 1.0);
        exposition.family(&BYTES);
        exposition.sample(&["a"], 2.0);
        let text = exposition.render(Format::Text);
        assert!(text.ends_with("\nx_bytes_total 1\nx_bytes_total{pod=\"a\"} 2\n"), "{text}");
    }

    #[test]
    fn what_is_earlier_is_told_with_its_labels() {
        let behind = Exposition::new().behind(&Arc::new(Mutex::new(exposition())));
        let (kind, series) = behind.earlier("x_bytes_total").expect("it is there");
        let series: Vec<&str> = series.iter().map(Series::as_str).collect();
        assert_eq!(kind, Kind::Counter);
        assert_eq!(series, ["x_bytes_total{pod=\"a\\\"b\\\\c\\nd\"}", "x_bytes_total{pod=\"second\"}"]);
        assert_eq!(behind.earlier("x_empty").or(behind.earlier("x_none")), None);
    }

    #[test]
    fn the_accept_header_chooses_the_format() {
        for (accept, format) in [
            ("", Format::Text),
            ("*/*", Format::Text),
            ("application/json", Format::Text),
            (
                "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.2",
                Format::OpenMetrics,
            ),
            (
                "application/openmetrics-text; version=1.0.0; q=0.5, text/plain;version=0.0.4;q=0.9",
                Format::Text,
            ),
            ("application/openmetrics-text;q=0", Format::Text),
        ] {
            assert_eq!(Format::negotiate(accept), format, "{accept}");
        }
    }

    #[test]
    fn numbers_are_written_as_both_formats_read_them() {
        for (value, text) in [
            (0.0, "0\n"),
            (-3.0, "-3\n"),
            (1_700_000_000.123, "1700000000.123\n"),
            (9_007_199_254_740_993.0, "9007199254740992\n"),
            (1e21, "1e21\n"),
            (1.5e-9, "1.5e-9\n"),
            (f64::NAN, "NaN\n"),
            (f64::NEG_INFINITY, "-Inf\n"),
        ] {
            let mut out = String::new();
            number(&mut out, value);
            assert_eq!(out, text);
        }
    }
}
