//! The last document of a chain, written down where whoever may write to the topic cannot reach.

use std::fmt;
use std::str::FromStr;

use super::HIGHEST;
use super::links::{Hash, hash_of};

/// Which document it is and its hash, as `chain:number:hash`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Name of the chain.
    pub(super) chain: String,
    /// The document's number in it.
    pub(super) number: u64,
    /// Its hash.
    pub(super) hash: Hash,
}

impl FromStr for Head {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.rsplitn(3, ':').collect();
        let [hash, number, chain] = parts.as_slice() else {
            return Err("write chain:number:hash, as `audit.chains[].head` in --json has it".to_owned());
        };
        let number = number.parse().ok().filter(|number| *number < HIGHEST);
        Ok(Head {
            chain: (*chain).to_owned(),
            number: number.ok_or("the number between the colons is none of a document")?,
            hash: hash_of(hash).ok_or("what is behind the last colon is no SHA-256 in hexadecimal digits")?,
        })
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.chain, self.number)?;
        self.hash.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
