//! Series of one object, ready to be written.
//!
//! Labels are rendered when the object changes. Most label sets belong to several families (`container="app"` to a dozen), so
//! each is kept once: a pod's series cost less memory than the pod.

use std::collections::HashMap;

use taffrail_record::{Family, Labels, Samples};

/// One object's series.
#[derive(Debug, Default)]
pub(crate) struct Rendered {
    base: Labels,
    tails: Box<[Labels]>,
    /// By family.
    series: Box<[One]>,
}

#[derive(Debug, Clone, Copy)]
struct One {
    value: f64,
    tail: u32,
    family: u8,
}

/// Takes one object's series.
#[derive(Debug)]
pub(crate) struct Writer {
    base: Labels,
    tails: Vec<Labels>,
    known: HashMap<String, u32>,
    series: Vec<One>,
}

impl Writer {
    /// For an object whose series all have these labels.
    pub(crate) fn new(base: &[(&str, &str)]) -> Self {
        let base = Labels::new(base.iter().copied());
        Writer { base, tails: Vec::new(), known: HashMap::new(), series: Vec::new() }
    }

    /// One series of the family with this number.
    pub(crate) fn put(&mut self, family: u8, labels: &[(&str, &str)], value: f64) {
        let labels = Labels::new(labels.iter().copied());
        let next = self.tails.len() as u32;
        let tail = *self.known.entry(labels.as_str().to_owned()).or_insert(next);
        if tail == next {
            self.tails.push(labels);
        }
        self.series.push(One { value, tail, family });
    }

    /// All of them. Of two with the same labels the first stays: no page may have both.
    pub(crate) fn done(mut self) -> Rendered {
        self.series.sort_by_key(|one| (one.family, one.tail));
        self.series.dedup_by_key(|one| (one.family, one.tail));
        Rendered { base: self.base, tails: self.tails.into(), series: self.series.into() }
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
            for one in now {
                samples.labelled(&[&object.base, &object.tails[one.tail as usize]], one.value);
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
            Arc::new(writer.done())
        };
        let mut gathered = Gathered::default();
        write(&mut gathered, &FAMILIES, &[object("p"), object("q")]);
        let all: Vec<String> = gathered
            .samples()
            .iter()
            .map(|it| format!("{}{{{}}} {}", it.family, it.labels, it.value))
            .collect();
        let expected =
            [r#"a{pod="p"} 1"#, r#"a{pod="q"} 1"#, r#"b{pod="p",c="x"} 2"#, r#"b{pod="q",c="x"} 2"#];
        assert_eq!(all, expected);
    }
}
