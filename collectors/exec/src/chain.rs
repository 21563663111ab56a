//! The chain that the documents of a node are links of: each says which number it has and what the one before it was, by SHA-256
//! of that one's bytes as they are delivered.
//!
//! Guarantee: whoever has all documents of a chain can tell that none was changed, taken out or put in, but for the last ones.
//! A boot of the machine begins a new chain, since a power cut may take documents from the disk that were delivered already;
//! its first document names the last one that was on the disk, of the chain before.

use std::fmt::Write as _;

use ring::digest::{SHA256, digest};
use serde_json::{Map, Value, json};

/// The chain as far as it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    id: String,
    next: u64,
    previous: String,
    /// The end of the chain before; for the first document.
    after: Option<(String, u64)>,
}

/// A link as a document says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Which chain.
    pub id: String,
    /// Its number in it, from 0.
    pub sequence: u64,
    /// SHA-256 of the document before, in hexadecimal digits; empty for the first one of a node.
    pub previous: String,
    /// Of the first document of a chain: the chain before, and the number of its last document that was known.
    pub after: Option<(String, u64)>,
}

impl Link {
    /// What a document says of its place.
    #[must_use]
    pub fn read(document: &Value) -> Option<Link> {
        let chain = document.pointer("/audit/chain")?;
        let text = |value: &Value, name: &str| Some(value.get(name)?.as_str()?.to_owned());
        let after =
            chain.get("after").and_then(|after| Some((text(after, "id")?, after.get("sequence")?.as_u64()?)));
        Some(Link {
            id: text(chain, "id")?,
            sequence: chain.get("sequence")?.as_u64()?,
            previous: text(chain, "previous").unwrap_or_default(),
            after,
        })
    }
}

/// SHA-256 of a document, as the next one says it.
#[must_use]
pub fn hash(document: &[u8]) -> String {
    let digest = digest(&SHA256, document);
    digest.as_ref().iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Chain {
    /// Goes on after the last document, if that is of this boot; else begins a chain. `unique` makes its name one that no
    /// other chain of this boot has.
    pub(crate) fn resume(boot: &str, unique: u64, last: Option<&[u8]>) -> Chain {
        let new = Chain { id: format!("{boot}-{unique:x}"), next: 0, previous: String::new(), after: None };
        let link = |bytes: &[u8]| Link::read(&serde_json::from_slice(bytes).ok()?);
        let Some((bytes, link)) = last.and_then(|bytes| Some((bytes, link(bytes)?))) else { return new };
        let previous = hash(bytes);
        if link.id.split_once('-').is_some_and(|(of, _)| of == boot) {
            return Chain { id: link.id, next: link.sequence + 1, previous, ..new };
        }
        Chain { previous, after: Some((link.id, link.sequence)), ..new }
    }

    /// The number of the next document.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// What the next document says of its place.
    pub(crate) fn place(&self) -> Value {
        let mut place = Map::new();
        place.insert("id".to_owned(), self.id.as_str().into());
        place.insert("sequence".to_owned(), self.next.into());
        if !self.previous.is_empty() {
            place.insert("previous".to_owned(), self.previous.as_str().into());
        }
        if let Some((id, sequence)) = &self.after {
            place.insert("after".to_owned(), json!({ "id": id, "sequence": sequence }));
        }
        Value::Object(place)
    }

    /// The next document is this one.
    pub(crate) fn add(&mut self, document: &[u8]) {
        self.previous = hash(document);
        self.next += 1;
        self.after = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(chain: &Chain) -> Vec<u8> {
        json!({ "audit": { "chain": chain.place() } }).to_string().into_bytes()
    }

    fn link(bytes: &[u8]) -> Link {
        Link::read(&serde_json::from_slice(bytes).expect("JSON")).expect("a link")
    }

    #[test]
    fn each_document_names_the_one_before_also_over_lives_and_boots() {
        let mut chain = Chain::resume("a", 1, None);
        let first = document(&chain);
        assert_eq!(
            link(&first),
            Link { id: "a-1".into(), sequence: 0, previous: String::new(), after: None }
        );
        chain.add(&first);
        let second = document(&chain);
        assert_eq!((link(&second).sequence, link(&second).previous), (1, hash(&first)));
        let mut again = Chain::resume("a", 2, Some(&first));
        assert_eq!(again, chain, "what is on the disk says where it goes on");
        again.add(&second);
        let mut other = Chain::resume("b", 3, Some(&second));
        let third = document(&other);
        let expected =
            Link { id: "b-3".into(), sequence: 0, previous: hash(&second), after: Some(("a-1".into(), 1)) };
        assert_eq!(link(&third), expected);
        other.add(&third);
        assert_eq!(link(&document(&other)).after, None);
        assert_eq!(Chain::resume("c", 4, Some(b"no document")).next(), 0);
    }

    #[test]
    fn the_hash_is_sha_256() {
        assert_eq!(hash(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
