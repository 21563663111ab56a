//! The text format that Prometheus reads, version 0.0.4: what others have written is read here.
//!
//! A text is taken as a whole or not at all: half of one may be wrong in ways that nobody sees. A series has its labels
//! sorted by name, so that the same series is the same text whoever wrote it.

use std::collections::HashMap;

use taffrail_record::{Kind, Labels, Series};

/// One family of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// Its name.
    pub name: String,
    /// Its type; untyped when none is given.
    pub kind: Kind,
    /// What it says of itself.
    pub help: Option<String>,
    /// Its series and their values.
    pub samples: Vec<(Series, f64)>,
    /// The time of each sample in milliseconds since the epoch, where one is given; empty unless [`Times::Kept`].
    pub times: Vec<Option<i64>>,
    typed: bool,
}

/// What becomes of a time behind a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// The text is refused: who wrote it may believe that the time counts.
    Refused,
    /// It is passed over.
    Ignored,
    /// It is in [`Parsed::times`].
    Kept,
}

/// Why a text was not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct Refused {
    line: usize,
    what: String,
}

/// The families of a text, in the order in which they first come.
///
/// # Errors
/// [`Refused`], with the line.
pub fn parse(text: &str, times: Times) -> Result<Vec<Parsed>, Refused> {
    let mut families = Families { times, all: Vec::new(), by_name: HashMap::new() };
    if !text.is_empty() && !text.ends_with('\n') {
        // It may be in the middle of being written.
        return Err(Refused { line: text.lines().count(), what: "the last line has no end".to_owned() });
    }
    for (at, line) in text.split('\n').enumerate() {
        families.line(line.trim_start_matches(BLANKS)).map_err(|what| Refused { line: at + 1, what })?;
    }
    Ok(families.all)
}

const BLANKS: [char; 2] = [' ', '\t'];

struct Families {
    times: Times,
    all: Vec<Parsed>,
    by_name: HashMap<String, usize>,
}

impl Families {
    fn line(&mut self, line: &str) -> Result<(), String> {
        match line.strip_prefix('#') {
            Some(comment) => self.comment(comment.trim_start_matches(BLANKS)),
            None if line.trim_end_matches('\r').is_empty() => Ok(()),
            None => self.sample(line),
        }
    }

    fn comment(&mut self, comment: &str) -> Result<(), String> {
        let (keyword, rest) = comment.split_once(BLANKS).unwrap_or((comment, ""));
        if keyword != "HELP" && keyword != "TYPE" {
            return Ok(());
        }
        let (name, rest) = identifier(rest.trim_start_matches(BLANKS), true).ok_or("no name of a metric")?;
        let rest = rest.strip_prefix(BLANKS).map(|rest| rest.trim_start_matches(BLANKS));
        let rest = if let (None, true) = (rest, keyword == "HELP") { Some("") } else { rest };
        let rest = rest.ok_or_else(|| format!("something is wrong behind the name {name}"))?;
        let family = self.family(name);
        if keyword == "HELP" { family.set_help(rest) } else { family.set_kind(rest) }
    }

    fn family(&mut self, name: &str) -> &mut Parsed {
        let at = self.by_name.get(name).copied().unwrap_or_else(|| {
            self.by_name.insert(name.to_owned(), self.all.len());
            let family = Parsed {
                name: name.to_owned(),
                kind: Kind::Untyped,
                help: None,
                samples: Vec::new(),
                times: Vec::new(),
                typed: false,
            };
            self.all.push(family);
            self.all.len() - 1
        });
        &mut self.all[at]
    }

    /// The family that a sample of this name belongs to: its own, or that of a histogram or summary.
    fn owner(&mut self, name: &str) -> &mut Parsed {
        let owns = |suffix: &&str| {
            let base = name.strip_suffix(suffix)?;
            let kind = self.all[*self.by_name.get(base)?].kind;
            let belongs = kind == Kind::Histogram || (kind == Kind::Summary && *suffix != "_bucket");
            belongs.then_some(base)
        };
        let base = ["_bucket", "_sum", "_count"].iter().find_map(owns);
        let base = base.filter(|_| !self.by_name.contains_key(name)).unwrap_or(name);
        self.family(base)
    }

    fn sample(&mut self, line: &str) -> Result<(), String> {
        let (name, rest) = identifier(line, true).ok_or("a metric's name is expected")?;
        let rest = rest.trim_start_matches(BLANKS);
        let (mut labels, rest) = match rest.strip_prefix('{') {
            Some(inside) => labels(inside)?,
            None => (Vec::new(), rest),
        };
        let mut words = rest.split([' ', '\t', '\r']).filter(|word| !word.is_empty());
        let value = words.next().ok_or("no value")?;
        let value: f64 = value.parse().map_err(|_| format!("{value:?} is no number"))?;
        let time = words.next().map(str::parse::<i64>);
        let refused = time.as_ref().is_some_and(|time| self.times == Times::Refused || time.is_err());
        if refused || words.next().is_some() {
            return Err("there is something behind the value; timestamps are not supported".to_owned());
        }
        let kept = self.times == Times::Kept;
        let family = self.owner(name);
        family.fits(name, &mut labels)?;
        labels.sort_unstable();
        if labels.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(format!("{name} has a label twice"));
        }
        family.typed = true;
        family.samples.push((series(name, &labels), value));
        if kept {
            family.times.push(time.and_then(Result::ok));
        }
        Ok(())
    }
}

impl Parsed {
    fn set_help(&mut self, text: &str) -> Result<(), String> {
        if self.help.is_some() {
            return Err(format!("a second HELP for {}", self.name));
        }
        let (text, _) = unescaped(text.trim_end_matches('\r'), None)?;
        self.help = Some(text);
        Ok(())
    }

    fn set_kind(&mut self, text: &str) -> Result<(), String> {
        if self.typed {
            return Err(format!("a second TYPE for {}, or one behind its samples", self.name));
        }
        let kinds = [Kind::Counter, Kind::Gauge, Kind::Untyped, Kind::Histogram, Kind::Summary];
        let word = text.trim_end();
        let kind = kinds.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(word));
        self.kind = kind.ok_or_else(|| format!("{word:?} is no type"))?;
        self.typed = true;
        Ok(())
    }

    /// Whether a sample of this name can be of this family; bounds are written as Prometheus writes them.
    fn fits(&self, name: &str, labels: &mut [(&str, String)]) -> Result<(), String> {
        let bound = match (self.kind, name.strip_prefix(self.name.as_str())) {
            (Kind::Histogram, Some("_bucket")) => "le",
            (Kind::Summary, Some("")) => "quantile",
            (Kind::Histogram, Some("")) => {
                return Err(format!("{name} is a histogram and has a value of its own"));
            }
            _ => return Ok(()),
        };
        let label = labels.iter_mut().find(|(label, _)| *label == bound);
        let (_, text) = label.ok_or_else(|| format!("{name} lacks the label {bound}"))?;
        let number: f64 = text.parse().map_err(|_| format!("{text:?} is no {bound}"))?;
        *text = written(number);
        Ok(())
    }
}

/// A name at the beginning, and what is behind it.
fn identifier(text: &str, colons: bool) -> Option<(&str, &str)> {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':');
    let end = text.find(|c: char| !part(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    (!name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit())).then_some((name, rest))
}

/// Names and values of labels.
type Pairs<'t> = Vec<(&'t str, String)>;

/// Names and values up to the closing brace, and what is behind it.
fn labels(text: &str) -> Result<(Pairs<'_>, &str), String> {
    let mut labels = Vec::new();
    let mut rest = text.trim_start_matches(BLANKS);
    loop {
        if let Some(behind) = rest.strip_prefix('}') {
            return Ok((labels, behind));
        }
        let (name, behind) = identifier(rest, false).ok_or("a label's name is expected")?;
        if name == "__name__" {
            return Err("the label __name__ is reserved".to_owned());
        }
        let quoted =
            behind.trim_start_matches(BLANKS).strip_prefix('=').map(|rest| rest.trim_start_matches(BLANKS));
        let quoted = quoted.and_then(|rest| rest.strip_prefix('"'));
        let (value, behind) =
            unescaped(quoted.ok_or_else(|| format!("{name} is not followed by =\""))?, Some('"'))?;
        labels.push((name, value));
        rest = behind.trim_start_matches(BLANKS);
        rest = match rest.strip_prefix(',') {
            Some(next) => next.trim_start_matches(BLANKS),
            None if rest.starts_with('}') => rest,
            None => return Err(format!("the label {name} is followed by neither , nor }}")),
        };
    }
}

/// What stands before `end`, or all, without its escapes; and what is behind.
fn unescaped(text: &str, end: Option<char>) -> Result<(String, &str), String> {
    let mut out = String::new();
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        match character {
            '\\' => out.push(match rest.next() {
                Some('\\') => '\\',
                Some('n') => '\n',
                Some('"') => '"',
                other => return Err(format!("\\{} is no escape", other.unwrap_or(' '))),
            }),
            character if Some(character) == end => return Ok((out, rest.as_str())),
            character => out.push(character),
        }
    }
    if end.is_some() { Err("a label's value has no end".to_owned()) } else { Ok((out, "")) }
}

/// The name of a series and its labels, each with its value as it is written: without its quotes and with its escapes.
/// Of what is no series, as much as is like one.
#[must_use]
pub fn split(series: &str) -> (&str, Vec<(&str, &str)>) {
    let (name, mut rest) = series.split_once('{').unwrap_or((series, ""));
    let mut labels = Vec::new();
    while let Some((label, behind)) = rest.split_once("=\"") {
        let (value, next) = behind.split_at(closing_quote(behind));
        labels.push((label, value));
        rest = next.trim_start_matches('"').trim_start_matches(',');
    }
    (name, labels)
}

fn closing_quote(text: &str) -> usize {
    let mut escaped = false;
    let ends = |byte: u8| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    };
    text.bytes().position(ends).unwrap_or(text.len())
}

/// A label's value without its escapes, as [`split`] gives it; one with wrong escapes as it is.
#[must_use]
pub fn unescape(value: &str) -> String {
    unescaped(value, None).map_or_else(|_| value.to_owned(), |(text, _)| text)
}

fn series(name: &str, labels: &[(&str, String)]) -> Series {
    let labels = Labels::new(labels.iter().map(|(label, value)| (*label, value.as_str())));
    Series::verbatim(match labels.as_str() {
        "" => name.to_owned(),
        labels => format!("{name}{{{labels}}}"),
    })
}

/// A bound: the same number is the same series, however it was written.
fn written(number: f64) -> String {
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if number == 0.0 || (1e-4..1e21).contains(&number.abs()) {
        return number.to_string();
    }
    let text = format!("{number:e}");
    let Some((digits, exponent)) = text.split_once('e') else { return text };
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
    format!("{digits}e{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn taken(text: &str) -> Vec<(String, Kind, Vec<String>)> {
        let families = parse(text, Times::Refused).expect("valid");
        let samples = |family: &Parsed| {
            family.samples.iter().map(|(series, value)| format!("{} {value}", series.as_str())).collect()
        };
        families.iter().map(|family| (family.name.clone(), family.kind, samples(family))).collect()
    }

    fn refused(text: &str) -> String {
        parse(text, Times::Refused).expect_err(text).to_string()
    }

    #[test]
    fn families_have_their_samples_with_escapes_and_odd_spaces() {
        let text = "# HELP a_total Says \\\\ and\\nmore.\n#TYPE a_total counter\n\
                    a_total{ x = \"p\\\"q\\\\\\n\" , b=\"\u{e4}\", } +Inf\n\n# a comment\n\t b\tNaN\n";
        let expected = [
            ("a_total", Kind::Counter, vec!["a_total{b=\"\u{e4}\",x=\"p\\\"q\\\\\\n\"} inf"]),
            ("b", Kind::Untyped, vec!["b NaN"]),
        ];
        let expected = expected.map(|(name, kind, samples)| {
            (name.to_owned(), kind, samples.into_iter().map(str::to_owned).collect::<Vec<_>>())
        });
        assert_eq!(taken(text), expected);
        assert_eq!(
            parse(text, Times::Refused).expect("valid")[0].help.as_deref(),
            Some("Says \\ and\nmore.")
        );
        assert_eq!(parse("", Times::Refused).expect("valid"), []);
    }

    #[test]
    fn histograms_and_summaries_own_what_ends_as_theirs_does() {
        let text = "# TYPE h histogram\nh_bucket{le=\"1.0\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n\
                    # TYPE s summary\ns{quantile=\"0.50\"} 1\ns_sum 1\ns_count 1\ns_bucket 9\nx_count 1\n";
        let names: Vec<(String, usize)> =
            taken(text).into_iter().map(|(name, _, samples)| (name, samples.len())).collect();
        let expected = [("h", 4), ("s", 3), ("s_bucket", 1), ("x_count", 1)];
        assert_eq!(names, expected.map(|(name, count)| (name.to_owned(), count)));
        assert_eq!(taken(text)[0].2[0], "h_bucket{le=\"1\"} 1");
        assert_eq!(taken(text)[1].2[0], "s{quantile=\"0.5\"} 1");
    }

    #[test]
    fn bounds_are_written_in_one_way() {
        for (number, text) in [
            (1.0, "1"),
            (2.5e-5, "2.5e-05"),
            (0.0001, "0.0001"),
            (1e21, "1e+21"),
            (1e20, "100000000000000000000"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(written(number), text);
        }
    }

    #[test]
    fn what_is_wrong_is_refused_with_its_line() {
        for (text, said) in [
            (
                "a 1\nb 2 1700000000000\n",
                "line 2: there is something behind the value; timestamps are not supported",
            ),
            ("a 1", "line 1: the last line has no end"),
            ("a\n", "line 1: no value"),
            ("a one\n", "line 1: \"one\" is no number"),
            ("1a 1\n", "line 1: a metric's name is expected"),
            ("a{b=\"c} 1\n", "line 1: a label's value has no end"),
            ("a{b=\"c\\t\"} 1\n", "line 1: \\t is no escape"),
            ("a{b=\"1\",b=\"2\"} 1\n", "line 1: a has a label twice"),
            ("a{b=\"1\" c=\"2\"} 1\n", "line 1: the label b is followed by neither , nor }"),
            ("a{__name__=\"b\"} 1\n", "line 1: the label __name__ is reserved"),
            ("# TYPE a counter\n# TYPE a gauge\n", "line 2: a second TYPE for a, or one behind its samples"),
            ("a 1\n# TYPE a gauge\n", "line 2: a second TYPE for a, or one behind its samples"),
            ("# HELP a A.\n# HELP a A.\n", "line 2: a second HELP for a"),
            ("# TYPE a count\n", "line 1: \"count\" is no type"),
            ("# TYPE h histogram\nh_bucket 1\n", "line 2: h_bucket lacks the label le"),
        ] {
            assert_eq!(refused(text), said, "{text}");
        }
    }

    #[test]
    fn times_are_passed_over_where_that_is_wanted() {
        let families = parse("a{x=\"1\"} 2 1700000000000\nb 3\n", Times::Ignored).expect("valid");
        assert_eq!(families.iter().map(|family| family.samples[0].1).collect::<Vec<_>>(), [2.0, 3.0]);
        assert!(families.iter().all(|family| family.times.is_empty()));
        let families = parse("a{x=\"1\"} 2 1700000000000\na 3\n", Times::Kept).expect("valid");
        assert_eq!(families[0].times, [Some(1_700_000_000_000), None]);
        assert!(parse("a 2 soon\n", Times::Kept).is_err());
        assert!(parse("a 2 soon\n", Times::Ignored).is_err());
        assert!(parse("a 2 3 4\n", Times::Ignored).is_err());
    }

    #[test]
    fn a_series_is_split_where_its_labels_end_whatever_is_in_them() {
        let odd = r#"x{a="p\"q,b=\"1\"",b="}{",c="\\"}"#;
        assert_eq!(split(odd), ("x", vec![("a", r#"p\"q,b=\"1\""#), ("b", "}{"), ("c", r"\\")]));
        assert_eq!(split("x"), ("x", vec![]));
        assert_eq!(split("x{a=\"un"), ("x", vec![("a", "un")]));
        let values = split(odd).1.into_iter().map(|(_, value)| unescape(value));
        assert_eq!(values.collect::<Vec<_>>(), ["p\"q,b=\"1\"", "}{", "\\"]);
        assert_eq!(unescape("\\t"), "\\t");
    }

    fn piece() -> impl Strategy<Value = String> {
        let pieces = [
            "# HELP ",
            "# TYPE ",
            "a",
            "b_bucket",
            " histogram",
            " counter",
            "{",
            "}",
            "le=\"",
            "\"",
            "\\",
            "\\n",
            ",",
            " 1",
            " NaN",
            " -Inf",
            "\n",
            " ",
            "\t",
            "=",
            "\u{20ac}",
            "#",
        ];
        prop_oneof![
            proptest::sample::select(pieces.to_vec()).prop_map(str::to_owned),
            any::<char>().prop_map(String::from)
        ]
    }

    proptest! {
        #[test]
        fn whatever_is_in_a_file_is_taken_or_refused(pieces in proptest::collection::vec(piece(), 0..60)) {
            let _ = parse(&pieces.concat(), Times::Ignored);
            let _ = split(&pieces.concat());
        }

        #[test]
        fn what_is_written_is_read_back(value in any::<f64>(), label in any::<String>()) {
            let label = label.replace(['\r'], "");
            let escaped = label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let line = format!("a{{b=\"{escaped}\"}} {value}");
            let families = parse(&format!("{line}\n"), Times::Refused).expect("valid");
            let (series, read) = &families[0].samples[0];
            prop_assert_eq!(series.as_str(), format!("a{{b=\"{escaped}\"}}"));
            prop_assert!(*read == value || (read.is_nan() && value.is_nan()));
        }
    }
}
