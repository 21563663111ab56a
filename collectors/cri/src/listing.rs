//! The lists of one connection put together: containers with their pods and the names of their images.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::ContainerInfo;
use crate::info::{Images, image_id, nameless_image};
use crate::messages::{Container, Sandbox, VersionResponse};
use crate::runtime::{Runtime, RuntimeError};

/// What was learned on one connection and does not change.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    images: Images,
    /// Images that the runtime did not name when it was asked last.
    unnamed: BTreeSet<String>,
    /// Images of sandboxes by the sandbox's id; empty where the runtime does not tell.
    of_sandboxes: HashMap<String, String>,
}

impl Listing {
    /// Who answers, and all containers and sandboxes by id.
    pub(crate) async fn take(
        &mut self,
        runtime: &Runtime,
    ) -> Result<(VersionResponse, BTreeMap<String, ContainerInfo>), RuntimeError> {
        let version = runtime.version().await?;
        let sandboxes = runtime.sandboxes().await?;
        let containers = runtime.containers().await?;
        self.look_up_images(runtime, &containers).await?;
        // Sandboxes of others have no image in metrics.
        if version.runtime_name == "containerd" {
            self.look_up_sandboxes(runtime, &sandboxes).await?;
        }
        let pods: HashMap<String, _> =
            sandboxes.iter().filter_map(|s| Some((s.id.clone(), s.metadata.clone()?))).collect();
        let of_container = |container: Container| {
            let pod = pods.get(&container.pod_sandbox_id);
            ContainerInfo::of_container(container, pod, &self.images)
        };
        let of_sandbox = |sandbox: Sandbox| {
            let image = self.of_sandboxes.get(&sandbox.id).cloned().unwrap_or_default();
            ContainerInfo::of_sandbox(sandbox, image)
        };
        let all = sandboxes.into_iter().map(of_sandbox).chain(containers.into_iter().map(of_container));
        Ok((version, all.map(|info| (info.id.clone(), info)).collect()))
    }

    /// Asks for the images when one is listed by id that was not asked for before.
    async fn look_up_images(
        &mut self,
        runtime: &Runtime,
        containers: &[Container],
    ) -> Result<(), RuntimeError> {
        let needed: BTreeSet<String> =
            containers.iter().filter_map(nameless_image).map(str::to_owned).collect();
        let unknown =
            |images: &Images| needed.iter().filter(|id| !images.contains_key(*id)).cloned().collect();
        let unnamed: BTreeSet<String> = unknown(&self.images);
        if !unnamed.is_subset(&self.unnamed) {
            let images = runtime.images().await?;
            let by_id = |image: crate::messages::Image| Some((image_id(&image.id)?.to_owned(), image));
            self.images = images.into_iter().filter_map(by_id).collect();
            self.unnamed = unknown(&self.images);
        }
        Ok(())
    }

    /// Asks once for the image of each sandbox.
    async fn look_up_sandboxes(
        &mut self,
        runtime: &Runtime,
        sandboxes: &[Sandbox],
    ) -> Result<(), RuntimeError> {
        let listed: BTreeSet<&str> = sandboxes.iter().map(|sandbox| &*sandbox.id).collect();
        self.of_sandboxes.retain(|id, _| listed.contains(id.as_str()));
        for id in listed {
            if !self.of_sandboxes.contains_key(id) {
                let image = match runtime.sandbox_image(id).await {
                    Ok(image) => image.unwrap_or_default(),
                    // It may be gone by now, and nothing else depends on it.
                    Err(RuntimeError::Refused { .. }) => String::new(),
                    Err(error) => return Err(error),
                };
                self.of_sandboxes.insert(id.to_owned(), image);
            }
        }
        Ok(())
    }
}
