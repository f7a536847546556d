//! libusb's hotplug: a thread of its own, which libusb needs to call back from.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use rusb::{Context, Device, HotplugBuilder, Registration, UsbContext};
use tokio::sync::watch;

/// Tells that USB devices arrived or left. The thread ends when this is dropped.
#[derive(Debug)]
pub(super) struct Arrivals {
    changed: watch::Receiver<()>,
    context: Context,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Arrivals {
    pub(super) fn open() -> rusb::Result<Self> {
        let context = Context::new()?;
        let (sender, changed) = watch::channel(());
        let registration = HotplugBuilder::new().enumerate(false).register(&context, Box::new(Bell(sender)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (context, stop) = (context.clone(), Arc::clone(&stop));
            thread::Builder::new()
                .name("usb-hotplug".to_owned())
                .spawn(move || handle_events(&context, &stop, registration))
                .map_err(|_| rusb::Error::NoMem)?
        };
        Ok(Self { changed, context, stop, thread: Some(thread) })
    }

    /// Waits for the next arrivals or departures; `None` when libusb has ended.
    pub(super) async fn next(&mut self) -> Option<()> {
        self.changed.changed().await.ok()
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.context.interrupt_handle_events();
        if let Some(thread) = self.thread.take() {
            // The thread has nothing to tell any more: that it panicked was printed when it did.
            _ = thread.join();
        }
    }
}

/// Rings for whatever happens on USB. A watch keeps one ring for any number of them, so nothing queues up.
struct Bell(watch::Sender<()>);

impl rusb::Hotplug<Context> for Bell {
    fn device_arrived(&mut self, _: Device<Context>) {
        self.0.send_replace(());
    }

    fn device_left(&mut self, _: Device<Context>) {
        self.0.send_replace(());
    }
}

/// Runs until told to stop. The registration ends with it, and with the registration the channel.
fn handle_events(context: &Context, stop: &AtomicBool, _registration: Registration<Context>) {
    while !stop.load(Ordering::Acquire) {
        match context.handle_events(None) {
            Ok(()) | Err(rusb::Error::Interrupted) => {}
            Err(error) => {
                tracing::warn!(%error, "libusb's hotplug ended");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the kernel has no USB, libusb does not open: that is an error value and no crash.
    #[test]
    fn its_thread_ends_with_it() {
        match Arrivals::open() {
            Ok(arrivals) => drop(arrivals),
            Err(error) => assert!(!std::path::Path::new("/dev/bus/usb").exists(), "{error}"),
        }
    }
}
