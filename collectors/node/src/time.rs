//! `time`: the time, the zone, and what keeps the time.

use std::ffi::CStr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use taffrail_kernfs::{Kept, Page, ReadError, Roots, Troubles};
use taffrail_record::{AskError, Family, Samples};

use crate::NodeMetricsConfig;
use crate::devices::Devices;
use crate::families::{Collect, gauge, put};
use crate::list::Make;
use crate::sources::trailing;

const CLOCK: &[&str] = &["device", "clocksource"];
static FAMILIES: [Family; 4] = [
    gauge("node_time_seconds", &[], "The time, in seconds since the Unix epoch."),
    gauge("node_time_zone_offset_seconds", &["time_zone"], "How far the local time is ahead of UTC."),
    gauge("node_time_clocksource_available_info", CLOCK, "Always 1; what could keep the time."),
    gauge("node_time_clocksource_current_info", CLOCK, "Always 1; what keeps the time."),
];

pub(crate) struct Time(Devices<Source>);

struct Source {
    number: String,
    available: Kept,
    current: Kept,
}

impl Make for Time {
    fn make(_: &NodeMetricsConfig, roots: &Roots) -> Self {
        Time(Devices::new(roots.sys("devices/system/clocksource")))
    }
}

impl Collect for Time {
    const NAME: &'static str = "time";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, page: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        put(samples, &FAMILIES[0], now.as_secs_f64());
        if let Some((zone, offset)) = zone(now.as_secs()) {
            samples.family(&FAMILIES[1]);
            samples.sample(&[&zone], offset);
        }
        let mut troubles = Troubles::default();
        match self.0.now(Source::new) {
            Ok(sources) => sources.for_each(|source| source.write(page, &mut troubles, samples)),
            Err(error) => troubles.note(error),
        }
        troubles.told()
    }
}

impl Source {
    fn new(name: &str, path: &Path) -> Option<Source> {
        let number = name.strip_prefix("clocksource").and_then(trailing)?.to_string();
        let file = |name| Kept::new(path.join(name));
        Some(Source {
            number,
            available: file("available_clocksource"),
            current: file("current_clocksource"),
        })
    }

    fn write(&mut self, page: &mut Page, troubles: &mut Troubles, samples: &mut dyn Samples) {
        for (family, file) in [(2, &mut self.available), (3, &mut self.current)] {
            let path = file.path().to_owned();
            let text = file.read_once(page).and_then(|text| {
                std::str::from_utf8(text).map_err(|_| ReadError::malformed(&path, "not text"))
            });
            samples.family(&FAMILIES[family]);
            for clock in troubles.take(text).unwrap_or_default().split_whitespace() {
                samples.sample(&[&self.number, clock], 1.0);
            }
        }
    }
}

/// The local zone's name and how far it is ahead of UTC.
fn zone(now: u64) -> Option<(String, f64)> {
    let now = libc::time_t::try_from(now).ok()?;
    // SAFETY: a tm is integers and a pointer, for which zero is a value.
    let mut local: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both are this function's own, and the call keeps neither.
    let done = unsafe { libc::localtime_r(&now, &mut local) };
    if done.is_null() || local.tm_zone.is_null() {
        return None;
    }
    // SAFETY: localtime_r has set it to a name that the C library keeps.
    let name = unsafe { CStr::from_ptr(local.tm_zone) };
    Some((name.to_string_lossy().into_owned(), local.tm_gmtoff as f64))
}
