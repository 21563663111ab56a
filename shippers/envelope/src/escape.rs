//! JSON string escaping, 32 bytes at a look.
//!
//! Most bytes of most logs need no escape, so the work is to find those that do. A block of 32 bytes becomes a
//! bit mask of the bytes that JSON wants escaped; a zero mask costs a few instructions, and what lies between
//! two set bits is copied as a whole. Bytes beyond ASCII are noticed on the way, and only then is UTF-8 checked.

use std::ptr;

const BLOCK: usize = 32;

/// Appends `text` to `out` as the inside of a JSON string. Returns false when it is not valid UTF-8: then each
/// invalid sequence has become U+FFFD.
pub(crate) fn escape(out: &mut Vec<u8>, text: &[u8]) -> bool {
    let start = out.len();
    let ascii = escape_bytes(out, text);
    if ascii || simdutf8::basic::from_utf8(text).is_ok() {
        return true;
    }
    out.truncate(start);
    escape_bytes(out, String::from_utf8_lossy(text).as_bytes());
    false
}

/// Escapes without a look at the encoding; returns whether all bytes are ASCII.
fn escape_bytes(out: &mut Vec<u8>, text: &[u8]) -> bool {
    out.reserve(text.len() + BLOCK);
    let mut high = 0;
    let mut copied = 0;
    let (blocks, rest) = text.as_chunks::<BLOCK>();
    for (index, block) in blocks.iter().enumerate() {
        let (mask, above) = special(block);
        high |= above;
        if mask != 0 {
            copied = escape_block(out, text, copied, index * BLOCK, mask);
        }
    }
    if !rest.is_empty() {
        let mut padded = [b' '; BLOCK];
        padded[..rest.len()].copy_from_slice(rest);
        let (mask, above) = special(&padded);
        high |= above;
        copied = escape_block(out, text, copied, blocks.len() * BLOCK, mask);
    }
    out.extend_from_slice(&text[copied..]);
    high == 0
}

/// Writes what precedes each byte set in `mask` and its escape; returns up to where `text` has been written.
fn escape_block(out: &mut Vec<u8>, text: &[u8], mut copied: usize, base: usize, mut mask: u32) -> usize {
    if text.len() >= base + 2 * BLOCK {
        out.extend_from_slice(&text[copied..base]);
        escape_crowded(out, &text[base..], mask);
        return base + BLOCK;
    }
    while mask != 0 {
        let at = base + mask.trailing_zeros() as usize;
        mask &= mask - 1;
        out.extend_from_slice(&text[copied..at]);
        let escape = &ESCAPES[usize::from(text[at] & 0x7f)];
        out.extend_from_slice(&escape[..usize::from(escape[7])]);
        copied = at + 1;
    }
    copied
}

/// Writes the first block of `text`, whose special bytes are set in `mask`. Lines that are JSON themselves have a
/// quote every few bytes: for runs that short a copy of a fixed length is several times as fast as one of the right
/// length, so each run is copied with whatever follows it and then overwritten.
fn escape_crowded(out: &mut Vec<u8>, text: &[u8], mut mask: u32) {
    const LONGEST: usize = 6;
    assert!(text.len() >= 2 * BLOCK, "copies read a block from anywhere in the first");
    out.reserve(LONGEST * BLOCK + BLOCK);
    let mut from = 0;
    // SAFETY: `from` and `at` stay within the first block, and a block can be read from there. The block's bytes become
    // at most LONGEST each, and a block more can be written, which covers what each copy writes too much. All bytes
    // up to the new length have been written.
    unsafe {
        let begin = out.as_mut_ptr().add(out.len());
        let mut end = begin;
        while mask != 0 {
            let at = mask.trailing_zeros() as usize;
            mask &= mask - 1;
            ptr::copy_nonoverlapping(text.as_ptr().add(from), end, BLOCK);
            end = end.add(at - from);
            let escape = &ESCAPES[usize::from(text[at] & 0x7f)];
            ptr::copy_nonoverlapping(escape.as_ptr(), end, escape.len());
            end = end.add(usize::from(escape[7]));
            from = at + 1;
        }
        ptr::copy_nonoverlapping(text.as_ptr().add(from), end, BLOCK);
        end = end.add(BLOCK - from);
        out.set_len(out.len() + end.offset_from_unsigned(begin));
    }
}

/// The escape of each ASCII byte that needs one, and in the last place its length.
static ESCAPES: [[u8; 8]; 128] = escapes();

const fn escapes() -> [[u8; 8]; 128] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut escapes = [[0; 8]; 128];
    let mut byte = 0;
    while byte < 128 {
        let short = match byte as u8 {
            b'"' => b'"',
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\t' => b't',
            b'\r' => b'r',
            0x08 => b'b',
            0x0c => b'f',
            _ => 0,
        };
        escapes[byte] = if short == 0 {
            [b'\\', b'u', b'0', b'0', HEX[byte >> 4], HEX[byte & 15], 0, 6]
        } else {
            [b'\\', short, 0, 0, 0, 0, 0, 2]
        };
        byte += 1;
    }
    escapes
}

/// One bit per byte: those that need an escape, and those beyond ASCII.
#[cfg(target_arch = "x86_64")]
fn special(block: &[u8; BLOCK]) -> (u32, u32) {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128,
        _mm_set1_epi8,
    };

    let half = |offset: usize| -> (u32, u32) {
        // SAFETY: SSE2 is part of x86_64, and the callers' offsets leave 16 bytes inside the block; the load
        // needs no alignment.
        unsafe {
            let bytes = _mm_loadu_si128(block.as_ptr().add(offset).cast::<__m128i>());
            let control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
            let quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'"'.cast_signed()));
            let slash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\'.cast_signed()));
            let special = _mm_or_si128(control, _mm_or_si128(quote, slash));
            (_mm_movemask_epi8(special).cast_unsigned(), _mm_movemask_epi8(bytes).cast_unsigned())
        }
    };
    let (low, low_high) = half(0);
    let (up, up_high) = half(16);
    (low | up << 16, low_high | up_high << 16)
}

/// One bit per byte: those that need an escape, and those beyond ASCII.
#[cfg(not(target_arch = "x86_64"))]
fn special(block: &[u8; BLOCK]) -> (u32, u32) {
    special_portable(block)
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn special_portable(block: &[u8; BLOCK]) -> (u32, u32) {
    // A first pass without branches, which the compiler turns into vector instructions: most blocks end here.
    let mut any = false;
    let mut all = 0;
    for &byte in block {
        any |= needs_escape(byte);
        all |= byte;
    }
    let high = if all >= 0x80 { bits(block, |b| b >= 0x80) } else { 0 };
    (if any { bits(block, needs_escape) } else { 0 }, high)
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn bits(block: &[u8; BLOCK], wanted: impl Fn(u8) -> bool) -> u32 {
    block.iter().enumerate().fold(0, |mask, (index, &byte)| mask | u32::from(wanted(byte)) << index)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaped(text: &[u8]) -> (Vec<u8>, bool) {
        let mut out = b"\"".to_vec();
        let valid = escape(&mut out, text);
        out.push(b'"');
        (out, valid)
    }

    #[test]
    fn every_byte_at_every_place_of_a_block_is_escaped_as_serde_json_escapes_it() {
        for byte in 0..0x80_u8 {
            for place in 0..110 {
                let mut text = vec![b'x'; 110];
                text[place] = byte;
                let expected = serde_json::to_vec(std::str::from_utf8(&text).expect("ascii")).expect("json");
                assert_eq!(escaped(&text), (expected, true), "byte {byte:#x} at {place}");
            }
        }
    }

    #[test]
    fn invalid_sequences_become_replacement_characters() {
        let (out, valid) = escaped(b"a\xff\"b\xe2\x82");
        assert!(!valid);
        assert_eq!(out, "\"a\u{fffd}\\\"b\u{fffd}\"".as_bytes());
    }

    proptest! {
        #[test]
        fn any_bytes_come_back_from_serde_json(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let (out, valid) = escaped(&text);
            let back: String = serde_json::from_slice(&out).expect("json");
            prop_assert_eq!(&back, &String::from_utf8_lossy(&text));
            prop_assert_eq!(valid, std::str::from_utf8(&text).is_ok());
        }

        #[test]
        fn crowds_of_special_bytes_are_written_as_serde_json_writes_them(
            text in prop::collection::vec(prop::sample::select(b"ab\"\\\n\t\x01\x1f{}".to_vec()), 0..300),
        ) {
            let (out, valid) = escaped(&text);
            prop_assert!(valid);
            let text = String::from_utf8(text).expect("ascii");
            prop_assert_eq!(out, serde_json::to_vec(&text).expect("json"));
        }

        #[test]
        fn valid_text_is_written_as_serde_json_writes_it(text in "\\PC{0,100}[\"\\\\\n\t]{0,3}\\PC{0,60}") {
            let (out, valid) = escaped(text.as_bytes());
            prop_assert!(valid);
            prop_assert_eq!(out, serde_json::to_vec(&text).expect("json"));
        }

        #[test]
        fn the_vector_and_the_portable_mask_agree(block in any::<[u8; 32]>()) {
            prop_assert_eq!(special(&block), special_portable(&block));
        }
    }
}
