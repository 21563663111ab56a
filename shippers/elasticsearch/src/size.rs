//! How large the next request is: smaller after the engine pushed back, larger again while it takes what comes.

/// The smallest a request is made, in bytes; one document may be larger.
const SMALLEST: u64 = 16 << 10;

/// Bytes and documents of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) bytes: u64,
    pub(crate) documents: usize,
    largest: (u64, usize),
    /// Requests of so many bytes were refused for their size.
    refused: Option<u64>,
}

impl Size {
    pub(crate) fn new(bytes: u64, documents: usize) -> Self {
        Size { bytes, documents, largest: (bytes, documents), refused: None }
    }

    /// The engine has too much to do.
    pub(crate) fn busy(&mut self) {
        self.bytes = (self.bytes / 2).max(SMALLEST);
        self.documents = (self.documents / 2).max(1);
    }

    /// A request of so many bytes and documents was too large. From now on requests stay below.
    pub(crate) fn too_large(&mut self, bytes: u64, documents: usize) {
        self.refused = Some(self.refused.map_or(bytes, |known| known.min(bytes)));
        self.bytes = (bytes / 2).max(1);
        self.documents = (documents / 2).max(1);
    }

    /// A request as large as allowed was taken.
    pub(crate) fn taken(&mut self) {
        let most =
            self.refused.map_or(self.largest.0, |refused| (refused - refused / 10).min(self.largest.0));
        self.bytes = (self.bytes + self.bytes / 2 + 1).min(most.max(1));
        self.documents = (self.documents + self.documents / 2 + 1).min(self.largest.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_shrinks_while_the_engine_is_busy_and_grows_back() {
        let mut size = Size::new(5 << 20, 1000);
        for _ in 0..20 {
            size.busy();
        }
        assert_eq!((size.bytes, size.documents), (SMALLEST, 1));
        for _ in 0..40 {
            size.taken();
        }
        assert_eq!(size, Size::new(5 << 20, 1000));
    }

    #[test]
    fn it_stays_below_what_was_too_large() {
        let mut size = Size::new(5 << 20, 1000);
        size.too_large(1_000_000, 800);
        assert_eq!((size.bytes, size.documents), (500_000, 400));
        for _ in 0..40 {
            size.taken();
        }
        assert_eq!((size.bytes, size.documents), (900_000, 1000));
        size.too_large(100, 1);
        assert_eq!((size.bytes, size.documents), (50, 1));
    }
}
