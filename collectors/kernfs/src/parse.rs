//! The few shapes that the kernel's text has, taken apart in place.
//!
//! What does not have the shape gives nothing, never 0.

/// Lines without their ends; empty ones are left out.
pub fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            if rest.is_empty() {
                return None;
            }
            let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let line = &rest[..end];
            rest = rest.get(end + 1..).unwrap_or_default();
            if !line.is_empty() {
                return Some(line);
            }
        }
    })
}

/// The words of a line, however much white space is between them.
pub fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// A whole number in decimal digits.
#[must_use]
pub fn number(word: &[u8]) -> Option<u64> {
    if word.is_empty() {
        return None;
    }
    word.iter().try_fold(0_u64, |sum, digit| {
        let digit = digit.wrapping_sub(b'0');
        (digit < 10).then(|| sum.checked_mul(10)?.checked_add(digit.into()))?
    })
}

/// A whole number that may be negative.
#[must_use]
pub fn signed(word: &[u8]) -> Option<i64> {
    match word.strip_prefix(b"-") {
        Some(rest) => 0_i64.checked_sub_unsigned(number(rest)?),
        None => i64::try_from(number(word)?).ok(),
    }
}

/// A whole number in hexadecimal digits.
#[must_use]
pub fn hexadecimal(word: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(word).ok().filter(|text| !text.starts_with('+'))?, 16).ok()
}

/// A number with a fraction, as in `/proc/loadavg`.
#[must_use]
pub fn decimal(word: &[u8]) -> Option<f64> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// The one number that a file holds.
#[must_use]
pub fn only(text: &[u8]) -> Option<u64> {
    number(text.trim_ascii())
}

/// The lines of the form `key number`, such as `memory.stat`; others are passed over.
pub fn pairs(text: &[u8]) -> impl Iterator<Item = (&[u8], u64)> {
    lines(text).filter_map(|line| {
        let gap = memchr::memchr2(b' ', b'\t', line)?;
        Some((&line[..gap], number(line[gap..].trim_ascii())?))
    })
}

/// The number behind a key in `key=number key=number`, as in `io.stat` and `cpu.pressure`.
#[must_use]
pub fn assigned(line: &[u8], key: &[u8]) -> Option<u64> {
    words(line).find_map(|word| number(word.strip_prefix(key)?.strip_prefix(b"=")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_numbers_or_nothing() {
        for (word, value) in [
            ("0", Some(0)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("", None),
            ("max", None),
            ("-1", None),
            ("1 ", None),
        ] {
            assert_eq!(number(word.as_bytes()), value, "{word}");
        }
        assert_eq!(
            [signed(b"-9223372036854775808"), signed(b"7"), signed(b"--7")],
            [Some(i64::MIN), Some(7), None]
        );
        assert_eq!([hexadecimal(b"00ff"), hexadecimal(b"+1"), hexadecimal(b"g")], [Some(255), None, None]);
        assert_eq!([only(b"42\n"), only(b"\n")], [Some(42), None]);
        assert_eq!(decimal(b"0.25"), Some(0.25));
    }

    #[test]
    fn lines_words_and_pairs_come_apart() {
        assert_eq!(lines(b"a b\n\nc").collect::<Vec<_>>(), [b"a b".as_slice(), b"c"]);
        assert_eq!(words(b"  a\t b ").collect::<Vec<_>>(), [b"a", b"b"]);
        let text = b"anon 7\nfile x\nslab 9 9\nshmem\t8\n";
        assert_eq!(pairs(text).collect::<Vec<_>>(), [(b"anon".as_slice(), 7), (b"shmem", 8)]);
        let line = b"8:0 rbytes=90430464 wbytes=299008000 dios=0";
        assert_eq!([assigned(line, b"wbytes"), assigned(line, b"bytes")], [Some(299_008_000), None]);
    }
}
