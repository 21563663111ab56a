//! Feeds files to the decoder in blocks, as the follower does, and checks what must hold whatever the content.

use taffrail_logs::decode::{Decoder, Format, Limits};
use taffrail_record::{FileId, Fragment, Record};

use crate::reference::{Expected, File, NOW};

/// Decodes whole files in blocks of the given sizes, which are repeated.
pub(crate) fn decode(format: Format, max: usize, files: &[File], sizes: &[usize]) -> Vec<Expected> {
    let mut driver =
        Driver { decoder: Decoder::new(format, Limits { max_line_bytes: max }), out: Vec::new() };
    let mut sizes = sizes.iter().copied().cycle();
    for file in files {
        driver.file(file, &mut sizes);
        driver.check_tiling(files, file);
    }
    let first = driver.decoder.pending().next().and_then(|pending| Some(pending.fragments.last()?.file));
    let (mut data, mut records) = (Vec::new(), Vec::new());
    driver.decoder.flush_parts(&mut data, i64::MAX, &mut records);
    assert_eq!(driver.decoder.pending().count(), 0);
    if let (Some(first), Some(last)) = (first, files.last()) {
        driver.collect(first, &data, records);
        driver.check_tiling(files, last);
    }
    driver.out
}

struct Driver {
    decoder: Decoder,
    out: Vec<Expected>,
}

impl Driver {
    fn file(&mut self, file: &File, sizes: &mut impl Iterator<Item = usize>) {
        let mut pauses = file.pauses.clone();
        pauses.push(file.bytes.len());
        let (mut carry, mut read) = (Vec::new(), 0);
        for pause in pauses {
            while read < pause {
                let size = sizes.next().unwrap_or(1).clamp(1, pause - read);
                let mut data = carry;
                data.extend_from_slice(&file.bytes[read..read + size]);
                read += size;
                carry = self.block(file, data, read, false);
            }
            carry = self.block(file, carry, read, true);
            assert!(carry.is_empty());
        }
    }

    /// One call; returns what it did not consume.
    fn block(&mut self, file: &File, mut data: Vec<u8>, read: usize, unfinished: bool) -> Vec<u8> {
        let (raw, base) = (data.len(), read - data.len());
        let mut records = Vec::new();
        let call = if unfinished { Decoder::decode_unfinished } else { Decoder::decode };
        let consumed = call(&mut self.decoder, &mut data, file.id, base as u64, NOW, &mut records);
        assert!(consumed <= raw);
        assert_eq!(
            data[consumed..raw],
            file.bytes[base + consumed..read],
            "what is not consumed stays as it is"
        );
        self.collect(file.id, &data, records);
        data[consumed..raw].to_vec()
    }

    fn collect(&mut self, file: FileId, data: &[u8], records: Vec<Record>) {
        for record in records {
            let extra = record.extra.as_deref().cloned().unwrap_or_default();
            assert!(
                record.extra.is_none() || extra.cut > 0 || !extra.fragments.is_empty(),
                "extra only where needed"
            );
            let mut fragments = extra.fragments;
            if let Some(last) = fragments.last() {
                assert_eq!(last.span, record.span, "the span is the last fragment's");
                assert!(fragments.len() > 1 || last.file != file);
            } else {
                fragments.push(Fragment { file, span: record.span });
            }
            self.out.push(Expected {
                body: data[record.body.start as usize..record.body.end as usize].to_vec(),
                fragments,
                time: record.time,
                stream: record.stream,
                flags: record.flags,
                cut: extra.cut,
            });
        }
    }

    /// Every byte up to the end of `current` is in exactly one fragment, delivered or pending.
    fn check_tiling(&self, files: &[File], current: &File) {
        let pending = self.decoder.pending().flat_map(|pending| {
            assert_eq!(pending.bytes, pending.fragments.iter().map(|f| f.span.len()).sum::<u64>());
            assert_eq!(
                (pending.file, pending.start),
                (pending.fragments[0].file, pending.fragments[0].span.start)
            );
            pending.fragments.to_vec()
        });
        let mut all: Vec<Fragment> =
            self.out.iter().flat_map(|record| record.fragments.clone()).chain(pending).collect();
        all.sort_unstable_by_key(|fragment| (fragment.file, fragment.span.start));
        for file in files {
            let mut at = 0;
            for fragment in all.iter().filter(|fragment| fragment.file == file.id) {
                assert_eq!(fragment.span.start, at, "bytes of {:?} twice or not at all", file.id);
                at = fragment.span.end;
            }
            assert_eq!(at, file.bytes.len() as u64);
            if file.id == current.id {
                return;
            }
        }
    }
}
