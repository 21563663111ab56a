//! Amounts of resources as Kubernetes writes them.
//!
//! An amount is kept to a billionth, rounded away from zero beyond that, as the API server keeps it. What is larger than 2^63 - 1
//! counts as that.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error as _, Visitor};

const BILLION: u128 = 1_000_000_000;
const MOST: u128 = i64::MAX as u128 * BILLION;
/// Above it thousandths do not fit the API's own integers, and cores are given whole.
const MOST_IN_THOUSANDTHS: f64 = (i64::MAX / 1000) as f64;

/// An amount of some resource, such as `100m`, `1Gi`, `1e3` or `-0.5`. In billionths: 128 bits in two halves, to need no
/// alignment that would cost memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    high: i64,
    low: u64,
}

/// A text that is no amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not an amount of a resource; write a number with one of n, u, m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei or an exponent behind it"
)]
pub struct AmountError;

impl Amount {
    /// In billionths.
    #[must_use]
    pub fn billionths(self) -> i128 {
        (i128::from(self.high) << 64) | i128::from(self.low)
    }

    /// In whole units, rounded away from zero: what bytes and counts are given in.
    #[must_use]
    pub fn whole(self) -> f64 {
        self.rounded(BILLION)
    }

    /// In units and thousandths, rounded away from zero: what cores are given in.
    #[must_use]
    pub fn cores(self) -> f64 {
        let whole = self.whole();
        if whole > MOST_IN_THOUSANDTHS { whole } else { self.rounded(BILLION / 1000) / 1000.0 }
    }

    fn rounded(self, unit: u128) -> f64 {
        let (value, unit) = (self.billionths(), unit as i128);
        let up = if value % unit == 0 { 0 } else { value.signum() };
        (value / unit + up) as f64
    }

    fn from_billionths(value: i128) -> Self {
        Amount { high: (value >> 64) as i64, low: value as u64 }
    }
}

impl FromStr for Amount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (two, ten) = powers(suffix).ok_or(AmountError)?;
        let size = magnitude(number, two, ten).ok_or(AmountError)?.min(MOST) as i128;
        Ok(Amount::from_billionths(if text.starts_with('-') { -size } else { size }))
    }
}

/// The powers of two and of ten that a suffix stands for.
fn powers(suffix: &str) -> Option<(u32, i32)> {
    Some(match suffix {
        "" => (0, 0),
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        exponent => (0, exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    })
}

/// `number` times these powers in billionths; far too large is [`MOST`].
fn magnitude(number: &str, two: u32, ten: i32) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let (mut digits, mut rest, mut scale) = (0_u128, false, ten.saturating_add(9));
    for (digit, in_fraction) in
        whole.bytes().map(|byte| (byte, false)).chain(fraction.bytes().map(|byte| (byte, true)))
    {
        if digits < BILLION * BILLION {
            digits = digits * 10 + u128::from(digit - b'0');
            scale = scale.saturating_sub(i32::from(in_fraction));
        } else {
            rest |= digit != b'0';
            scale = scale.saturating_add(i32::from(!in_fraction));
        }
    }
    let scaled = digits << two;
    if scale >= 0 {
        let more = 10_u128.checked_pow(scale.unsigned_abs()).and_then(|power| scaled.checked_mul(power));
        return Some(if digits == 0 { 0 } else { more.unwrap_or(MOST) });
    }
    // Rounded up: who asked for something gets something.
    let up = |power| scaled / power + u128::from(rest || !scaled.is_multiple_of(power));
    Some(10_u128.checked_pow(scale.unsigned_abs()).map_or(u128::from(rest || scaled != 0), up))
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Written;
        impl Visitor<'_> for Written {
            type Value = Amount;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an amount of a resource")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Amount, E> {
                text.trim().parse().map_err(E::custom)
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Amount, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Amount, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Amount, E> {
                self.visit_str(&number.to_string())
            }
        }
        from.deserialize_any(Written).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Amount {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn amounts_are_read_as_the_api_server_reads_them() {
        for (text, whole, cores) in [
            ("100m", 1.0, 0.1),
            ("1", 1.0, 1.0),
            ("0.5", 1.0, 0.5),
            (".5", 1.0, 0.5),
            ("5.", 5.0, 5.0),
            ("-0.5", -1.0, -0.5),
            ("+2", 2.0, 2.0),
            ("1Gi", 1_073_741_824.0, 1_073_741_824.0),
            ("1.5Gi", 1_610_612_736.0, 1_610_612_736.0),
            ("1e3", 1000.0, 1000.0),
            ("1E3", 1000.0, 1000.0),
            ("1E", 1e18, 1e18),
            ("12e-1", 2.0, 1.2),
            ("1500000u", 2.0, 1.5),
            ("1n", 1.0, 0.001),
            ("0", 0.0, 0.0),
            ("0Ei", 0.0, 0.0),
            ("2k", 2000.0, 2000.0),
            ("0.0000000001", 1.0, 0.001),
            ("123456789012345678", 123_456_789_012_345_678.0, 123_456_789_012_345_678.0),
            ("0.1Ki", 103.0, 102.4),
            ("007", 7.0, 7.0),
        ] {
            assert_eq!((read(text).whole(), read(text).cores()), (whole, cores), "{text}");
        }
    }

    #[test]
    fn what_is_far_too_large_is_the_largest_there_is() {
        for text in ["100Ei", "1e40", "1e2147483647", &"9".repeat(200), "9223372036854775807"] {
            assert_eq!(read(text).whole(), i64::MAX as f64, "{text}");
        }
        assert_eq!(read("-1e99").whole(), -(i64::MAX as f64));
        assert_eq!(read("1e-2147483648").billionths(), 1);
        assert_eq!(read("0e99").billionths(), 0);
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in
            ["", "-", ".", "1.2.3", "1 Gi", "1gi", "Gi", "1e", "1ee3", "0x10", "1K", "é", "--1", "1Gi "]
        {
            assert_eq!(text.parse::<Amount>(), Err(AmountError), "{text}");
        }
    }

    #[test]
    fn json_may_have_a_string_or_a_number() {
        let read = |json: &str| serde_json::from_str::<Amount>(json).expect("an amount").cores();
        assert_eq!([read("\"250m\""), read("2"), read("-1"), read("0.5")], [0.25, 2.0, -1.0, 0.5]);
    }
}
