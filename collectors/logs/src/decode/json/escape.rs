//! Escapes in JSON strings. A lone surrogate becomes U+FFFD, as the standard library and browsers do it.

/// What `\` and a byte stand for, by that byte; 0 where that is no escape, or `\u`.
const SIMPLE: [u8; 256] = {
    let mut table = [0; 256];
    table[b'n' as usize] = b'\n';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table[b'/' as usize] = b'/';
    table[b't' as usize] = b'\t';
    table[b'r' as usize] = b'\r';
    table[b'b' as usize] = 0x08;
    table[b'f' as usize] = 0x0c;
    table
};

/// The byte that `\` and `kind` stand for; `None` for `\u` and for what is no escape.
#[inline]
pub(super) fn simple(kind: u8) -> Option<u8> {
    Some(SIMPLE[usize::from(kind)]).filter(|byte| *byte != 0)
}

/// The value of a hexadecimal digit.
#[inline]
pub(super) fn hex(digit: u8) -> Option<u16> {
    char::from(digit).to_digit(16).and_then(|value| u16::try_from(value).ok())
}

/// The character of one or two UTF-16 units, if they are one.
pub(super) fn character(first: u16, second: Option<u16>) -> char {
    let units = std::iter::once(first).chain(second);
    char::decode_utf16(units).next().and_then(Result::ok).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// Whether a UTF-16 unit is the first of a pair.
pub(super) fn is_high(unit: u16) -> bool {
    (0xd800..0xdc00).contains(&unit)
}

/// Whether a UTF-16 unit is the second of a pair.
pub(super) fn is_low(unit: u16) -> bool {
    (0xdc00..0xe000).contains(&unit)
}

/// Unescapes the string that `text` begins with (behind its opening quote) into `out`, which is made longer when it
/// has to be and never shorter. Returns where the closing quote is, and how much of `out` is filled. `None` when an
/// escape is not valid or the string does not end.
pub(super) fn unescape(text: &[u8], out: &mut Vec<u8>) -> Option<(usize, usize)> {
    if out.len() < text.len() + WORD {
        out.resize(text.len() + WORD, 0);
    }
    let (mut read, mut write) = (0, 0);
    loop {
        let run = copy_run(&text[read..], &mut out[write..])?;
        read += run;
        write += run;
        if text[read] == b'"' {
            return Some((read, write));
        }
        let byte = SIMPLE[usize::from(*text.get(read + 1)?)];
        if byte != 0 {
            out[write] = byte;
            read += 2;
            write += 1;
        } else {
            let (character, length) = unicode(&text[read..])?;
            write += character.encode_utf8(&mut out[write..]).len();
            read += length;
        }
    }
}

const WORD: usize = 8;

/// Copies bytes up to the next quote or backslash, and perhaps some behind it; returns how many lie before it.
/// Escapes mostly lie close together, so words are quicker than a search and a copy.
#[inline]
fn copy_run(text: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut at = 0;
    while let (Some(word), Some(free)) =
        (text[at..].first_chunk::<WORD>(), out[at..].first_chunk_mut::<WORD>())
    {
        *free = *word;
        let marks = equal(*word, b'"') | equal(*word, b'\\');
        if marks != 0 {
            return Some(at + (marks.trailing_zeros() / 8) as usize);
        }
        at += WORD;
    }
    let rest = text[at..].iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
    out[at..at + rest].copy_from_slice(&text[at..at + rest]);
    Some(at + rest)
}

/// The high bit of each byte that equals `byte`, right up to and including the first one.
#[inline]
fn equal(word: [u8; 8], byte: u8) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let differing = u64::from_le_bytes(word) ^ (ONES * u64::from(byte));
    differing.wrapping_sub(ONES) & !differing & (ONES << 7)
}

/// The character of the `\uXXXX` that `text` begins with, or of the pair, and the bytes it takes.
fn unicode(text: &[u8]) -> Option<(char, usize)> {
    let first = unit(text)?;
    let second = text.get(6..).and_then(unit).filter(|second| is_high(first) && is_low(*second));
    Some((character(first, second), if second.is_some() { 12 } else { 6 }))
}

/// The value of `\uXXXX`.
fn unit(text: &[u8]) -> Option<u16> {
    let [b'\\', b'u', digits @ ..] = text.first_chunk::<6>()? else { return None };
    digits.iter().try_fold(0, |value, digit| Some(value << 4 | hex(*digit)?))
}
