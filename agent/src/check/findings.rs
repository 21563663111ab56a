//! One finding, and all of them as text.

use std::fmt::Write as _;

use serde::Serialize;

/// What a finding means for running here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// As it should be.
    Good,
    /// Worth knowing; nothing to do.
    Note,
    /// It works, and could be better.
    Warning,
    /// It stands in the way.
    Bad,
}

/// What was looked at and what is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub subject: &'static str,
    /// What it means.
    pub status: Status,
    /// What is there.
    pub detail: String,
    /// What to do, when there is something to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    pub(super) fn good(subject: &'static str, detail: impl Into<String>) -> Finding {
        Finding { subject, status: Status::Good, detail: detail.into(), remedy: None }
    }

    pub(super) fn note(subject: &'static str, detail: impl Into<String>) -> Finding {
        Finding { status: Status::Note, ..Finding::good(subject, detail) }
    }

    pub(super) fn warning(
        subject: &'static str,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        Finding { status: Status::Warning, remedy: Some(remedy.into()), ..Finding::good(subject, detail) }
    }

    pub(super) fn bad(
        subject: &'static str,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        Finding { status: Status::Bad, remedy: Some(remedy.into()), ..Finding::good(subject, detail) }
    }
}

/// One line per finding, its remedy below it, the verdict at the end.
pub(super) fn render(findings: &[Finding], good: bool, colour: bool) -> String {
    let width = findings.iter().map(|finding| finding.subject.len()).max().unwrap_or(0);
    let mut text = String::new();
    for finding in findings {
        let (word, code) = match finding.status {
            Status::Good => ("ok", 32),
            Status::Note => ("note", 36),
            Status::Warning => ("warn", 33),
            Status::Bad => ("bad", 31),
        };
        let _ = match colour {
            true => write!(text, "\u{1b}[{code}m{word:<4}\u{1b}[0m"),
            false => write!(text, "{word:<4}"),
        };
        let _ = writeln!(text, "  {:<width$}  {}", finding.subject, finding.detail);
        if let Some(remedy) = &finding.remedy {
            let _ = writeln!(text, "      {:<width$}  -> {remedy}", "");
        }
    }
    text.push_str(if good { "\nnothing stands in the way\n" } else { "\nsomething stands in the way\n" });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remedy_stands_below_its_finding() {
        let findings = [
            Finding::good("cgroups", "version 2"),
            Finding::bad("state directory", "/x cannot be written", "make it writable"),
        ];
        assert_eq!(
            render(&findings, false, false),
            "ok    cgroups          version 2\n\
             bad   state directory  /x cannot be written\n                       -> make it writable\n\
             \n\
             something stands in the way\n"
        );
    }
}
