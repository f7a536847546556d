//! One connection to the adb server: it serves one request, or a stream of lists.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::wire::{self, WireError};

/// Most that is read of what a phone prints.
const MAX_OUTPUT: u64 = 64 << 10;

/// An adb server, and how long it may take for each answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) deadline: Duration,
}

impl Server {
    /// Opens a connection and asks for a service, which the server accepts.
    pub(super) async fn open(self, service: &str) -> Result<Connection, WireError> {
        self.in_time(self.opened(service)).await
    }

    /// Asks for a service that answers with one text.
    pub(super) async fn call(self, service: &str) -> Result<String, WireError> {
        self.in_time(async { self.opened(service).await?.next(wire::take_block).await }).await
    }

    /// Asks one phone to run a shell command, and returns what it prints.
    pub(super) async fn shell(self, transport: &str, command: &str) -> Result<String, WireError> {
        let run = async {
            let mut connection = self.opened(transport).await?;
            connection.ask(&format!("shell:{command}")).await?;
            connection.rest().await
        };
        self.in_time(run).await
    }

    async fn opened(self, service: &str) -> Result<Connection, WireError> {
        let stream = TcpStream::connect(self.address).await.map_err(WireError::Io)?;
        stream.set_nodelay(true).map_err(WireError::Io)?;
        let mut connection = Connection { stream, input: Vec::new(), begun: None, deadline: self.deadline };
        connection.ask(service).await?;
        Ok(connection)
    }

    async fn in_time<T>(self, work: impl Future<Output = Result<T, WireError>>) -> Result<T, WireError> {
        timeout(self.deadline, work).await.unwrap_or(Err(WireError::Late(self.deadline)))
    }
}

/// A connection with what has come and is not yet taken, so that a wait can be given up and begun again.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    /// When the first byte of an answer came that is not yet whole.
    begun: Option<Instant>,
    deadline: Duration,
}

impl Connection {
    /// The next list, whenever it comes; what has begun has to be whole within the deadline.
    pub(super) async fn next_list(&mut self) -> Result<String, WireError> {
        self.next(wire::take_block).await
    }

    async fn ask(&mut self, service: &str) -> Result<(), WireError> {
        self.stream.write_all(&wire::request(service)).await.map_err(WireError::Io)?;
        self.next(wire::take_status).await
    }

    async fn next<T>(&mut self, take: impl Fn(&mut Vec<u8>) -> Result<Option<T>, WireError>) -> Result<T, WireError> {
        loop {
            if let Some(taken) = take(&mut self.input)? {
                self.begun = None;
                return Ok(taken);
            }
            if self.read().await? == 0 {
                return Err(WireError::Cut);
            }
        }
    }

    async fn read(&mut self) -> Result<usize, WireError> {
        if !self.input.is_empty() && self.begun.is_none() {
            self.begun = Some(Instant::now());
        }
        let read = self.stream.read_buf(&mut self.input);
        match self.begun {
            None => read.await.map_err(WireError::Io),
            Some(begun) => match timeout_at(begun + self.deadline, read).await {
                Ok(read) => read.map_err(WireError::Io),
                Err(_) => Err(WireError::Late(self.deadline)),
            },
        }
    }

    /// Everything up to the end, or as much of it as anybody should print.
    async fn rest(mut self) -> Result<String, WireError> {
        (&mut self.stream).take(MAX_OUTPUT).read_to_end(&mut self.input).await.map_err(WireError::Io)?;
        Ok(String::from_utf8_lossy(&self.input).into_owned())
    }
}
