//! For tests: an adb server that does as it is told ([`server::Server`]), and phones that a real adb server can connect to
//! over TCP ([`adbd::Adbd`]), which can be started too ([`real::RealServer`]).
//!
//! ```no_run
//! # async fn test() -> std::io::Result<()> {
//! use hatrack_fake_adb::{phone::Phone, server::Server};
//!
//! let adb = Server::start().await?;
//! adb.set([Phone::on_usb("R58M123ABC", "3-1.2"), Phone::on_usb("R58M123ABD", "3-1.3").in_state("unauthorized")]);
//! println!("adb -P {} devices -l", adb.address().port());
//! # Ok(())
//! # }
//! ```

pub mod adbd;
pub mod phone;
pub mod real;
pub mod server;
