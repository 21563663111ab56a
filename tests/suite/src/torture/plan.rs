//! Which fault comes next, and when.

use std::time::Duration;

use super::random::Random;

/// What befalls the agent between two lives, or the world during one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Fault {
    /// Nothing at all, to know what goes wrong by itself.
    None,
    /// kill -9.
    Kill,
    /// TERM, as a rollout does.
    Stop,
    /// kill -9, and kill -9 again before it can have caught up.
    KillTwice,
    /// kill -9, and a damaged checkpoint file before it starts again.
    Damage,
    /// No space left under the state directory for a while, kill -9 in the middle of it, space again.
    FullDisk,
    /// The broker is killed and started again; the agent lives.
    BrokerDown,
    /// The broker is killed, then the agent; both come back.
    BrokerDownAndKill,
    /// The broker is frozen, its connections open; the agent lives.
    BrokerFrozen,
    /// The agent itself is frozen.
    AgentFrozen,
    /// The agent's clock jumps, forwards or backwards, by minutes, hours or days, once or several times.
    ClockStepped,
}

impl Fault {
    /// Whether the agent may repeat more than its window after it: its last positions could not be written, or were lost.
    #[must_use]
    pub fn loses_positions(self) -> bool {
        matches!(self, Fault::Damage | Fault::FullDisk)
    }

    /// How often the agent is killed in it.
    #[must_use]
    pub fn kills(self) -> u64 {
        match self {
            Fault::Kill | Fault::Damage | Fault::FullDisk | Fault::BrokerDownAndKill => 1,
            Fault::KillTwice => 2,
            Fault::None
            | Fault::Stop
            | Fault::BrokerDown
            | Fault::BrokerFrozen
            | Fault::AgentFrozen
            | Fault::ClockStepped => 0,
        }
    }
}

/// How many kinds of faults there are.
pub(super) const KINDS: u64 = 10;

/// The next fault, one of `only` unless that is empty; `disk` says whether the disk can be filled. The first ones of a run are one of each kind, so that a
/// short run has seen them all.
pub(super) fn next(random: &mut Random, cycle: u64, disk: bool, only: &[Fault]) -> Fault {
    const EACH: [Fault; KINDS as usize] = [
        Fault::Kill,
        Fault::Stop,
        Fault::ClockStepped,
        Fault::FullDisk,
        Fault::Damage,
        Fault::BrokerDown,
        Fault::BrokerFrozen,
        Fault::BrokerDownAndKill,
        Fault::AgentFrozen,
        Fault::KillTwice,
    ];
    if !only.is_empty() {
        return only[random.below(only.len() as u64) as usize];
    }
    let fault = match EACH.get(cycle as usize) {
        Some(fault) => *fault,
        None => match random.below(22) {
            0..9 => Fault::Kill,
            9 => Fault::Stop,
            10 | 11 => Fault::KillTwice,
            12 | 13 => Fault::Damage,
            14 | 15 => Fault::FullDisk,
            16 => Fault::BrokerDown,
            17 => Fault::BrokerFrozen,
            18 => Fault::BrokerDownAndKill,
            19 | 20 => Fault::ClockStepped,
            _ => Fault::AgentFrozen,
        },
    };
    if fault == Fault::FullDisk && !disk { Fault::Kill } else { fault }
}

/// How long a life goes well before the fault: often short, so that starting is hit too.
pub(super) fn calm(random: &mut Random) -> Duration {
    Duration::from_millis(if random.once_in(3) { random.within(20, 800) } else { random.within(800, 6000) })
}

/// Whether another fault comes before all is in order again.
pub(super) fn no_rest(random: &mut Random) -> bool {
    random.once_in(3)
}

/// How far ahead of the broker's clock, in seconds, records may be that it takes: the default of Kafka's
/// `message.timestamp.after.max.ms` is an hour. What is farther ahead waits for as long as it is.
const TAKEN: i64 = 3000;

/// By how many seconds the agent's clock is off after the step with which it is left: nothing that a broker refuses.
pub(super) fn clock_that_stays(random: &mut Random) -> i64 {
    clock(random).min(TAKEN)
}

/// By how many seconds the agent's clock is off after a step: minutes, hours or days, ahead or behind; now and then it
/// is right again.
pub(super) fn clock(random: &mut Random) -> i64 {
    let seconds = match random.below(4) {
        0 => 0,
        1 => random.within(60, 3600),
        2 => random.within(3600, 86_400),
        _ => random.within(86_400, 400 * 86_400),
    };
    if random.once_in(2) { seconds.cast_signed() } else { -seconds.cast_signed() }
}

/// How long a fault lasts.
pub(super) fn spell(random: &mut Random) -> Duration {
    Duration::from_millis(random.within(500, 6000))
}
