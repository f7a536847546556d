//! Follows the nodes of a cluster.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use hatrack_api::ClusterNode;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_api};
use kube::{Api, ResourceExt};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::folder::{self, Folder};
use super::kubernetes;

/// File systems of other machines tell nothing of their changes: this often the folder is read all the same.
const FULL_PASS: Duration = Duration::from_secs(10);

/// What happened.
#[derive(Debug)]
pub enum Change {
    /// These are all nodes there are.
    All(Vec<ClusterNode>),
    /// A node is new or changed.
    Applied(Box<ClusterNode>),
    /// A node is gone.
    Gone(String),
    /// The cluster cannot be seen at the moment; what was seen last may be old.
    Trouble(anyhow::Error),
}

/// The changes of a cluster, beginning with [`Change::All`].
pub enum Watch {
    /// Of a folder.
    Folder(FolderWatch),
    /// Of an API server.
    Kubernetes(KubernetesWatch),
}

impl Watch {
    /// Waits for the next change. An error before the first [`Change::All`] is one of the command.
    pub async fn next(&mut self) -> anyhow::Result<Change> {
        match self {
            Self::Folder(watch) => watch.next().await,
            Self::Kubernetes(watch) => watch.next().await,
        }
    }
}

/// Reads a folder again whenever the kernel says that something in it changed.
pub struct FolderWatch {
    folder: Folder,
    inotify: Inotify,
    /// The same descriptor, as the runtime waits for it.
    readiness: AsyncFd<OwnedFd>,
    watched: HashSet<PathBuf>,
    started: bool,
}

impl FolderWatch {
    /// Begins to follow a folder.
    pub fn open(folder: Folder) -> Result<Self, folder::Error> {
        let open = || {
            let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
            let readiness = readable(inotify.as_fd().try_clone_to_owned()?)?;
            Ok((inotify, readiness))
        };
        let (inotify, readiness) = open().map_err(|source| folder.failed_to("watch", source))?;
        Ok(Self { folder, inotify, readiness, watched: HashSet::new(), started: false })
    }

    async fn next(&mut self) -> anyhow::Result<Change> {
        if self.started {
            self.changed().await?;
        }
        // Before the folder is read, so that nothing falls between the two.
        self.watch_folders()?;
        match self.folder.nodes() {
            Ok(nodes) => {
                self.started = true;
                Ok(Change::All(nodes))
            }
            Err(error) if self.started => Ok(Change::Trouble(error.into())),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns when something changed, and now and then.
    async fn changed(&mut self) -> Result<(), folder::Error> {
        let read = async {
            loop {
                let mut ready = self.readiness.readable().await?;
                match ready.try_io(|_| Ok(self.inotify.read_events()?)) {
                    Ok(events) => return events.map(drop),
                    Err(_would_block) => {}
                }
            }
        };
        let read: io::Result<()> = tokio::time::timeout(FULL_PASS, read).await.unwrap_or(Ok(()));
        read.map_err(|source| self.folder.failed_to("watch", source))
    }

    /// The folder of nodes is made with the first node.
    fn watch_folders(&mut self) -> Result<(), folder::Error> {
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE;
        for path in self.folder.folders() {
            if path.is_dir() && !self.watched.contains(&path) {
                let added = self.inotify.add_watch(&path, flags);
                added.map_err(|errno| self.folder.failed_to("watch", errno.into()))?;
                self.watched.insert(path);
            }
        }
        Ok(())
    }
}

/// The descriptor is owned and stays open for as long as it is registered, which is what the safe constructors cannot ask for.
#[expect(
    deprecated,
    reason = "the constructor that replaces it is unsafe for descriptors that may be closed meanwhile"
)]
fn readable(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(descriptor, Interest::READABLE)
}

/// Lists nodes at an API server, then watches them.
pub struct KubernetesWatch {
    events: BoxStream<'static, watcher::Result<Event<ClusterNode>>>,
    listed: Vec<ClusterNode>,
    started: bool,
}

impl KubernetesWatch {
    /// Begins to follow an API server.
    pub fn open(nodes: Api<ClusterNode>) -> Self {
        let events = watch_api(nodes, watcher::Config::default()).default_backoff().boxed();
        Self { events, listed: Vec::new(), started: false }
    }

    async fn next(&mut self) -> anyhow::Result<Change> {
        loop {
            match self.events.next().await {
                Some(Ok(event)) => {
                    if let Some(change) = self.take(event) {
                        return Ok(change);
                    }
                }
                Some(Err(error)) => {
                    let error = kubernetes::watch_failed(error);
                    return if self.started { Ok(Change::Trouble(error.into())) } else { Err(error.into()) };
                }
                None => anyhow::bail!("the watch of the nodes ended"),
            }
        }
    }

    fn take(&mut self, event: Event<ClusterNode>) -> Option<Change> {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(node) => self.listed.push(node),
            Event::InitDone => {
                self.started = true;
                return Some(Change::All(std::mem::take(&mut self.listed)));
            }
            Event::Apply(node) => return Some(Change::Applied(Box::new(node))),
            Event::Delete(node) => return Some(Change::Gone(node.name_any())),
        }
        None
    }
}
