//! Asks the adb server and follows what it says. It never starts a server and never stops one.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;

use super::{Timing, View};

/// Asks once: the list, and what the phones tell of themselves within the deadline.
pub async fn ask(_server: SocketAddr, _deadline: Duration) -> View {
    std::future::ready(View::NotAsked).await
}

/// Follows the server's list until nobody receives the views any more.
pub async fn watch(_server: SocketAddr, _timing: Timing, views: watch::Sender<View>) {
    views.closed().await;
}
