//! `timex`: how well the clock is kept, as the kernel knows.

use std::io;

use taffrail_kernfs::{Page, Roots};
use taffrail_record::{AskError, Family, Samples};

use crate::NodeMetricsConfig;
use crate::families::{Collect, counter, flag, gauge, put};
use crate::list::Make;

static FAMILIES: [Family; 17] = [
    gauge("node_timex_offset_seconds", &[], "How far the clock is from its reference."),
    gauge(
        "node_timex_frequency_adjustment_ratio",
        &[],
        "How much faster than by itself the clock is made to run.",
    ),
    gauge("node_timex_maxerror_seconds", &[], "Largest error of the clock."),
    gauge("node_timex_estimated_error_seconds", &[], "Estimated error of the clock."),
    gauge("node_timex_status", &[], "The clock's status, as bits."),
    gauge("node_timex_loop_time_constant", &[], "Time constant of the loop that keeps the clock."),
    gauge("node_timex_tick_seconds", &[], "Seconds between two ticks of the clock."),
    gauge("node_timex_pps_frequency_hertz", &[], "Frequency of the pulse per second."),
    gauge("node_timex_pps_jitter_seconds", &[], "Jitter of the pulse per second."),
    gauge("node_timex_pps_shift_seconds", &[], "Interval of the pulse per second."),
    gauge("node_timex_pps_stability_hertz", &[], "Stability of the pulse per second."),
    counter(
        "node_timex_pps_jitter_total",
        &[],
        "How often the pulse per second was out of its limit of jitter.",
    ),
    counter("node_timex_pps_calibration_total", &[], "Calibrations by the pulse per second."),
    counter("node_timex_pps_error_total", &[], "Calibrations that failed."),
    counter("node_timex_pps_stability_exceeded_total", &[], "How often the limit of stability was exceeded."),
    gauge("node_timex_tai_offset_seconds", &[], "How far the clock is from international atomic time."),
    gauge("node_timex_sync_status", &[], "Whether the clock is kept in step with a reference."),
];
const MICROSECONDS: f64 = 1e6;
const NANOSECONDS: f64 = 1e9;
/// Frequencies are in parts per million, with 16 bits behind the point.
const SCALED: f64 = 65_536.0 * 1e6;

pub(crate) struct Timex;

impl Make for Timex {
    fn make(_: &NodeMetricsConfig, _: &Roots) -> Self {
        Timex
    }
}

impl Collect for Timex {
    const NAME: &'static str = "timex";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, _: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        let (clock, state) = clock()?;
        for (family, value) in FAMILIES.iter().zip(figures(&clock, state)) {
            put(samples, family, value);
        }
        Ok(())
    }
}

fn clock() -> Result<(libc::timex, i32), AskError> {
    // SAFETY: a timex is integers only, for which zero is a value.
    let mut clock: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: it is given a timex of this function's own; without a mode the call changes nothing.
    let state = unsafe { libc::adjtimex(&mut clock) };
    if state >= 0 {
        return Ok((clock, state));
    }
    let cause = io::Error::last_os_error();
    // Sandboxes forbid the call, whether or not it would change anything.
    if cause.kind() == io::ErrorKind::PermissionDenied {
        return Err(AskError::Absent("adjtimex: not permitted".to_owned()));
    }
    Err(AskError::Failed { what: "adjtimex".to_owned(), cause: Box::new(cause) })
}

/// In the order of the families.
fn figures(clock: &libc::timex, state: i32) -> [f64; FAMILIES.len()] {
    let divisor = if clock.status & libc::STA_NANO == 0 { MICROSECONDS } else { NANOSECONDS };
    [
        clock.offset as f64 / divisor,
        1.0 + clock.freq as f64 / SCALED,
        clock.maxerror as f64 / MICROSECONDS,
        clock.esterror as f64 / MICROSECONDS,
        f64::from(clock.status),
        clock.constant as f64,
        clock.tick as f64 / MICROSECONDS,
        clock.ppsfreq as f64 / SCALED,
        clock.jitter as f64 / divisor,
        f64::from(clock.shift),
        clock.stabil as f64 / SCALED,
        clock.jitcnt as f64,
        clock.calcnt as f64,
        clock.errcnt as f64,
        clock.stbcnt as f64,
        f64::from(clock.tai),
        flag(state != libc::TIME_ERROR),
    ]
}
