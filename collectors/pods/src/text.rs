//! Strings and maps as objects of the API have them, kept small.
//!
//! A writer of the API may leave out any list, map or string, or write `null`; both mean "none" here.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use jiff::Timestamp;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// Text that is never appended to.
pub type Text = Box<str>;

/// What is missing or `null` is the type's default.
pub(crate) fn or_none<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// A message for people, cut so that nobody can fill the memory with it.
pub(crate) fn message<'de, D: Deserializer<'de>>(from: D) -> Result<Text, D::Error> {
    const LONGEST: usize = 160;
    let text: Text = or_none(from)?;
    Ok(if text.len() > LONGEST { text[..text.floor_char_boundary(LONGEST)].into() } else { text })
}

/// Unix seconds. The year 1, which Go writes for "never", is none, and so is what is no time.
pub(crate) fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
    let text = Option::<Cow<'de, str>>::deserialize(from)?;
    let time = text.and_then(|text| text.parse::<Timestamp>().ok());
    Ok(time.map(|time| time.as_nanosecond().div_euclid(1_000_000_000) as i64).filter(|s| *s > YEAR_1))
}

/// The last second of the year 1 and a bit, since 1970.
const YEAR_1: i64 = -62_100_000_000;

/// Keys and values, by key. A key appears once. All of it is one text: most keys and values are shorter than what an allocation
/// of their own would cost.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct TextMap {
    text: Text,
    /// Where each key and each value ends.
    ends: Box<[(u32, u32)]>,
}

impl TextMap {
    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = |index: usize| self.pair(index);
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            match at(middle).0.cmp(key) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Some(at(middle).1),
            }
        }
        None
    }

    /// All of them, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        (0..self.len()).map(|index| self.pair(index))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Only those whose key is `kept`.
    pub(crate) fn retain(&mut self, kept: impl Fn(&str) -> bool) {
        if !self.iter().all(|(key, _)| kept(key)) {
            *self = self.iter().filter(|(key, _)| kept(key)).collect();
        }
    }

    fn pair(&self, index: usize) -> (&str, &str) {
        let begin = index.checked_sub(1).map_or(0, |before| self.ends[before].1);
        let (middle, end) = self.ends[index];
        (&self.text[begin as usize..middle as usize], &self.text[middle as usize..end as usize])
    }
}

impl<K: AsRef<str>, V: AsRef<str>> FromIterator<(K, V)> for TextMap {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(all: I) -> Self {
        let mut all: Vec<(K, V)> = all.into_iter().collect();
        // Stable, so that the last of those with one key is the first from behind.
        all.sort_by(|a, b| a.0.as_ref().cmp(b.0.as_ref()));
        all.reverse();
        all.dedup_by(|a, b| a.0.as_ref() == b.0.as_ref());
        let (mut text, mut ends) = (String::new(), Vec::with_capacity(all.len()));
        for (key, value) in all.iter().rev() {
            text.push_str(key.as_ref());
            let middle = text.len();
            text.push_str(value.as_ref());
            // An object that is larger than 4 GB is none of an API server's.
            let (Ok(middle), Ok(end)) = (middle.try_into(), text.len().try_into()) else { break };
            ends.push((middle, end));
        }
        TextMap { text: text.into(), ends: ends.into() }
    }
}

impl fmt::Debug for TextMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<'de> Deserialize<'de> for TextMap {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = TextMap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TextMap, A::Error> {
                let mut all = Vec::new();
                while let Some((key, value)) = map.next_entry::<Text, Option<Text>>()? {
                    all.push((key, value.unwrap_or_default()));
                }
                Ok(all.into_iter().collect())
            }
        }
        from.deserialize_map(Pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_found_in_by_key_and_the_last_of_equal_keys_stays() {
        let map: TextMap =
            serde_json::from_str(r#"{"b":"1","a":null,"d":"","b":"2","é":"ü"}"#).expect("a map");
        assert_eq!(map.iter().collect::<Vec<_>>(), [("a", ""), ("b", "2"), ("d", ""), ("é", "ü")]);
        assert_eq!((map.get("b"), map.get("a"), map.get("c"), map.len()), (Some("2"), Some(""), None, 4));
    }

    #[test]
    fn what_is_not_kept_is_let_go() {
        let mut map: TextMap = [("a", "1"), ("b", "2")].into_iter().collect();
        map.retain(|key| key == "b");
        assert_eq!(map.iter().collect::<Vec<_>>(), [("b", "2")]);
    }

    #[test]
    fn times_are_whole_seconds_and_the_year_one_is_none() {
        let read = |json: &str| seconds(&mut serde_json::Deserializer::from_str(json)).expect("readable");
        assert_eq!(read(r#""1970-01-01T00:00:01.9Z""#), Some(1));
        assert_eq!(read(r#""1970-01-01T02:00:05+02:00""#), Some(5));
        for none in ["null", r#""0001-01-01T00:00:00Z""#, r#""""#, r#""yesterday""#] {
            assert_eq!(read(none), None, "{none}");
        }
    }

    #[test]
    fn a_message_is_cut_between_characters() {
        let long = serde_json::to_string(&"é".repeat(1000)).expect("text");
        let cut = message(&mut serde_json::Deserializer::from_str(&long)).expect("readable");
        assert_eq!(cut.len(), 160);
    }
}
