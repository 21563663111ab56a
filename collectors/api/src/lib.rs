//! The API server of a Kubernetes cluster: asked, listed and watched.
//!
//! The only place that knows `kube`, and of it only what finds the server and proves who we are: kubeconfigs, service
//! accounts, TLS. Listing and watching are our own, because what is promised of them is more than its watcher gives:
//!
//! - [`follow`] tells its [`Listener`] every object once it is listed and every change after that, in the server's
//!   order, for as long as it runs. It goes on from the version it has reached; when the server has forgotten that
//!   version (410) it lists again and says so, so that the listener can tell what went meanwhile.
//! - It survives a server that is away, that refuses (429 with `Retry-After`, 401 while a token is rotated), and a
//!   connection that has died without a word. What it cannot do for now it says in its [`Health`], with the remedy.
//! - Who asks at the same time as thousands of others spreads: every pause has a random part.
//! - Kubelet can be asked in the same way for what it has ([`Server::open_kubelet`], [`list`]).
//! - A line or a page that is longer than anything Kubernetes stores is an error, never memory.

mod config;
mod error;
mod follow;
mod health;
mod lines;
mod list;
mod objects;
mod pause;
mod server;

pub use config::{ApiConfig, KubeletConfig, Wanted};
pub use error::{ApiError, ErrorKind};
pub use follow::{Listener, Resource, follow};
pub use health::Health;
pub use list::{list, pages};
pub use objects::Change;
pub use pause::Pause;
pub use server::{Counters, Server};
