//! Who asked for a session, as a variable in the environment of its first program says it: where an API server, an admission policy
//! or the runtime puts it there.
//!
//! Guarantee: what the container's own environment says as well is not believed, nor anything while that is not known: whoever
//! writes a pod's specification could name anybody there.

use std::collections::HashMap;

use crate::document::text;

use super::{Request, Source, User};

/// The variable, and what it is in containers' own environments.
#[derive(Debug)]
pub(crate) struct Marker {
    variable: Vec<u8>,
    /// By the kernfs id of the container's cgroup.
    own: HashMap<u64, Option<String>>,
}

impl Marker {
    pub(crate) fn new(variable: &str) -> Marker {
        Marker { variable: variable.as_bytes().to_vec(), own: HashMap::new() }
    }

    /// Whether a container's own environment is not known.
    pub(crate) fn lacks(&self, cgroup: u64) -> bool {
        !self.own.contains_key(&cgroup)
    }

    /// What a container's own environment is.
    pub(crate) fn learn(&mut self, cgroup: u64, environment: &[u8]) {
        let value = self.value(environment);
        self.own.insert(cgroup, value);
    }

    /// A container is gone.
    pub(crate) fn forget(&mut self, cgroup: u64) {
        self.own.remove(&cgroup);
    }

    /// Who asked for a session in this container that began `at`, if this environment says so and may be believed.
    pub(crate) fn request(&self, cgroup: u64, environment: &[u8], at: i64) -> Option<Request> {
        let name = self.value(environment)?;
        let own = self.own.get(&cgroup)?;
        let is_believed = !name.is_empty() && own.as_ref() != Some(&name);
        let user = User { name, ..User::default() };
        is_believed
            .then(|| Request { sources: vec![Source::Marker], user, at, ..Request::default() }.bounded())
    }

    fn value(&self, environment: &[u8]) -> Option<String> {
        let of = |pair: &[u8]| pair.strip_prefix(self.variable.as_slice())?.strip_prefix(b"=").map(text);
        environment.split(|byte| *byte == 0).find_map(of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_named_is_believed_unless_the_container_says_so_itself() {
        let mut marker = Marker::new("ASKED_BY");
        let who = |marker: &Marker, text: &str| {
            marker.request(7, text.as_bytes(), 3).map(|request| request.user.name)
        };
        assert_eq!(who(&marker, "ASKED_BY=ana\0"), None, "what the container's own is is not known");
        marker.learn(7, b"PATH=/bin\0ASKED_BY=eve\0");
        assert_eq!(who(&marker, "PATH=/bin\0ASKED_BY=ana"), Some("ana".to_owned()));
        for none in ["ASKED_BY=eve\0", "ASKED_BY=\0", "ASKED_BYE=ana\0", "XASKED_BY=ana\0", "ASKED_BY\0", ""]
        {
            assert_eq!(who(&marker, none), None, "{none:?}");
        }
        marker.forget(7);
        assert!(marker.lacks(7));
    }
}
