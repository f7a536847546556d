//! Follows the objects of a cluster.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use kube::Api;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_api};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::folder::{self, Folder};
use super::kind::Kind;
use super::kubernetes;

/// File systems of other machines tell nothing of their changes: this often the folder is read all the same.
const FULL_PASS: Duration = Duration::from_secs(10);

/// What happened.
#[derive(Debug)]
pub enum Change<K> {
    /// These are all that there are.
    All(Vec<K>),
    /// One is new or changed.
    Applied(Box<K>),
    /// The one of this key is gone.
    Gone(String),
    /// The cluster cannot be seen at the moment; what was seen last may be old.
    Trouble(anyhow::Error),
}

/// The changes of a cluster, beginning with [`Change::All`].
pub enum Watch<K> {
    /// Of a folder.
    Folder(FolderWatch),
    /// Of an API server.
    Kubernetes(KubernetesWatch<K>),
}

impl<K: Kind> Watch<K> {
    /// Waits for the next change. An error before the first [`Change::All`] is one of the command.
    pub async fn next(&mut self) -> anyhow::Result<Change<K>> {
        match self {
            Self::Folder(watch) => watch.next().await,
            Self::Kubernetes(watch) => watch.next().await,
        }
    }
}

/// Reads a folder again whenever the kernel says that something in it changed.
pub struct FolderWatch {
    changes: FolderChanges,
    folder: Folder,
    started: bool,
}

impl FolderWatch {
    /// Begins to follow the objects of a kind.
    pub fn open<K: Kind>(folder: Folder) -> Result<Self, folder::Error> {
        let changes = FolderChanges::open(folder.clone(), Folder::folders::<K>)?;
        Ok(Self { changes, folder, started: false })
    }

    async fn next<K: Kind>(&mut self) -> anyhow::Result<Change<K>> {
        if self.started {
            self.changes.next().await?;
        }
        match self.folder.list() {
            Ok(objects) => {
                self.started = true;
                Ok(Change::All(objects))
            }
            Err(error) if self.started => Ok(Change::Trouble(error.into())),
            Err(error) => Err(error.into()),
        }
    }
}

/// Tells that something in a folder changed.
pub struct FolderChanges {
    folder: Folder,
    /// The folders that matter; more may come.
    folders: fn(&Folder) -> Vec<PathBuf>,
    inotify: Inotify,
    /// The same descriptor, as the runtime waits for it.
    readiness: AsyncFd<OwnedFd>,
    watched: HashSet<PathBuf>,
}

impl FolderChanges {
    /// What is read after this is not missed.
    pub fn open(folder: Folder, folders: fn(&Folder) -> Vec<PathBuf>) -> Result<Self, folder::Error> {
        let open = || {
            let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
            let readiness = readable(inotify.as_fd().try_clone_to_owned()?)?;
            Ok((inotify, readiness))
        };
        let (inotify, readiness) = open().map_err(|source| folder.failed_to("watch", source))?;
        let mut changes = Self { folder, folders, inotify, readiness, watched: HashSet::new() };
        changes.watch_folders()?;
        Ok(changes)
    }

    /// Returns when something changed, and now and then.
    pub async fn next(&mut self) -> Result<(), folder::Error> {
        let read = async {
            loop {
                let mut ready = self.readiness.readable().await?;
                match ready.try_io(|_| Ok(self.inotify.read_events()?)) {
                    Ok(Ok(events)) if !events.iter().any(matters) => {}
                    Ok(events) => return events.map(drop),
                    Err(_would_block) => {}
                }
            }
        };
        let read: io::Result<()> = tokio::time::timeout(FULL_PASS, read).await.unwrap_or(Ok(()));
        read.map_err(|source| self.folder.failed_to("watch", source))?;
        // Before the folder is read, so that nothing falls between the two.
        self.watch_folders()
    }

    /// The folder of a kind is made with the first object of it.
    fn watch_folders(&mut self) -> Result<(), folder::Error> {
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE;
        for path in (self.folders)(&self.folder) {
            if path.is_dir() && !self.watched.contains(&path) {
                let added = self.inotify.add_watch(&path, flags);
                added.map_err(|errno| self.folder.failed_to("watch", errno.into()))?;
                self.watched.insert(path);
            }
        }
        Ok(())
    }
}

/// Drafts, and the lock that every writer takes, are no changes of the cluster.
fn matters(event: &InotifyEvent) -> bool {
    event.name.as_ref().and_then(|name| name.to_str()).is_none_or(|name| !name.starts_with('.'))
}

/// The descriptor is owned and stays open for as long as it is registered, which is what the safe constructors cannot ask for.
#[expect(
    deprecated,
    reason = "the constructor that replaces it is unsafe for descriptors that may be closed meanwhile"
)]
fn readable(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(descriptor, Interest::READABLE)
}

/// Lists objects at an API server, then watches them.
pub struct KubernetesWatch<K> {
    events: BoxStream<'static, watcher::Result<Event<K>>>,
    listed: Vec<K>,
    started: bool,
}

impl<K: Kind> KubernetesWatch<K> {
    /// Begins to follow the objects of an API server; with a name, the one alone.
    pub fn open(api: Api<K>, name: Option<&str>) -> Self {
        let config = watcher::Config::default();
        let config = match name {
            Some(name) => config.fields(&format!("metadata.name={name}")),
            None => config,
        };
        let events = watch_api(api, config).default_backoff().boxed();
        Self { events, listed: Vec::new(), started: false }
    }

    async fn next(&mut self) -> anyhow::Result<Change<K>> {
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
                None => anyhow::bail!("the watch of the cluster ended"),
            }
        }
    }

    fn take(&mut self, event: Event<K>) -> Option<Change<K>> {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(object) => self.listed.push(object),
            Event::InitDone => {
                self.started = true;
                return Some(Change::All(std::mem::take(&mut self.listed)));
            }
            Event::Apply(object) => return Some(Change::Applied(Box::new(object))),
            Event::Delete(object) => return Some(Change::Gone(object.key())),
        }
        None
    }
}
