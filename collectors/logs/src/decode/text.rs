//! Content of one record that arrives in pieces, of which no more than a limit is kept.

/// The first bytes of a content, and how long all of it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Text {
    kept: Vec<u8>,
    total: u64,
    last: Option<u8>,
}

impl Text {
    /// Adds a piece; keeps what fits into `max` bytes.
    pub(super) fn push(&mut self, piece: &[u8], max: usize) {
        let Some(last) = piece.last() else { return };
        let room = if self.is_cut() { 0 } else { max.saturating_sub(self.kept.len()) };
        let fits = &piece[..piece.len().min(room)];
        self.grow(fits.len(), max);
        self.kept.extend_from_slice(fits);
        self.total += piece.len() as u64;
        self.last = Some(*last);
    }

    /// Adds another text behind this one.
    pub(super) fn append(&mut self, other: &Text, max: usize) {
        self.push(&other.kept, max);
        self.total += other.total - other.kept.len() as u64;
        self.last = other.last.or(self.last);
    }

    /// Forgets everything but the memory.
    pub(super) fn clear(&mut self) {
        self.kept.clear();
        self.total = 0;
        self.last = None;
    }

    /// Takes a carriage return off the end. Says whether there was one.
    pub(super) fn strip_cr(&mut self) -> bool {
        if self.last != Some(b'\r') {
            return false;
        }
        if !self.is_cut() {
            self.kept.pop();
        }
        self.total -= 1;
        self.last = None;
        true
    }

    /// What is delivered, and how many bytes are cut off.
    pub(super) fn delivered(&self) -> (&[u8], u64) {
        let kept = if self.is_cut() { &self.kept[..whole_characters(&self.kept)] } else { &self.kept[..] };
        (kept, self.total - kept.len() as u64)
    }

    fn is_cut(&self) -> bool {
        self.total > self.kept.len() as u64
    }

    /// Doubles like a vector does, but never beyond the limit.
    fn grow(&mut self, more: usize, max: usize) {
        let needed = self.kept.len() + more;
        if needed > self.kept.capacity() {
            let target = (self.kept.capacity() * 2).clamp(needed, max.max(needed));
            self.kept.reserve_exact(target - self.kept.len());
        }
    }
}

/// How many bytes of `cut` to keep so that its end does not split a UTF-8 character. All of them when what stands
/// there is no UTF-8.
pub(super) fn whole_characters(cut: &[u8]) -> usize {
    let lead = cut.iter().rev().take(3).position(|b| b & 0xc0 != 0x80);
    let Some(lead) = lead.map(|back| cut.len() - 1 - back) else { return cut.len() };
    match std::str::from_utf8(&cut[lead..]) {
        Err(error) if error.error_len().is_none() => lead,
        _ => cut.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_backs_up_to_a_character_boundary_only_within_valid_utf8() {
        let table: [(&[u8], usize); 9] = [
            (b"", 0),
            (b"abc", 3),
            ("aä".as_bytes(), 3),
            (b"a\xc3", 1),
            (b"a\xe2\x82", 1),
            (b"a\xf0\x9f\x98", 1),
            (b"a\x80", 2),
            (b"\x80\x80\x80\x80", 4),
            (b"a\xff", 2),
        ];
        for (bytes, kept) in table {
            assert_eq!(whole_characters(bytes), kept, "{bytes:x?}");
        }
    }

    #[test]
    fn however_it_is_cut_into_pieces_the_text_is_the_same() {
        let whole = "grüße, мир, 世界 \u{1f600}\r".as_bytes();
        for max in 0..whole.len() + 2 {
            let mut expected = Text::default();
            expected.push(whole, max);
            for cut in 0..=whole.len() {
                let (mut left, mut right) = (Text::default(), Text::default());
                left.push(&whole[..cut], max);
                right.push(&whole[cut..], max);
                left.append(&right, max);
                assert_eq!(left, expected, "max {max} cut {cut}");
                assert!(left.kept.capacity() <= max.max(left.kept.len()));
            }
        }
    }

    #[test]
    fn a_carriage_return_beyond_the_limit_is_no_cut() {
        let mut text = Text::default();
        text.push(b"abc\r", 3);
        assert!(text.strip_cr());
        assert_eq!(text.delivered(), (&b"abc"[..], 0));
        assert!(!text.strip_cr());
    }
}
