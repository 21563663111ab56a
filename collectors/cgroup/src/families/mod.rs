//! Every series of a cgroup: its name, what it means, and how it follows from the figures.
//!
//! Names, kinds and labels are cAdvisor's. Where cAdvisor shows a wrong or made-up value, the right one is shown or none;
//! [`Compat`] switches each of these places back.

use taffrail_record::{Family, Kind, Labels};

use crate::config::Compat;
use crate::entry::{Entry, Scene};

/// Takes one sample: labels beyond those of the cgroup, and the value.
pub(crate) type Emit<'a> = dyn FnMut(&Labels, f64) + 'a;

/// A family and how it is written.
pub(crate) struct Row {
    pub(crate) family: Family,
    pub(crate) write: fn(&Entry, &Scene<'_>, &mut Emit<'_>),
}

const fn row(
    name: &'static str,
    kind: Kind,
    help: &'static str,
    labels: &'static [&'static str],
    write: fn(&Entry, &Scene<'_>, &mut Emit<'_>),
) -> Row {
    Row { family: Family { name, kind, help, labels }, write }
}

macro_rules! labels {
    ($name:ident, $($label:literal = $value:literal),+) => {
        static $name: LazyLock<Labels> = LazyLock::new(|| Labels::new([$(($label, $value)),+]));
    };
}

mod cpu;
mod disk;
mod memory;
mod network;
mod pressure;
mod processes;
mod spec;

/// Every family, in the order of the exposition.
pub(crate) fn rows() -> impl Iterator<Item = &'static Row> {
    let themes =
        [spec::ROWS, cpu::ROWS, memory::ROWS, disk::ROWS, network::ROWS, processes::ROWS, pressure::ROWS];
    themes.into_iter().flatten()
}

/// One sample when the value is known; cAdvisor's 0 when it is not and that is wanted.
fn one(value: Option<f64>, emit: &mut Emit<'_>) {
    if let Some(value) = value {
        emit(&Labels::NONE, value);
    }
}

fn whole(value: Option<u64>, emit: &mut Emit<'_>) {
    one(value.map(|value| value as f64), emit);
}

/// As [`whole`], where cAdvisor shows 0 for what it does not read.
fn whole_or_zero(value: Option<u64>, scene: &Scene<'_>, emit: &mut Emit<'_>) {
    whole(value.or((scene.compat == Compat::Cadvisor).then_some(0)), emit);
}
