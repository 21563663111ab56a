//! The headers of raw messages: made once, lent to librdkafka for each message, and taken back at its report.
//!
//! librdkafka allocates three times for a message with one header and frees that on another thread, which costs as
//! much as all else it does for a short message. Here a list of headers stays with the place of a message in its
//! flight; the next flight writes its own head over the old one's bytes where the length is the same, as it nearly
//! always is.

use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use rdkafka::bindings as rd;
use taffrail_envelope::{Constants, ORIGIN_HEADER, RECORD_HEADER};

/// `RECORD_HEADER` as librdkafka looks for it.
const RECORD: &std::ffi::CStr = c"taffrail.record";

/// What librdkafka and malloc take for one message's list besides the header's bytes, about.
pub(crate) const PER_LIST: usize = 200;

/// The lists of one flight's messages, by index.
#[derive(Debug, Default)]
pub(crate) struct Headers {
    lists: Vec<Option<List>>,
    /// Whose `taffrail.origin` the lists have; None when they have no such header.
    origin: Option<Arc<Constants>>,
}

/// One message's headers.
#[derive(Debug)]
struct List {
    headers: NonNull<rd::rd_kafka_headers_t>,
    /// The bytes of the record's header inside of `headers`.
    head: NonNull<u8>,
    length: usize,
    state: AtomicU8,
}

/// Not with any message.
const OURS: u8 = 0;
/// A message has it until its report.
const LENT: u8 = 1;
/// librdkafka has freed it.
const FREED: u8 = 2;

// SAFETY: a list belongs to whoever has the flight; librdkafka's lists know no threads.
unsafe impl Send for List {}
// SAFETY: through a shared reference only `state` is changed, which is atomic.
unsafe impl Sync for List {}

impl Headers {
    /// Makes room for flights of `constants`; lists that have another origin are forgotten.
    pub(crate) fn begin(&mut self, constants: &Arc<Constants>) {
        let same = match &self.origin {
            None => constants.header.is_empty(),
            Some(origin) => Arc::ptr_eq(origin, constants),
        };
        if !same {
            self.lists.clear();
            self.origin = (!constants.header.is_empty()).then(|| Arc::clone(constants));
        }
    }

    /// Puts `head` into the headers of message `index`, which is not with librdkafka.
    pub(crate) fn set(&mut self, index: usize, head: &[u8]) {
        if self.lists.len() <= index {
            self.lists.resize_with(index + 1, || None);
        }
        let place = &mut self.lists[index];
        match place {
            Some(list) if list.takes(head) => list.overwrite(head),
            _ => *place = List::new(self.origin.as_ref().map(|origin| &*origin.header), head),
        }
    }

    /// The headers of message `index`, to be given to librdkafka until its report.
    pub(crate) fn lend(&self, index: usize) -> Option<NonNull<rd::rd_kafka_headers_t>> {
        let list = self.lists.get(index)?.as_ref()?;
        list.state.store(LENT, Ordering::Relaxed);
        Some(list.headers)
    }

    /// librdkafka refused message `index`, and with the message it freed the headers that it had been lent.
    pub(crate) fn refused(&self, index: usize) {
        if let Some(Some(list)) = self.lists.get(index)
            && list.state.load(Ordering::Relaxed) == LENT
        {
            list.state.store(FREED, Ordering::Relaxed);
        }
    }

    /// Lists there are.
    pub(crate) fn len(&self) -> usize {
        self.lists.len()
    }
}

impl List {
    fn new(origin: Option<&[u8]>, head: &[u8]) -> Option<Self> {
        // SAFETY: lengths are given, so nothing needs to end in NUL; names and values are copied. The value's place is
        // heap memory that librdkafka neither moves nor changes as long as the list is not changed.
        unsafe {
            let headers = NonNull::new(rd::rd_kafka_headers_new(1 + usize::from(origin.is_some())))?;
            if let Some(origin) = origin {
                add(headers, ORIGIN_HEADER, origin);
            }
            add(headers, RECORD_HEADER, head);
            let (mut value, mut length) = (ptr::null(), 0);
            rd::rd_kafka_header_get_last(headers.as_ptr(), RECORD.as_ptr(), &raw mut value, &raw mut length);
            let head = NonNull::new(value.cast_mut().cast::<u8>())?;
            Some(List { headers, head, length, state: AtomicU8::new(OURS) })
        }
    }

    fn takes(&self, head: &[u8]) -> bool {
        self.length == head.len() && self.state.load(Ordering::Relaxed) != FREED
    }

    fn overwrite(&mut self, head: &[u8]) {
        *self.state.get_mut() = OURS;
        // SAFETY: the place has `length` bytes, which is what `head` has, and nobody else looks at it: the list is not
        // lent, since its owner calls this only before a launch.
        unsafe { ptr::copy_nonoverlapping(head.as_ptr(), self.head.as_ptr(), head.len()) };
    }
}

impl Drop for List {
    fn drop(&mut self) {
        if *self.state.get_mut() != FREED {
            // SAFETY: made by rd_kafka_headers_new, and not freed before.
            unsafe { rd::rd_kafka_headers_destroy(self.headers.as_ptr()) };
        }
    }
}

/// # Safety
/// `headers` is valid.
unsafe fn add(headers: NonNull<rd::rd_kafka_headers_t>, name: &str, value: &[u8]) {
    // SAFETY: lengths are given; both are copied.
    unsafe {
        rd::rd_kafka_header_add(
            headers.as_ptr(),
            name.as_ptr().cast(),
            name.len().cast_signed(),
            value.as_ptr().cast(),
            value.len().cast_signed(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn constants() -> Arc<Constants> {
        use taffrail_envelope::{Encoded, Encoder, Encoding, EnvelopeConfig, Fields};
        use taffrail_record::{Account, Batch, FileId, Ledger, Origin, Payload, Receipt, Source};
        let source = Source { id: FileId(7), path: "/x".into(), device: 0, inode: 0 };
        let account: Arc<Account> = Ledger::new().account(Origin::default().names());
        let batch = Batch {
            payload: Payload::Line,
            origin: Arc::default(),
            source: Arc::new(source),
            data: Vec::new(),
            records: Vec::new(),
            receipt: Receipt::for_statements(Vec::new(), account),
        };
        let config = EnvelopeConfig { encoding: Encoding::Raw, fields: Fields::Full };
        let constants = Encoder::new(config).encode(&batch, &mut Encoded::default());
        batch.receipt.confirm();
        constants
    }

    fn read(headers: &Headers, index: usize) -> Vec<u8> {
        let list = headers.lists[index].as_ref().expect("list");
        let (mut value, mut length) = (ptr::null(), 0);
        // SAFETY: the list is valid, and so is what it names.
        unsafe {
            let list = list.headers.as_ptr();
            rd::rd_kafka_header_get_last(list, RECORD.as_ptr(), &raw mut value, &raw mut length);
            std::slice::from_raw_parts(value.cast(), length).to_vec()
        }
    }

    #[test]
    fn a_list_is_used_again_for_a_head_of_the_same_length_and_made_anew_for_another() {
        let mut headers = Headers::default();
        headers.set(2, b"first");
        let first = headers.lend(2).expect("list");
        assert_eq!((headers.len(), headers.lend(0), headers.lend(9)), (3, None, None));
        headers.set(2, b"other");
        assert_eq!((headers.lend(2), read(&headers, 2)), (Some(first), b"other".to_vec()));
        headers.set(2, b"a longer one");
        assert_eq!(read(&headers, 2), b"a longer one");
        assert_eq!(RECORD.to_str(), Ok(RECORD_HEADER));
    }

    #[test]
    fn lists_of_another_origin_are_not_used_again() {
        let mut headers = Headers::default();
        headers.set(0, b"x");
        let (one, two) = (constants(), constants());
        for (constants, kept) in [(&one, 0), (&one, 1), (&two, 0), (&two, 1)] {
            headers.begin(constants);
            assert_eq!(headers.len(), kept);
            headers.set(0, b"x");
        }
    }

    #[test]
    fn what_librdkafka_freed_is_neither_used_nor_freed_again() {
        let mut headers = Headers::default();
        headers.set(0, b"x");
        headers.refused(0);
        assert_eq!(headers.lists[0].as_ref().expect("list").state.load(Ordering::Relaxed), OURS);
        let lent = headers.lend(0).expect("list");
        headers.refused(0);
        // SAFETY: lent and refused: it is the other side's to free.
        unsafe { rd::rd_kafka_headers_destroy(lent.as_ptr()) };
        headers.set(0, b"y");
        assert_eq!(headers.lists[0].as_ref().expect("list").state.load(Ordering::Relaxed), OURS);
        assert_eq!(read(&headers, 0), b"y");
    }
}
