//! Files that the last life knew and nobody would look for otherwise: their whole directory is gone, or the name that a
//! glob found them by.

use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use taffrail_record::{Container, Input, Node, Origin};

use crate::config::{FileInput, Start, glob_set};
use crate::decode::Format;
use crate::find::{Naming, Target, pod_of};
use crate::follow::FileState;

/// A target for a lane of the last life, when the directory of its files no longer exists, or its plain file. The rest of
/// a plain file may lie beside its name, rotated; `inputs` tell how its lines are written.
pub(crate) fn target_of(
    lane: &str,
    states: &[FileState],
    node: &Arc<Node>,
    inputs: &[FileInput],
) -> Option<Target> {
    let path = states.iter().map(|state| state.path.as_path()).find(|path| path.is_absolute())?;
    let directory = path.parent()?;
    let is_gone = |path: &Path| path.symlink_metadata().is_err_and(|e| e.kind() == ErrorKind::NotFound);
    if let Some(named) = lane.strip_prefix("file:").map(Path::new) {
        // What is read to its end and lies there still waits for nobody.
        let concerns = |state: &FileState| !state.finished || is_gone(&state.path);
        let orphaned = is_gone(named) && states.iter().any(concerns);
        return orphaned.then(|| plain(lane, named, node, inputs)).flatten();
    }
    is_gone(directory).then(|| container(lane, directory, path, node))
}

fn plain(lane: &str, path: &Path, node: &Arc<Node>, inputs: &[FileInput]) -> Option<Target> {
    let input = inputs.iter().find(|input| glob_set(&input.paths).is_match(path));
    Some(Target {
        key: lane.into(),
        origin: Arc::new(Origin { node: Arc::clone(node), input: Input::File, pod: None, container: None }),
        format: input.map_or(Format::Plain, |input| input.format.into()),
        directory: path.parent()?.into(),
        naming: Naming::Base(path.file_name()?.as_bytes().to_vec()),
        within: None,
        start: Start::Beginning,
    })
}

fn container(lane: &str, directory: &Path, path: &Path, node: &Arc<Node>) -> Target {
    let named = |name: &str, id: &str| {
        Some(Container { name: name.to_owned(), id: id.to_owned(), ..Container::default() })
    };
    let (input, pod, container, naming) = match lane.split_once(':') {
        Some(("docker", id)) => {
            let base = path.file_name().unwrap_or_default().as_bytes().to_vec();
            (Input::Docker, None, named(id.get(..12).unwrap_or(id), id), Naming::Base(base))
        }
        _ => {
            let pod = directory.parent().and_then(|p| pod_of(&p.file_name()?.to_string_lossy()));
            let last = directory.file_name().unwrap_or_default().to_string_lossy();
            (Input::Kubernetes, pod, named(&last, ""), Naming::Kubernetes)
        }
    };
    Target {
        key: lane.into(),
        origin: Arc::new(Origin { node: Arc::clone(node), input, pod, container }),
        format: Format::Container,
        directory: directory.into(),
        naming,
        within: None,
        start: Start::Beginning,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LineFormat;

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
    fn lanes_without_a_directory_and_plain_files_without_a_name_are_orphans() {
        let here = tempfile::tempdir().expect("a directory");
        let there = here.path().join("a.log");
        let find = |(lane, states): (String, Vec<FileState>), inputs: &[FileInput]| {
            target_of(&lane, &states, &Arc::default(), inputs)
        };
        let pod = state("kubernetes:/nonexistent/shop_cart_1/app", "/nonexistent/shop_cart_1/app/0.log");
        assert_eq!(find(pod, &[]).expect("an orphan").origin.names(), ["shop", "cart", "app"]);
        let lane = format!("file:{}", there.display());
        let rotated = || state(&lane, &format!("{}.1", there.display()));
        let cri = FileInput {
            paths: vec![format!("{}/*.log", here.path().display())],
            format: LineFormat::Container,
            ..FileInput::default()
        };
        for (inputs, format) in [(vec![], Format::Plain), (vec![cri], Format::Container)] {
            let orphan = find(rotated(), &inputs).expect("an orphan");
            assert_eq!((orphan.format, &*orphan.directory), (format, here.path()));
            assert_eq!(orphan.naming, Naming::Base(b"a.log".to_vec()), "its rotated files are its chain");
        }
        let done = || {
            let (lane, mut states) = rotated();
            states[0].finished = true;
            (lane, states)
        };
        assert!(find(done(), &[]).is_some(), "gone, it is to be forgotten");
        std::fs::File::create(here.path().join("a.log.1")).expect("a file");
        assert_eq!(find(done(), &[]), None, "read to its end, it may lie there");
        assert!(find(rotated(), &[]).is_some(), "unread, it is to be read");
        std::fs::File::create(&there).expect("a file");
        assert_eq!(find(rotated(), &[]), None, "a glob finds it");
    }
}
