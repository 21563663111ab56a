//! What the decoder allocates: nothing for ordinary lines, nothing between them, and no more than the limit for
//! lines of any length.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use taffrail_logs::decode::{Decoder, Format, Limits};
use taffrail_record::FileId;

/// Counts what each thread allocates, so that tests in parallel do not see each other.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // A thread that ends frees after its locals are gone; nobody measures that.
    let _ = HELD.try_with(|held| held.set(held.get() + bytes));
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + usize::from(bytes > 0)));
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: the caller keeps the contract of `dealloc`, and `pointer` came from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn held() -> isize {
    HELD.get()
}

const MAX: usize = 256 * 1024;
const BLOCK: usize = 128 * 1024;
const LIMITS: Limits = Limits { max_line_bytes: MAX };

/// Feeds `head`, 100 MB of `unit`, and a newline, block by block. Returns the most that the decoder held and the
/// longest carry it left.
fn feed_long_line(format: Format, head: &str, unit: &str) -> (isize, usize) {
    let mut source = head.bytes().chain(unit.bytes().cycle()).take(100_000_000).chain([b'\n']);
    let (mut data, mut carry, mut records) =
        (Vec::with_capacity(4 * MAX), Vec::with_capacity(4 * MAX), Vec::with_capacity(8));
    let before = held();
    let mut decoder = Decoder::new(format, LIMITS);
    let (mut base, mut most_held, mut longest_carry) = (0, 0, 0);
    loop {
        data.clear();
        data.append(&mut carry);
        let from = data.len();
        data.extend(source.by_ref().take(BLOCK));
        if data.len() == from {
            break;
        }
        let raw = data.len();
        let consumed = decoder.decode(&mut data, FileId(1), base, 0, &mut records);
        base += consumed as u64;
        carry.extend_from_slice(&data[consumed..raw]);
        most_held = most_held.max(held() - before);
        longest_carry = longest_carry.max(carry.len());
    }
    assert_eq!(records.len(), 1);
    assert!(records[0].extra.as_ref().is_some_and(|extra| extra.cut > 10_000_000));
    records.clear();
    assert_eq!(held(), before, "nothing is kept once the line is delivered");
    (most_held, longest_carry)
}

#[test]
fn a_line_of_100_mb_costs_no_more_than_the_limit() {
    const SMALL: isize = 4096;
    let max = MAX.cast_signed();
    let json = "{\"log\":\"";
    let table = [
        (Format::Plain, "", "x", max + SMALL),
        (Format::Container, "1970-01-01T00:00:01Z stdout F ", "x", max + SMALL),
        (Format::Container, "no framing at all ", "x", max + SMALL),
        // Whether it is valid shows at its end: until then the raw bytes are kept, too.
        (Format::Container, json, "x", 2 * max + SMALL),
        (Format::Container, json, "\\u0041", 2 * max + SMALL),
    ];
    for (format, head, unit, bound) in table {
        let (held, carry) = feed_long_line(format, head, unit);
        assert!(held <= bound, "{head}: held {held} bytes");
        assert!(carry <= MAX + 64 * 1024, "{head}: carried {carry} bytes");
    }
}

/// Lines of all formats; the last kind has escapes.
fn lines(kinds: usize) -> Vec<u8> {
    let line = |n: usize| {
        let text = "x".repeat(n % 200);
        match n % kinds {
            0 => format!("1970-01-01T00:00:01.{n:09}Z stdout F {text}\n"),
            1 => format!(
                "{{\"log\":\"{text}\\n\",\"stream\":\"stderr\",\"time\":\"1970-01-01T00:00:01.{n:09}Z\"}}\n"
            ),
            _ => format!(
                "{{\"log\":\"\\u003c{text}\\t\\n\",\"stream\":\"stderr\",\"time\":\"1970-01-01T00:00:01Z\"}}\n"
            ),
        }
    };
    (0..5_000).map(line).collect::<String>().into_bytes()
}

/// Allocations during one call of the decoder, all lines of which give `records`.
fn allocations(mut data: Vec<u8>, records: usize) -> usize {
    let mut found = Vec::with_capacity(records);
    data.reserve(data.len());
    let mut decoder = Decoder::new(Format::Container, LIMITS);
    let calls = CALLS.get();
    decoder.decode(&mut data, FileId(1), 0, 0, &mut found);
    assert_eq!(found.len(), records);
    CALLS.get() - calls
}

#[test]
fn ordinary_lines_cost_no_allocation() {
    assert_eq!(allocations(lines(2), 5_000), 0);
}

#[test]
fn escapes_and_parts_cost_a_few_allocations_per_block_and_none_per_line() {
    let parts = "1970-01-01T00:00:01Z stdout P abc\n1970-01-01T00:00:01Z stdout F def\n";
    for (data, records) in [(lines(3), 5_000), (parts.repeat(1_000).into_bytes(), 1_000)] {
        let allocations = allocations(data, records);
        assert!(allocations <= 8, "{allocations} allocations");
    }
}

#[test]
fn a_decoder_with_nothing_pending_is_small() {
    assert!(size_of::<Decoder>() <= 128, "{} bytes", size_of::<Decoder>());
    let (mut data, mut records) = (lines(3), Vec::new());
    data.extend(b"1970-01-01T00:00:01Z stdout P abc\n1970-01-01T00:00:01Z stdout F def\n{\"stream\":\"\",\"log\":\"\\n\"}\nx");
    let mut decoder = Decoder::new(Format::Container, LIMITS);
    decoder.decode(&mut data, FileId(1), 0, 0, &mut records);
    drop((data, records));
    let with_decoder = held();
    drop(decoder);
    assert_eq!(held(), with_decoder, "all that it has lies in itself");
}
