//! What the containers print: each line can be made again from its name, so that whoever finds it in the topic can tell
//! whether it is the line that was printed, without having kept it.

use std::fmt::Write as _;

use super::random::Random;

/// One stream of one container, whose lines are numbered from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Lane {
    /// Which writer.
    pub(super) writer: u16,
    /// Which of its pods, one after the other.
    pub(super) pod: u32,
    /// Standard error instead of standard output.
    pub(super) stderr: bool,
}

impl Lane {
    /// The stream's name.
    #[must_use]
    pub(super) fn stream(self) -> &'static str {
        if self.stderr { "stderr" } else { "stdout" }
    }
}

/// No line takes more bytes of a file than this.
pub(super) const LONGEST: u64 = 210_000;

/// The bytes of a line, as the program prints them, without the newline.
#[must_use]
pub(super) fn content(seed: u64, lane: Lane, number: u64) -> Vec<u8> {
    let mut random =
        Random::new(seed, &[u64::from(lane.writer), lane.pod.into(), lane.stderr.into(), number]);
    let mut line = name(lane, number).into_bytes();
    let length = match random.below(5000) {
        0 => random.within(60_000, 200_000),
        1..20 => random.within(16_000, 50_000),
        20..100 => random.within(1000, 8000),
        _ => random.within(0, 300),
    };
    let end = line.len() + length as usize;
    while line.len() < end {
        word(&mut line, &mut random);
    }
    if random.once_in(50) {
        line.push(b'\r');
    }
    line
}

fn name(lane: Lane, number: u64) -> String {
    format!("line {} {} {} {number} ", lane.writer, lane.pod, lane.stream())
}

/// Words as logs have them, and now and then what breaks parsers.
fn word(line: &mut Vec<u8>, random: &mut Random) {
    const ODD: [&[u8]; 10] = [
        b"\xff\xfe",
        b"\0",
        b"\t\"quoted\\\" ",
        "Zürich \u{1F6A2} ".as_bytes(),
        b"{\"json\":true}",
        b" stdout F ",
        b"\xe2\x82",
        b"\x1b[31mred\x1b[0m",
        b"\r",
        b"2026-01-01T00:00:00.000000000Z stderr P ",
    ];
    if random.once_in(40) {
        line.extend_from_slice(ODD[random.below(ODD.len() as u64) as usize]);
        return;
    }
    let mut text = String::new();
    let bits = random.next();
    let _ = match bits % 3 {
        0 => write!(text, "key={} ", bits >> 40),
        1 => write!(text, "{:x} ", bits >> 16),
        _ => write!(text, "request took {} ms, ", (bits >> 8) % 1000),
    };
    line.extend_from_slice(text.as_bytes());
}

/// What a record's `message` must be: the line without the carriage return that ended it, and what is not UTF-8 replaced.
#[must_use]
pub(super) fn message(content: &[u8]) -> String {
    String::from_utf8_lossy(content.strip_suffix(b"\r").unwrap_or(content)).into_owned()
}

/// Which line a message claims to be.
#[must_use]
pub(super) fn claimed(message: &str) -> Option<(Lane, u64)> {
    let mut words = message.split(' ');
    if words.next()? != "line" {
        return None;
    }
    let (writer, pod) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let stderr = match words.next()? {
        "stdout" => false,
        "stderr" => true,
        _ => return None,
    };
    Some((Lane { writer, pod, stderr }, words.next()?.parse().ok()?))
}

/// The line as a container runtime writes it: parts of at most 16 KiB, each with its time and tag.
#[must_use]
pub(super) fn cri(content: &[u8], stream: &str, time: &str) -> Vec<Vec<u8>> {
    const PART: usize = 16 * 1024;
    let count = content.chunks(PART).count();
    let parts = content.chunks(PART).enumerate().map(|(index, part)| {
        let tag = if index + 1 == count { "F" } else { "P" };
        [time.as_bytes(), b" ", stream.as_bytes(), b" ", tag.as_bytes(), b" ", part, b"\n"].concat()
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_known_again_by_its_message() {
        let mut parts = 0;
        for number in 0..3000 {
            let lane = Lane { writer: 3, pod: number as u32 % 5, stderr: number % 2 == 1 };
            let content = content(7, lane, number);
            assert_eq!(claimed(&message(&content)), Some((lane, number)));
            assert!(!content.contains(&b'\n'));
            let physical = cri(&content, lane.stream(), "T");
            let joined: Vec<u8> =
                physical.iter().flat_map(|part| part["T stdout F ".len()..part.len() - 1].to_vec()).collect();
            assert_eq!(joined, content);
            parts = parts.max(physical.len());
        }
        assert!(parts > 3, "some lines are split");
    }

    #[test]
    fn another_seed_prints_other_lines() {
        let lane = Lane { writer: 0, pod: 0, stderr: false };
        let differ = (0..100).filter(|number| content(1, lane, *number) != content(2, lane, *number)).count();
        assert!(differ > 90);
    }
}
