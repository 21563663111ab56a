//! Escapes in JSON strings. A lone surrogate becomes U+FFFD, as the standard library and browsers do it.

/// The byte that `\` and `kind` stand for; `None` for `\u` and for what is no escape.
#[inline]
pub(super) fn simple(kind: u8) -> Option<u8> {
    Some(match kind {
        b'n' => b'\n',
        b'"' | b'\\' | b'/' => kind,
        b't' => b'\t',
        b'r' => b'\r',
        b'b' => 0x08,
        b'f' => 0x0c,
        _ => return None,
    })
}

/// The value of a hexadecimal digit.
#[inline]
pub(super) fn hex(digit: u8) -> Option<u16> {
    char::from(digit).to_digit(16).and_then(|value| u16::try_from(value).ok())
}

/// Bytes of the escape that `text` begins with; `None` when it is not valid or not complete.
#[inline]
pub(super) fn length(text: &[u8]) -> Option<usize> {
    match *text.get(1)? {
        b'u' => unit(text).map(|_| 6),
        kind => simple(kind).map(|_| 2),
    }
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

/// Unescapes `text` in place. Its escapes are valid and the first is at `first`. Returns the new length.
pub(super) fn unescape(text: &mut [u8], first: usize) -> usize {
    let (mut read, mut write) = (first, first);
    while let Some(&kind) = text.get(read + 1) {
        if let Some(byte) = simple(kind) {
            text[write] = byte;
            read += 2;
            write += 1;
        } else {
            let (character, length) = unicode(&text[read..]);
            let mut buffer = [0; 4];
            let bytes = character.encode_utf8(&mut buffer).as_bytes();
            text[write..write + bytes.len()].copy_from_slice(bytes);
            read = (read + length).min(text.len());
            write += bytes.len();
        }
        let run = memchr::memchr(b'\\', &text[read..]).unwrap_or(text.len() - read);
        text.copy_within(read..read + run, write);
        read += run;
        write += run;
    }
    write
}

/// The character of the `\uXXXX` that `text` begins with, or of the pair, and the bytes it takes.
fn unicode(text: &[u8]) -> (char, usize) {
    let first = unit(text).unwrap_or(0xfffd);
    let second = text.get(6..).and_then(unit).filter(|second| is_high(first) && is_low(*second));
    (character(first, second), if second.is_some() { 12 } else { 6 })
}

/// The value of `\uXXXX`.
fn unit(text: &[u8]) -> Option<u16> {
    let [b'\\', b'u', digits @ ..] = text.first_chunk::<6>()? else { return None };
    digits.iter().try_fold(0, |value, digit| Some(value << 4 | hex(*digit)?))
}
