//! Arbitrary bytes: no panic, every byte accounted for, and the records are the reference's.

use taffrail_logs::decode::Format;
use taffrail_record::FileId;

use crate::reference::File;
use crate::{drive, reference};

/// The first bytes say how the rest is cut and how much of a line is kept.
fn check(format: Format, prefix: &[u8], input: &[u8]) {
    let [size, limit, pause, bytes @ ..] = input else { return };
    let bytes = [prefix, bytes].concat();
    let pauses = vec![usize::from(*pause).min(bytes.len())];
    let file = File { id: FileId(3), bytes, pauses };
    let files = std::slice::from_ref(&file);
    let expected = reference::decode(format, usize::from(*limit), files);
    assert_eq!(drive::decode(format, usize::from(*limit), files, &[usize::MAX]), expected);
    assert_eq!(drive::decode(format, usize::from(*limit), files, &[usize::from(*size).max(1), 5]), expected);
}

#[test]
fn arbitrary_bytes_after_a_cri_line_keep_the_decoders_promises() {
    bolero::check!().for_each(|input: &[u8]| {
        check(
            Format::Container,
            b"2026-03-14T09:26:53.589793238Z stdout P x\n2026-03-14T09:26:53.5Z stderr F",
            input,
        );
    });
}

#[test]
fn arbitrary_bytes_in_a_json_line_keep_the_decoders_promises() {
    bolero::check!().for_each(|input: &[u8]| check(Format::Container, b"{\"log\":\"", input));
}

#[test]
fn arbitrary_bytes_keep_the_decoders_promises() {
    bolero::check!().for_each(|input: &[u8]| {
        check(Format::Container, b"", input);
        check(Format::Plain, b"", input);
    });
}
