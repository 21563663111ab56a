//! `systemd`: the states of units, as systemd's manager tells them over D-Bus.
//!
//! Asked by way of the system's bus or, where there is none, over systemd's own socket, which only root may. All questions
//! of a scrape together have one deadline. A machine without systemd is an error: whoever switches this on expects one.

mod bus;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bus::{Body, Bus, BusError, Method, Value};
use taffrail_kernfs::{Page, Roots};
use taffrail_record::{AskError, Family, Samples};

use crate::families::{Collect, counter, flag, gauge, put};
use crate::list::Make;
use crate::{NodeMetricsConfig, SystemdConfig};

static FAMILIES: [Family; 8] = [
    gauge("node_systemd_system_running", &[], "Whether systemd is up and no unit has failed."),
    gauge("node_systemd_version", &["version"], "Systemd's version; the label has all of it."),
    gauge(
        "node_systemd_units",
        &["state"],
        "Units that are in this state, those that are not shown as well.",
    ),
    gauge("node_systemd_unit_state", &["name", "state", "type"], "Whether a unit is in this state."),
    counter(
        "node_systemd_service_restart_total",
        &["name"],
        "How often systemd has started a service again.",
    ),
    counter(
        "node_systemd_socket_accepted_connections_total",
        &["name"],
        "Connections that a socket unit has accepted.",
    ),
    gauge("node_systemd_socket_current_connections", &["name"], "Connections that a socket unit has now."),
    gauge(
        "node_systemd_socket_refused_connections_total",
        &["name"],
        "Connections that a socket unit has refused.",
    ),
];
const STATES: [&str; 5] = ["active", "activating", "deactivating", "inactive", "failed"];
const RESTARTS: usize = 4;
const SOCKETS: [(usize, &str); 3] = [(5, "NAccepted"), (6, "NConnections"), (7, "NRefused")];

/// No scrape waits for longer, whatever is asked for.
const LONGEST: Duration = Duration::from_secs(60);

const NAME: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const SERVICE: &str = "org.freedesktop.systemd1.Service";
const SOCKET: &str = "org.freedesktop.systemd1.Socket";

pub(crate) struct Systemd {
    bus: PathBuf,
    private: PathBuf,
    config: SystemdConfig,
    /// The types of services by the objects that stand for them: they are settings and seldom change.
    types: HashMap<String, String>,
}

impl Make for Systemd {
    fn make(config: &NodeMetricsConfig, roots: &Roots) -> Self {
        Systemd {
            bus: roots.host("/run/dbus/system_bus_socket".as_ref()),
            private: roots.host("/run/systemd/private".as_ref()),
            config: config.systemd.clone(),
            types: HashMap::new(),
        }
    }
}

impl Collect for Systemd {
    const NAME: &'static str = "systemd";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, _: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        let deadline = Instant::now() + Duration::from_millis(self.config.patience_ms).min(LONGEST);
        let (path, name) = if self.bus.exists() { (&self.bus, Some(NAME)) } else { (&self.private, None) };
        let path = path.clone();
        let told = Bus::connect(&path, name, deadline).and_then(|mut bus| self.ask(&mut bus, samples));
        told.map_err(|cause| AskError::Failed {
            what: format!("systemd at {}", path.display()),
            cause: Box::new(cause),
        })
    }
}

/// A unit as the manager lists it.
struct Unit {
    name: String,
    loaded: bool,
    state: String,
    object: String,
}

impl Unit {
    fn is_a(&self, kind: &str) -> bool {
        self.name.strip_suffix(kind).is_some_and(|name| name.ends_with('.'))
    }
}

impl Systemd {
    /// Writes as much as is told; the rest is the error.
    fn ask(&mut self, bus: &mut Bus, samples: &mut dyn Samples) -> Result<(), BusError> {
        if let Value::Text(state) = bus.property(PATH, MANAGER, "SystemState")? {
            put(samples, &FAMILIES[0], flag(state == "running"));
        }
        if let Value::Text(version) = bus.property(PATH, MANAGER, "Version")? {
            write_version(&version, samples);
        }
        let all = list(bus)?;
        write_counts(&all, samples);
        let shown: Vec<Unit> =
            all.into_iter().filter(|unit| unit.loaded && self.config.shows(&unit.name)).collect();
        let learnt = self.learn_types(bus, &shown);
        self.write_states(&shown, samples);
        learnt?;
        if self.config.restarts {
            figures(bus, &shown, "service", SERVICE, (RESTARTS, "NRestarts"), samples)?;
        }
        SOCKETS.iter().try_for_each(|figure| figures(bus, &shown, "socket", SOCKET, *figure, samples))
    }

    /// Asks for the types of services that are new here, and forgets those that are gone.
    fn learn_types(&mut self, bus: &mut Bus, units: &[Unit]) -> Result<(), BusError> {
        let mut before = std::mem::take(&mut self.types);
        for unit in units.iter().filter(|unit| unit.is_a("service")) {
            let known = match before.remove(&unit.object) {
                Some(known) => Some(Value::Text(known)),
                None => unless_gone(bus.property(&unit.object, SERVICE, "Type"))?,
            };
            if let Some(Value::Text(kind)) = known {
                self.types.insert(unit.object.clone(), kind);
            }
        }
        Ok(())
    }

    fn write_states(&self, units: &[Unit], samples: &mut dyn Samples) {
        samples.family(&FAMILIES[3]);
        for unit in units {
            let kind = self.types.get(&unit.object).map(String::as_str);
            // Without its type it would be another series than the one it was.
            let Some(kind) = kind.or_else(|| (!unit.is_a("service")).then_some("")) else { continue };
            for state in STATES {
                samples.sample(&[&unit.name, state, kind], flag(unit.state == state));
            }
        }
    }
}

fn list(bus: &mut Bus) -> Result<Vec<Unit>, BusError> {
    let method = Method { path: PATH, interface: MANAGER, member: "ListUnits" };
    bus.call(&method, &[], "a(ssssssouso)")?.structs(unit)
}

/// Name, description, load, active and sub state, what it follows, its object, and a job's number, type and object.
fn unit(body: &mut Body) -> Result<Unit, BusError> {
    let [name, _, load, state, _, _, object] =
        [body.text()?, body.text()?, body.text()?, body.text()?, body.text()?, body.text()?, body.text()?];
    let _job = (body.number()?, body.text()?, body.text()?);
    Ok(Unit { name, loaded: load == "loaded", state, object })
}

/// The number that a version such as `252.38-1~deb12u1` begins with.
fn write_version(version: &str, samples: &mut dyn Samples) {
    let end = version.find(|character: char| !character.is_ascii_digit() && character != '.');
    let number = version[..end.unwrap_or(version.len())].trim_end_matches('.');
    if let Ok(number) = number.parse() {
        samples.family(&FAMILIES[1]);
        samples.sample(&[version], number);
    }
}

fn write_counts(units: &[Unit], samples: &mut dyn Samples) {
    samples.family(&FAMILIES[2]);
    for state in STATES {
        samples.sample(&[state], units.iter().filter(|unit| unit.state == state).count() as f64);
    }
}

/// A property of every unit of a kind, as a family.
fn figures(
    bus: &mut Bus,
    units: &[Unit],
    kind: &str,
    interface: &str,
    (family, property): (usize, &str),
    samples: &mut dyn Samples,
) -> Result<(), BusError> {
    samples.family(&FAMILIES[family]);
    for unit in units.iter().filter(|unit| unit.is_a(kind)) {
        if let Some(Value::Number(figure)) = unless_gone(bus.property(&unit.object, interface, property))? {
            samples.sample(&[&unit.name], figure);
        }
    }
    Ok(())
}

/// Nothing of a unit that went away since it was listed, or of a property that this systemd does not have.
fn unless_gone(told: Result<Value, BusError>) -> Result<Option<Value>, BusError> {
    match told {
        Err(BusError::Refused(_)) => Ok(None),
        told => told.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::asked;
    use taffrail_record::Gathered;

    #[test]
    fn a_machine_without_systemd_is_said_to_have_none() {
        let root = tempfile::tempdir().expect("a directory");
        let roots = Roots { rootfs: root.path().to_owned(), ..Roots::default() };
        let systemd = asked(Systemd::make(&NodeMetricsConfig::default(), &roots));
        let mut gathered = Gathered::default();
        let error = systemd.ask(&mut gathered).expect_err("nothing there").to_string();
        assert!(error.contains("/run/systemd/private: No such file"), "{error}");
        assert!(gathered.samples().iter().all(|sample| sample.family == "taffrail_node_read_errors_total"));
    }

    #[test]
    fn versions_are_read_however_they_are_packaged() {
        for (version, number) in
            [("252.38-1~deb12u1", 252.38), ("257", 257.0), ("v249.11-0ubuntu3", f64::NAN)]
        {
            let mut gathered = Gathered::default();
            write_version(version, &mut gathered);
            let told = gathered.samples().first().map_or(f64::NAN, |sample| sample.value);
            assert!(told == number || told.is_nan() && number.is_nan(), "{version}: {told}");
        }
    }
}
