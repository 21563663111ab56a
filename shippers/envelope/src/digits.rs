//! Numbers and times as text, without a formatter on the way.

/// Appends `value` in decimal.
pub(crate) fn write_number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = digit(value % 10);
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends `value` in decimal with leading zeros, `width` digits or, if need be, more.
pub(crate) fn write_padded(out: &mut Vec<u8>, value: u64, width: usize) {
    if 10_u64.checked_pow(width as u32).is_some_and(|limit| value >= limit) {
        return write_number(out, value);
    }
    let begin = out.len();
    out.resize(begin + width, b'0');
    put(&mut out[begin..], value);
}

/// Writes times as `2026-11-21T10:11:12.123456789Z`; the part up to the second is kept between calls, since
/// neighbouring records share it.
#[derive(Debug)]
pub(crate) struct Clock {
    second: i64,
    text: [u8; 30],
}

impl Clock {
    pub(crate) fn new() -> Self {
        let mut clock = Clock { second: 0, text: *b"0000-00-00T00:00:00.000000000Z" };
        clock.set_second(0);
        clock
    }

    /// Appends the time `nanos` after the Unix epoch, in UTC.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>, nanos: i64) {
        let second = nanos.div_euclid(1_000_000_000);
        if second != self.second {
            self.set_second(second);
        }
        put(&mut self.text[20..29], nanos.rem_euclid(1_000_000_000).cast_unsigned());
        out.extend_from_slice(&self.text);
    }

    fn set_second(&mut self, second: i64) {
        self.second = second;
        let (year, month, day) = civil(second.div_euclid(86_400));
        let of_day = second.rem_euclid(86_400).cast_unsigned();
        put(&mut self.text[0..4], year);
        put(&mut self.text[5..7], month);
        put(&mut self.text[8..10], day);
        put(&mut self.text[11..13], of_day / 3600);
        put(&mut self.text[14..16], of_day / 60 % 60);
        put(&mut self.text[17..19], of_day % 60);
    }
}

/// A time as records have it: `2026-11-21T10:11:12.123456789Z`, `nanos` after the Unix epoch.
#[must_use]
pub fn utc(nanos: i64) -> String {
    let mut text = Vec::with_capacity(30);
    Clock::new().write(&mut text, nanos);
    String::from_utf8_lossy(&text).into_owned()
}

/// Fills `field` with `value` and leading zeros.
fn put(field: &mut [u8], mut value: u64) {
    for place in field.iter_mut().rev() {
        *place = digit(value % 10);
        value /= 10;
    }
}

fn digit(value: u64) -> u8 {
    b'0' + (value % 10) as u8
}

/// Year, month and day of a day counted from 1970-01-01 in the proleptic Gregorian calendar. Counts in eras of 400
/// years that begin on 1 March, so that the leap day is the last of its year. An i64 of nanoseconds spans the years
/// 1677 to 2262.
fn civil(day: i64) -> (u64, u64, u64) {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let day_of_era = day.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year.cast_unsigned(), month.cast_unsigned(), day.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc_to_the_nanosecond() {
        let cases = [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
            (951_782_400_000_000_000, "2000-02-29T00:00:00.000000000Z"),
            (1_709_251_199_123_456_789, "2024-02-29T23:59:59.123456789Z"),
            (1_795_255_872_000_000_001, "2026-11-21T10:11:12.000000001Z"),
            (4_107_542_400_000_000_000, "2100-03-01T00:00:00.000000000Z"),
            (i64::MIN, "1677-09-21T00:12:43.145224192Z"),
            (i64::MAX, "2262-04-11T23:47:16.854775807Z"),
        ];
        let mut clock = Clock::new();
        for (nanos, expected) in cases {
            let mut out = Vec::new();
            clock.write(&mut out, nanos);
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
    }

    #[test]
    fn numbers_are_written_in_decimal() {
        for value in [0, 9, 10, 1_234_567_890, u64::MAX] {
            let mut out = Vec::new();
            write_number(&mut out, value);
            assert_eq!(out, value.to_string().as_bytes());
            out.clear();
            write_padded(&mut out, value, 7);
            assert_eq!(String::from_utf8_lossy(&out), format!("{value:07}"));
        }
    }
}
