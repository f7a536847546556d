//! What the service manager hears (sd_notify(3)).

use std::sync::Arc;

use hatrack_service::manager;
use hatrack_service::pages::Pages as _;
use tokio::sync::watch;

use crate::observe::Observation;
use crate::serve::View;

/// Reports without end. The agent is ready after its first look and not after its registration: what is ordered after it must
/// not wait for a cluster.
pub async fn report(view: Arc<View>, mut observations: watch::Receiver<Option<Arc<Observation>>>) {
    if observations.wait_for(Option::is_some).await.is_err() {
        return;
    }
    manager::report(|| {
        let doubts = view.doubts();
        if doubts.is_empty() { "registered".to_owned() } else { doubts.join("; ") }
    })
    .await;
}
