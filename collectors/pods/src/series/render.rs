//! Series of one object, ready to be written.
//!
//! Labels are rendered when the object changes, in parts that most series share: `container="app"` belongs to a score of them,
//! `resource="cpu",unit="core"` to one of each container. So a pod's series cost less memory than the pod.

use std::collections::HashMap;
use std::sync::LazyLock;

use taffrail_record::{Family, Labels, Samples};

/// Parts that many objects have; each object's own are numbered behind them.
static COMMON: LazyLock<Vec<Labels>> = LazyLock::new(|| {
    let of = |name: &'static str, values: &'static [&str]| values.iter().map(move |value| (name, *value));
    let named = of("phase", &["Pending", "Succeeded", "Failed", "Unknown", "Running"])
        .chain(of("qos_class", &["BestEffort", "Burstable", "Guaranteed"]))
        .chain(of("condition", &["true", "false", "unknown"]))
        .chain(of("type", &["Always", "OnFailure", "Never"]))
        .chain(of("name", &["default-scheduler"]))
        .chain(of("service_account", &["default"]))
        .chain(of("reason", &["Completed", "Error", "OOMKilled", "CrashLoopBackOff"]));
    [Labels::NONE].into_iter().chain(named.map(|label| Labels::new([label]))).collect()
});

static NUMBERS: LazyLock<HashMap<&'static str, u16>> =
    LazyLock::new(|| COMMON.iter().zip(0..).map(|(labels, number)| (labels.as_str(), number)).collect());

/// One object's series.
#[derive(Debug, Default)]
pub(crate) struct Rendered {
    base: Labels,
    parts: Box<[Labels]>,
    /// By family.
    series: Box<[One]>,
}

#[derive(Debug, Clone, Copy)]
struct One {
    value: f64,
    parts: [u16; 2],
    family: u8,
}

/// Takes one object's series.
#[derive(Debug)]
pub(crate) struct Writer {
    base: Labels,
    parts: Vec<Labels>,
    known: HashMap<String, u16>,
    series: Vec<One>,
}

impl Writer {
    /// For an object whose series all have these labels.
    pub(crate) fn new(base: &[(&str, &str)]) -> Self {
        let base = Labels::new(base.iter().copied());
        Writer { base, parts: Vec::new(), known: HashMap::new(), series: Vec::new() }
    }

    /// One series of the family with this number.
    pub(crate) fn put(&mut self, family: u8, labels: &[(&str, &str)], value: f64) {
        self.put_apart(family, &[], labels, value);
    }

    /// One series whose labels are those that several others begin with, and its own.
    pub(crate) fn put_apart(&mut self, family: u8, first: &[(&str, &str)], own: &[(&str, &str)], value: f64) {
        let (Some(first), Some(own)) = (self.part(first), self.part(own)) else { return };
        self.series.push(One { value, parts: [first, own], family });
    }

    /// The number of these labels; none for an object that has more sorts of them than anybody could read.
    fn part(&mut self, labels: &[(&str, &str)]) -> Option<u16> {
        let labels = Labels::new(labels.iter().copied());
        if let Some(known) = NUMBERS.get(labels.as_str()).or(self.known.get(labels.as_str())) {
            return Some(*known);
        }
        let number = u16::try_from(COMMON.len() + self.parts.len()).ok()?;
        self.known.insert(labels.as_str().to_owned(), number);
        self.parts.push(labels);
        Some(number)
    }

    /// All of them. Of two with the same labels the first stays: no page may have both.
    pub(crate) fn done(mut self) -> Rendered {
        self.series.sort_by_key(|one| (one.family, one.parts));
        self.series.dedup_by_key(|one| (one.family, one.parts));
        Rendered { base: self.base, parts: self.parts.into(), series: self.series.into() }
    }
}

impl Rendered {
    fn part(&self, number: u16) -> &Labels {
        let number = usize::from(number);
        number.checked_sub(COMMON.len()).map_or_else(|| &COMMON[number], |own| &self.parts[own])
    }
}

/// Writes the series of all `objects`, family by family. One without series is left out.
pub(crate) fn write<R: AsRef<Rendered>>(
    samples: &mut dyn Samples,
    families: &'static [Family],
    objects: &[R],
) {
    let mut rest: Vec<(&Rendered, &[One])> =
        objects.iter().map(|object| (object.as_ref(), &*object.as_ref().series)).collect();
    for (number, family) in families.iter().enumerate() {
        samples.family(family);
        for (object, series) in &mut rest {
            let here = series.iter().take_while(|one| usize::from(one.family) == number).count();
            let (now, later) = series.split_at(here);
            for One { parts: [first, own], value, .. } in now {
                samples.labelled(&[&object.base, object.part(*first), object.part(*own)], *value);
            }
            *series = later;
        }
    }
}

/// 1 or 0.
pub(crate) fn flag(on: bool) -> f64 {
    f64::from(u8::from(on))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use taffrail_record::{Gathered, Kind};

    use super::*;

    const fn family(name: &'static str) -> Family {
        Family { name, kind: Kind::Gauge, help: "", labels: &[] }
    }
    static FAMILIES: [Family; 2] = [family("a"), family("b")];

    #[test]
    fn series_come_by_family_with_the_objects_labels_in_front() {
        let object = |name: &str| {
            let mut writer = Writer::new(&[("pod", name)]);
            writer.put(1, &[("c", "x")], 2.0);
            writer.put(0, &[], 1.0);
            writer.put(1, &[("c", "x")], 3.0);
            writer.put_apart(1, &[("phase", "Running")], &[("c", "x")], 4.0);
            Arc::new(writer.done())
        };
        let mut gathered = Gathered::default();
        write(&mut gathered, &FAMILIES, &[object("p"), object("q")]);
        let all: Vec<String> = gathered
            .samples()
            .iter()
            .map(|it| format!("{}{{{}}} {}", it.family, it.labels, it.value))
            .collect();
        let expected = [
            r#"a{pod="p"} 1"#,
            r#"a{pod="q"} 1"#,
            r#"b{pod="p",c="x"} 2"#,
            r#"b{pod="p",phase="Running",c="x"} 4"#,
            r#"b{pod="q",c="x"} 2"#,
            r#"b{pod="q",phase="Running",c="x"} 4"#,
        ];
        assert_eq!(all, expected);
    }
}
