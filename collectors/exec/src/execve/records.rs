//! What one record of the kernel's audit says of an execve: its serial, its fields, and the arguments that several records tell together.
//!
//! Everything here is read strictly, for a program chooses its own arguments: the kernel writes what a program chose either between quotes (then it
//! holds no space, quote or control character) or in hexadecimal digits, so a field is told by where it stands and never by what it looks like. Bytes
//! that do not fit are an error, and arguments of which a part is missing are never handed out as though they were whole.

use std::collections::BTreeMap;

/// Why a record cannot be read, or why arguments are not whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// The record does not begin with `audit(SECONDS.MILLIS:SERIAL): `.
    Head,
    /// A value that ought to be quoted or hexadecimal is neither.
    Value,
    /// The name of a field of arguments is none that the kernel writes, or it stands there twice.
    Argument,
    /// A part of the arguments is missing, or there is more than was announced.
    Missing,
    /// There are more arguments, or more bytes of them, than the kernel allows a program.
    TooLarge,
}

/// One record: the event that it belongs to, and the text of its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record<'a> {
    /// When, milliseconds since the Unix epoch.
    pub(super) time: u64,
    /// The number that all records of one event share.
    pub(super) serial: u64,
    /// What follows the head, without the NUL or newline that may end it.
    pub(super) fields: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads the head of `text`, the payload of one netlink message.
    pub(super) fn read(text: &'a [u8]) -> Result<Self, Unreadable> {
        let inside = text.strip_prefix(b"audit(").ok_or(Unreadable::Head)?;
        let end = inside.windows(2).position(|pair| pair == b"):").ok_or(Unreadable::Head)?;
        let colon = inside[..end].iter().rposition(|byte| *byte == b':').ok_or(Unreadable::Head)?;
        let serial = number(&inside[colon + 1..end]).ok_or(Unreadable::Head)?;
        let time = milliseconds(&inside[..colon]).ok_or(Unreadable::Head)?;
        Ok(Self { time, serial, fields: inside[end + 2..].trim_ascii_start().trim_end_of_record() })
    }

    /// The fields in their order: name, and value as it was written.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        self.fields.split(|byte| *byte == b' ').filter_map(|token| {
            let equals = token.iter().position(|byte| *byte == b'=')?;
            Some((&token[..equals], &token[equals + 1..]))
        })
    }

    /// The first field of that name: what a program chose stands behind what the kernel chose, and cannot come before it.
    pub(super) fn field(&self, name: &str) -> Option<&'a [u8]> {
        self.pairs().find(|(found, _)| *found == name.as_bytes()).map(|(_, value)| value)
    }

    /// The number in the field of that name.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.field(name).and_then(number)
    }

    /// The text in the field of that name, as the program chose it; none where the kernel had none to tell.
    pub(super) fn text(&self, name: &str) -> Result<Option<Vec<u8>>, Unreadable> {
        match self.field(name) {
            None | Some(b"(null)" | b"(none)") => Ok(None),
            Some(value) => chosen(value).map(Some),
        }
    }
}

trait EndOfRecord {
    fn trim_end_of_record(&self) -> &Self;
}

impl EndOfRecord for [u8] {
    fn trim_end_of_record(&self) -> &Self {
        let kept = self.iter().rposition(|byte| !matches!(byte, 0 | b'\n' | b' ')).map_or(0, |last| last + 1);
        &self[..kept]
    }
}

/// The arguments of one execve, gathered of its EXECVE records in any order.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    announced: Option<u64>,
    parts: BTreeMap<(u64, u64), Vec<u8>>,
    /// As announced, and as found: in digits where the kernel wrote digits, in bytes where it quoted.
    lengths: BTreeMap<u64, u64>,
    written: BTreeMap<u64, u64>,
    bytes: usize,
}

impl Arguments {
    /// More than Linux allows the arguments of one program to hold, in bytes (a quarter of the largest stack it lets arguments count on).
    pub(super) const LARGEST: usize = 6 << 20;

    /// Takes what one EXECVE record tells.
    pub(super) fn take(&mut self, record: &Record<'_>) -> Result<(), Unreadable> {
        record.pairs().try_for_each(|(name, value)| self.take_field(name, value))
    }

    fn take_field(&mut self, name: &[u8], value: &[u8]) -> Result<(), Unreadable> {
        if name == b"argc" {
            return set_once(&mut self.announced, number(value).ok_or(Unreadable::Value)?);
        }
        let name = name.strip_prefix(b"a").ok_or(Unreadable::Argument)?;
        if let Some(argument) = name.strip_suffix(b"_len") {
            let argument = number(argument).ok_or(Unreadable::Argument)?;
            let length = number(value).ok_or(Unreadable::Value)?;
            return self.lengths.insert(argument, length).map_or(Ok(()), |_| Err(Unreadable::Argument));
        }
        let place = place(name)?;
        let quotes = if value.starts_with(b"\"") { 2 } else { 0 };
        let part = chosen(value)?;
        *self.written.entry(place.0).or_default() += (value.len() - quotes) as u64;
        self.take_part(place, part)
    }

    fn take_part(&mut self, place: (u64, u64), part: Vec<u8>) -> Result<(), Unreadable> {
        self.bytes = self.bytes.saturating_add(part.len() + 1);
        if self.bytes > Self::LARGEST {
            return Err(Unreadable::TooLarge);
        }
        self.parts.insert(place, part).map_or(Ok(()), |_| Err(Unreadable::Argument))
    }

    /// The arguments, when each of them is there whole.
    pub(super) fn whole(self) -> Result<Vec<Vec<u8>>, Unreadable> {
        let announced = self.announced.ok_or(Unreadable::Missing)?;
        let mut whole: Vec<Vec<u8>> = Vec::new();
        let mut next = (0, 0);
        for ((argument, piece), part) in self.parts {
            if (argument, piece) == (whole.len() as u64, 0) {
                whole.push(part);
            } else if (argument, piece) == next {
                whole.last_mut().ok_or(Unreadable::Missing)?.extend(part);
            } else {
                return Err(Unreadable::Missing);
            }
            next = (argument, piece + 1);
        }
        let is_whole = |(argument, length)| self.written.get(argument) == Some(length);
        let all = whole.len() as u64 == announced && self.lengths.iter().all(is_whole);
        if all { Ok(whole) } else { Err(Unreadable::Missing) }
    }
}

fn set_once(slot: &mut Option<u64>, value: u64) -> Result<(), Unreadable> {
    slot.replace(value).map_or(Ok(()), |_| Err(Unreadable::Argument))
}

/// Which argument and which piece of it `N` or `N[M]` names.
fn place(name: &[u8]) -> Result<(u64, u64), Unreadable> {
    let Some(open) = name.iter().position(|byte| *byte == b'[') else {
        return number(name).map(|argument| (argument, 0)).ok_or(Unreadable::Argument);
    };
    let piece = name[open + 1..].strip_suffix(b"]").and_then(number);
    number(&name[..open]).zip(piece).ok_or(Unreadable::Argument)
}

/// Of `SECONDS.MILLIS`.
fn milliseconds(text: &[u8]) -> Option<u64> {
    let point = text.iter().position(|byte| *byte == b'.')?;
    number(&text[..point])?.checked_mul(1000)?.checked_add(number(&text[point + 1..])?)
}

/// Decimal digits only, of at most what fits; no sign.
fn number(digits: &[u8]) -> Option<u64> {
    let is_decimal = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    is_decimal.then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

/// What a program chose, of how the kernel wrote it: between quotes, or in hexadecimal digits.
fn chosen(value: &[u8]) -> Result<Vec<u8>, Unreadable> {
    if let Some(open) = value.strip_prefix(b"\"") {
        let inside = open.strip_suffix(b"\"").ok_or(Unreadable::Value)?;
        let plain = inside.iter().all(|byte| matches!(byte, 0x21..=0x7e) && *byte != b'"');
        return if plain { Ok(inside.to_vec()) } else { Err(Unreadable::Value) };
    }
    let (pairs, rest) = value.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Unreadable::Value);
    }
    pairs
        .iter()
        .map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?))
        .collect::<Option<_>>()
        .ok_or(Unreadable::Value)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(records: &[&str]) -> Result<Vec<Vec<u8>>, Unreadable> {
        let mut arguments = Arguments::default();
        for fields in records {
            let text = format!("audit(1700000000.123:42): {fields}\0");
            arguments.take(&Record::read(text.as_bytes())?)?;
        }
        arguments.whole()
    }

    #[test]
    fn arguments_that_look_like_fields_are_arguments() {
        let read = arguments(&[r#"argc=5 a0="true" a1="a1=b" a2="type=EXECVE" a3=612062 a4="""#]);
        assert_eq!(read.unwrap(), [&b"true"[..], b"a1=b", b"type=EXECVE", b"a b", b""]);
    }

    #[test]
    fn bytes_that_are_no_text_come_back_as_they_were() {
        assert_eq!(arguments(&["argc=1 a0=FF0A22"]).unwrap(), [b"\xff\n\""]);
    }

    #[test]
    fn an_argument_in_pieces_is_joined_in_their_order_whatever_the_order_of_the_records() {
        let pieces = [r#"a1[1]="cd" a2="e""#, r#"argc=3 a0="x" a1_len=4 a1[0]="ab""#];
        assert_eq!(arguments(&pieces).unwrap(), [&b"x"[..], b"abcd", b"e"]);
    }

    #[test]
    fn arguments_with_a_part_missing_are_not_handed_out() {
        for records in [
            &[r#"argc=2 a0="x""#][..],
            &[r#"a0="x""#],
            &[r#"argc=1 a0_len=4 a0[0]="ab""#],
            &["argc=1 a0_len=4 a0[0]=4142 a0[1]=4344"],
            &["argc=1 a0_len=8 a0[0]=4142"],
            &[r#"argc=1 a0_len=4 a0[1]="abcd""#],
            &[r#"argc=1 a0[0]="ab" a0[2]="cd""#],
            &[r#"argc=2 a0="x" a2="y""#],
        ] {
            assert_eq!(arguments(records), Err(Unreadable::Missing), "{records:?}");
        }
    }

    #[test]
    fn what_the_kernel_does_not_write_is_an_error() {
        for fields in [
            r#"argc=1 a0="x"#,
            "argc=1 a0=ABC",
            "argc=1 a0=GG",
            "argc=x",
            r#"argc=1 a0="x" a0="y""#,
            "argc=-1",
            r#"argc=1 b="x""#,
            r#"a0[="x""#,
        ] {
            assert!(arguments(&[fields]).is_err(), "{fields}");
        }
        for text in [&b""[..], b"audit(", b"audit():", b"audit(1.2:x): a", b"audit(1.2): a", b"type=EXECVE"] {
            assert_eq!(Record::read(text), Err(Unreadable::Head));
        }
    }

    #[test]
    fn fields_of_a_call_are_read() {
        let text = br#"audit(1700000000.123:7): arch=c000003e syscall=59 success=yes pid=12 auid=4294967295 tty=(none) comm="pid=9" exe="/bin/true""#;
        let record = Record::read(text).unwrap();
        assert_eq!((record.serial, record.number("pid"), record.text("tty")), (7, Some(12), Ok(None)));
        assert_eq!(record.time, 1_700_000_000_123);
        assert_eq!(record.text("exe"), Ok(Some(b"/bin/true".to_vec())));
    }
}
