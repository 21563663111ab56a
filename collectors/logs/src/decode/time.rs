//! RFC 3339 times as container runtimes write them, to the nanosecond.
//!
//! `2006-01-02T15:04:05[.1-9 digits](Z|+hh:mm|-hh:mm)`, years 1678 to 2261 (what nanoseconds in an `i64` can hold).
//! Second 60 counts as 59, as most libraries do. Everything else is refused, never guessed.

const NANOS: i64 = 1_000_000_000;
/// Bytes of date, `T` and time of day.
const DATE_LEN: usize = 19;
/// First year whose every moment fits, with any zone, and one past the last.
const YEARS: std::ops::Range<u32> = 1678..2262;

/// Reads times; remembers the second it read last, since the next line mostly falls into the same.
#[derive(Debug, Clone)]
pub(super) struct Clock {
    date: [u8; DATE_LEN],
    seconds: i64,
}

impl Clock {
    pub(super) fn new() -> Clock {
        Clock { date: [0; DATE_LEN], seconds: 0 }
    }

    /// The time at the start of `text` in Unix nanoseconds, and the number of bytes it takes up there.
    #[inline]
    pub(super) fn read(&mut self, text: &[u8]) -> Option<(i64, usize)> {
        let (date, rest) = text.split_first_chunk::<DATE_LEN>()?;
        if *date != self.date {
            self.seconds = unix_seconds(date)?;
            self.date = *date;
        }
        if let Some(fixed) = rest.first_chunk::<11>()
            && let Some(nanos) = nine_digits_and_z(fixed)
        {
            return Some((self.seconds * NANOS + nanos, DATE_LEN + fixed.len()));
        }
        let (nanos, digits) = fraction(rest)?;
        let (offset, zone) = zone(&rest[digits..])?;
        Some(((self.seconds - offset) * NANOS + nanos, DATE_LEN + digits + zone))
    }
}

/// `.123456789Z`: what nearly every line has.
#[inline]
fn nine_digits_and_z(text: &[u8; 11]) -> Option<i64> {
    let [b'.', digits @ .., last, b'Z'] = text else { return None };
    let last = last.wrapping_sub(b'0');
    if last > 9 {
        return None;
    }
    Some(eight_digits(*digits)? * 10 + i64::from(last))
}

/// Eight ASCII digits at once: each step multiplies and adds neighbours.
#[inline]
fn eight_digits(text: [u8; 8]) -> Option<i64> {
    let v = u64::from_le_bytes(text);
    let high = v & 0xf0f0_f0f0_f0f0_f0f0;
    let carried = (v.wrapping_add(0x0606_0606_0606_0606) & 0xf0f0_f0f0_f0f0_f0f0) >> 4;
    if high | carried != 0x3333_3333_3333_3333 {
        return None;
    }
    let v = (v & 0x0f0f_0f0f_0f0f_0f0f).wrapping_mul(2561) >> 8;
    let v = (v & 0x00ff_00ff_00ff_00ff).wrapping_mul(6_553_601) >> 16;
    let v = (v & 0x0000_ffff_0000_ffff).wrapping_mul(42_949_672_960_001) >> 32;
    i64::try_from(v).ok()
}

/// Nanoseconds of an optional `.d{1,9}` and the bytes it takes.
fn fraction(text: &[u8]) -> Option<(i64, usize)> {
    if text.first() != Some(&b'.') {
        return Some((0, 0));
    }
    let digits = text[1..].iter().take_while(|b| b.is_ascii_digit()).count();
    if !(1..=9).contains(&digits) {
        return None;
    }
    let value = text[1..=digits].iter().fold(0, |n, b| n * 10 + i64::from(b - b'0'));
    let missing = u32::try_from(9 - digits).ok()?;
    Some((value * 10_i64.pow(missing), digits + 1))
}

/// Seconds east of UTC and the bytes the zone takes.
fn zone(text: &[u8]) -> Option<(i64, usize)> {
    let sign = match text.first()? {
        b'Z' => return Some((0, 1)),
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let [h1, h2, b':', m1, m2] = text.get(1..6)? else { return None };
    let (hours, minutes) = (two(*h1, *h2)?, two(*m1, *m2)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    Some((sign * i64::from(hours * 3600 + minutes * 60), 6))
}

fn unix_seconds(text: &[u8; DATE_LEN]) -> Option<i64> {
    let [y1, y2, y3, y4, b'-', o1, o2, b'-', d1, d2, b'T', h1, h2, b':', m1, m2, b':', s1, s2] = *text else {
        return None;
    };
    let year = two(y1, y2)? * 100 + two(y3, y4)?;
    let (month, day) = (two(o1, o2)?, two(d1, d2)?);
    let (hour, minute, second) = (two(h1, h2)?, two(m1, m2)?, two(s1, s2)?);
    if !YEARS.contains(&year) || day == 0 || day > days_in_month(year, month)? {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let of_day = hour * 3600 + minute * 60 + second.min(59);
    Some(days_since_1970(year, month, day) * 86_400 + i64::from(of_day))
}

fn two(tens: u8, ones: u8) -> Option<u32> {
    (tens.is_ascii_digit() && ones.is_ascii_digit())
        .then(|| u32::from(tens - b'0') * 10 + u32::from(ones - b'0'))
}

fn days_in_month(year: u32, month: u32) -> Option<u32> {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => Some(29),
        2 => Some(28),
        _ => None,
    }
}

/// Days of the Gregorian calendar, counted in years that begin in March so that the leap day comes last.
fn days_since_1970(year: u32, month: u32, day: u32) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    let of_year = (month * 153 + 2) / 5 + day - 1;
    i64::from(year * 365 + leap_days + of_year) - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Option<(i64, usize)> {
        Clock::new().read(text.as_bytes())
    }

    #[test]
    fn times_are_read_to_the_nanosecond_with_any_zone_and_any_number_of_digits() {
        let table = [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T00:00:00.000000001Z", 1),
            ("1969-12-31T23:59:59.999999999Z", -1),
            ("2016-10-06T00:17:09.669794202Z", 1_475_713_029_669_794_202),
            ("2016-10-06T08:17:09.669794202+08:00", 1_475_713_029_669_794_202),
            ("2016-10-05T20:47:09.669794202-03:30", 1_475_713_029_669_794_202),
            ("2016-10-06T00:17:09.66979420Z", 1_475_713_029_669_794_200),
            ("2016-10-06T00:17:09.6Z", 1_475_713_029_600_000_000),
            ("2016-10-06T00:17:09Z", 1_475_713_029_000_000_000),
            ("2024-02-29T12:00:00.5+00:00", 1_709_208_000_500_000_000),
            ("2000-02-29T00:00:00Z", 951_782_400_000_000_000),
            ("2016-12-31T23:59:60Z", 1_483_228_799_000_000_000),
        ];
        for (text, time) in table {
            assert_eq!(read(text), Some((time, text.len())), "{text}");
            assert_eq!(read(&format!("{text} stdout F x")), Some((time, text.len())), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2016-10-06",
            "2016-10-06T00:17:09",
            "2016-10-06T00:17:09.Z",
            "2016-10-06T00:17:09.1234567890Z",
            "2016-10-06T00:17:09.12345678xZ",
            "2016-10-06 00:17:09Z",
            "2016-10-06t00:17:09Z",
            "2016-13-06T00:17:09Z",
            "2016-00-06T00:17:09Z",
            "2016-10-32T00:17:09Z",
            "2016-10-00T00:17:09Z",
            "2023-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2016-10-06T24:00:00Z",
            "2016-10-06T00:60:00Z",
            "2016-10-06T00:00:61Z",
            "2016-10-06T00:00:00+24:00",
            "2016-10-06T00:00:00+0800",
            "2016-10-06T00:00:00+08:60",
            "0001-01-01T00:00:00Z",
            "1677-12-31T00:00:00Z",
            "2262-01-01T00:00:00Z",
            "2016-1:-06T00:17:09Z",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_remembered_second_does_not_leak_into_a_refused_one() {
        let mut clock = Clock::new();
        assert_eq!(clock.read(b"1970-01-01T00:00:01Z"), Some((1_000_000_000, 20)));
        assert_eq!(clock.read(b"1970-01-99T00:00:01Z"), None);
        assert_eq!(clock.read(b"1970-01-99T00:00:01Z"), None);
        assert_eq!(clock.read(b"1970-01-01T00:00:01Z"), Some((1_000_000_000, 20)));
    }

    proptest! {
        #[test]
        fn every_moment_reads_as_jiff_reads_it(
            seconds in -9_214_560_000_i64..9_214_646_400,
            nanos in 0_i32..1_000_000_000,
            digits in 0_u8..=9,
            offset in -1439_i32..=1439,
        ) {
            let zone = jiff::tz::Offset::from_seconds(offset * 60).expect("within a day");
            let moment = jiff::Timestamp::new(seconds, 0).expect("in range") + jiff::SignedDuration::from_nanos(nanos.into());
            let text = format!("{:.*}", usize::from(digits), moment.display_with_offset(zone));
            let expected = text.parse::<jiff::Timestamp>().expect("jiff reads what it wrote");
            let expected = i64::try_from(expected.as_nanosecond()).expect("in range");
            prop_assert_eq!(read(&text), Some((expected, text.len())), "{}", text);
        }

        #[test]
        fn what_is_accepted_means_the_same_to_jiff(text in "(19|20)[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{1,10})?(Z|[+-][0-2][0-9]:[0-6][0-9])") {
            if let Some((time, len)) = read(&text) {
                prop_assert_eq!(len, text.len());
                let expected = text.parse::<jiff::Timestamp>().expect("jiff accepts it too");
                prop_assert_eq!(i128::from(time), expected.as_nanosecond());
            }
        }
    }
}
