//! Files that the last life knew and whose whole directory is gone: nobody would look for them otherwise.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use taffrail_record::{Container, Input, Node, Origin};

use crate::config::Start;
use crate::decode::Format;
use crate::find::{Naming, Target, pod_of};
use crate::follow::FileState;

/// A target for a lane of the last life, when the directory of its files no longer exists.
pub(crate) fn target_of(lane: &str, states: &[FileState], node: &Arc<Node>) -> Option<Target> {
    let path = states.iter().map(|state| state.path.as_path()).find(|path| path.is_absolute())?;
    let directory = path.parent()?;
    let missing = directory.symlink_metadata().is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound);
    missing.then(|| target(lane, directory, path, node))
}

fn target(lane: &str, directory: &Path, path: &Path, node: &Arc<Node>) -> Target {
    let base = path.file_name().unwrap_or_default().as_bytes().to_vec();
    let container = |name: &str, id: &str| {
        Some(Container { name: name.to_owned(), id: id.to_owned(), ..Container::default() })
    };
    let last = directory.file_name().unwrap_or_default().to_string_lossy();
    let (input, pod, container, naming, format) = match lane.split_once(':') {
        Some(("kubernetes", _)) => {
            let pod = directory.parent().and_then(|p| pod_of(&p.file_name()?.to_string_lossy()));
            (Input::Kubernetes, pod, container(&last, ""), Naming::Kubernetes, Format::Container)
        }
        Some(("docker", id)) => {
            let name = id.get(..12).unwrap_or(id);
            (Input::Docker, None, container(name, id), Naming::Base(base), Format::Container)
        }
        _ => (Input::File, None, None, Naming::Base(base), Format::Plain),
    };
    Target {
        key: lane.into(),
        origin: Arc::new(Origin { node: Arc::clone(node), input, pod, container }),
        format,
        directory: directory.into(),
        naming,
        within: None,
        start: Start::Beginning,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::follow::FileState;

    fn state(lane: &str, path: &str) -> (String, Vec<FileState>) {
        let decoded = FileState {
            key: Default::default(),
            generation: 0,
            id: None,
            head: Default::default(),
            from: 0,
            position: 5,
            size: 9,
            finished: false,
            lane: lane.into(),
            path: path.into(),
        };
        (lane.to_owned(), vec![decoded])
    }

    #[test]
    fn only_lanes_without_a_directory_are_orphans() {
        let here = tempfile::tempdir().expect("a directory");
        let there = here.path().join("a.log");
        let (lane, states) =
            state("kubernetes:/nonexistent/shop_cart_1/app", "/nonexistent/shop_cart_1/app/0.log");
        let orphan = target_of(&lane, &states, &Arc::default()).expect("an orphan");
        assert_eq!(orphan.origin.names(), ["shop", "cart", "app"]);
        let (lane, states) = state(&format!("file:{}", there.display()), &there.to_string_lossy());
        assert_eq!(target_of(&lane, &states, &Arc::default()), None);
    }
}
