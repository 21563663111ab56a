//! One topic's queue of what came back.
//!
//! While anything of a topic waits here, everything newer for that topic waits behind it, in the order in which the
//! batches came. Other topics are not affected.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::codes::Kind;
use crate::flight::{Flight, Tower};

const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// A topic and what of it waits.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) topic: String,
    /// Counts its flights.
    pub(crate) tower: Arc<Tower>,
    /// Flights that wait, by sequence.
    parked: BTreeMap<u64, Box<Flight>>,
    /// When to try again, and how long the pause before was.
    retry_at: Option<Instant>,
    pause: Duration,
    /// Why records came back last.
    pub(crate) trouble: Option<Kind>,
    /// A flight is being sent message by message, by a producer of its own.
    singling: bool,
    /// Flights settled when the last failure came back.
    settled: u64,
    /// Whether a message was found that is too large by itself, since requests were found too large.
    pub(crate) culprit: bool,
}

impl Lane {
    pub(crate) fn new(topic: String) -> Self {
        Lane {
            topic,
            tower: Arc::default(),
            parked: BTreeMap::new(),
            retry_at: None,
            pause: Duration::ZERO,
            trouble: None,
            singling: false,
            settled: 0,
            culprit: false,
        }
    }

    /// Whether a new flight may take off at once.
    pub(crate) fn is_clear(&self) -> bool {
        self.parked.is_empty() && !self.singling
    }

    /// Whether nothing waits, and what had come back is delivered: nothing is on its way, or something arrived
    /// since.
    pub(crate) fn has_recovered(&self) -> bool {
        self.is_clear() && (self.tower.aloft() == 0 || self.tower.settled() > self.settled)
    }

    /// How many flights wait.
    pub(crate) fn waiting(&self) -> usize {
        self.parked.len()
    }

    /// Lets a flight wait for its turn.
    pub(crate) fn park(&mut self, flight: Box<Flight>) {
        self.settled = self.tower.settled();
        self.parked.insert(flight.sequence, flight);
    }

    /// Notes why records came back. Trouble of the topic itself makes the next attempt wait, longer each time.
    pub(crate) fn note(&mut self, kind: Kind, largest_pause: Duration) {
        let wait = match kind {
            Kind::TooLarge | Kind::Producer => Duration::ZERO,
            _ => (self.pause * 2).clamp(FIRST_PAUSE.min(largest_pause), largest_pause),
        };
        if !wait.is_zero() && self.retry_at.is_some_and(|at| at > Instant::now()) {
            // Several flights of one attempt come back one by one: they are one failure.
            return;
        }
        self.trouble = Some(kind);
        self.pause = wait;
        self.retry_at = Some(Instant::now() + wait);
    }

    /// Whether the waiting flights may be sent: all others are back and the pause is over.
    pub(crate) fn is_due(&self) -> bool {
        !self.parked.is_empty()
            && self.tower.aloft() == 0
            && self.retry_at.is_none_or(|at| at <= Instant::now())
    }

    /// The next flight in order. One that is to be sent message by message goes alone.
    pub(crate) fn next(&mut self) -> Option<Box<Flight>> {
        let alone = self.parked.first_key_value().is_some_and(|(_, flight)| flight.single);
        if alone && self.tower.aloft() > 0 {
            return None;
        }
        let (_, flight) = self.parked.pop_first()?;
        self.singling = alone;
        Some(flight)
    }

    /// Whether the flight that was sent message by message is back.
    pub(crate) fn singled(&mut self) -> bool {
        if self.singling && self.tower.aloft() == 0 {
            self.singling = false;
        }
        !self.singling
    }

    /// Forgets the trouble.
    pub(crate) fn recover(&mut self) {
        self.trouble = None;
        self.retry_at = None;
        self.pause = Duration::ZERO;
        self.culprit = false;
    }
}
