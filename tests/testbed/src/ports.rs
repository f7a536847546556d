//! Ports that stay ours between choosing them and listening on them.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

use crate::error::{Error, Result};

/// A port of 127.0.0.1 that nobody else can take: a socket is bound to it and never listens.
/// Only sockets of the same user that set SO_REUSEPORT, as ours and those of Kubernetes' servers
/// with `--permit-port-sharing` do, can be bound beside it; while none of them listens, the
/// kernel refuses connections.
#[derive(Debug)]
pub(crate) struct Reservation {
    address: SocketAddr,
    _socket: TcpSocket,
}

impl Reservation {
    /// Reserves a port that the kernel chooses.
    pub(crate) fn new() -> Result<Self> {
        let socket = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = socket.local_addr().map_err(Error::socket("read the address of a socket"))?;
        Ok(Self { address, _socket: socket })
    }

    /// The reserved address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens on the reserved port; dropping the listener makes the kernel refuse again.
    pub(crate) fn listen(&self) -> Result<TcpListener> {
        bind(self.address)?.listen(1024).map_err(Error::socket("listen on a reserved port"))
    }
}

fn bind(address: SocketAddr) -> Result<TcpSocket> {
    let bound = || {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(true)?;
        socket.bind(address)?;
        Ok(socket)
    };
    bound().map_err(Error::socket("bind a port of 127.0.0.1"))
}
