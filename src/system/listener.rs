//! The master's sockets: a thread that accepts, and one per connection that reads its lines.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::lines::{End, Lines, SILENCE};
use crate::core::master::lease::PeerId;
use crate::error::Error;

/// What a reader needs on its stack is a line and little else.
const READER_STACK: usize = 64 * 1024;
/// A peer that does not take a line within this time does not read at all: its socket's buffer
/// holds thousands of them.
const WRITE_TIME: Duration = Duration::from_millis(20);

/// News from the sockets.
#[derive(Debug)]
pub enum News {
    Opened(PeerId, Arc<TcpStream>),
    Line(PeerId, String),
    Closed(PeerId, End),
}

/// Listens on `address`; `tell` hears of everything, and ends a thread by returning false.
///
/// # Errors
/// I/O, named after the address.
pub fn listen(
    address: SocketAddr,
    tell: impl Fn(News) -> bool + Clone + Send + 'static,
) -> Result<(), Error> {
    let listener = TcpListener::bind(address).map_err(|e| {
        let hint = if e.kind() == io::ErrorKind::AddrInUse {
            "; does another master run here?"
        } else {
            ""
        };
        Error::io(address, format!("{e}{hint}"))
    })?;
    thread::spawn(move || {
        for peer in 1.. {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(_) => {
                    // Out of file descriptors or memory: those who are connected go first.
                    thread::sleep(Duration::from_millis(100));
                    continue;
                }
            };
            if !receive(peer, stream, tell.clone()) {
                return;
            }
        }
    });
    Ok(())
}

/// Starts the reader of one connection. False: nobody listens any more.
fn receive(peer: PeerId, stream: TcpStream, tell: impl Fn(News) -> bool + Clone + Send + 'static) -> bool {
    let _ = stream.set_nodelay(true);
    // One that can't even be prepared is dropped, and may come again.
    if stream.set_write_timeout(Some(WRITE_TIME)).is_err() {
        return true;
    }
    let stream = Arc::new(stream);
    if !tell(News::Opened(peer, Arc::clone(&stream))) {
        return false;
    }
    let mut lines = Lines::new(stream, SILENCE);
    let told = tell.clone();
    let read = move || loop {
        let (news, last) = match lines.next() {
            Ok(line) => (News::Line(peer, line), false),
            Err(end) => (News::Closed(peer, end), true),
        };
        if !told(news) || last {
            return;
        }
    };
    match thread::Builder::new().stack_size(READER_STACK).spawn(read) {
        Ok(_) => true,
        Err(_) => tell(News::Closed(peer, End::Closed)),
    }
}

/// The writing ends of all connections.
#[derive(Default)]
pub struct Writers {
    streams: HashMap<PeerId, Arc<TcpStream>>,
}

impl Writers {
    pub fn opened(&mut self, peer: PeerId, stream: Arc<TcpStream>) {
        self.streams.insert(peer, stream);
    }

    pub fn has(&self, peer: PeerId) -> bool {
        self.streams.contains_key(&peer)
    }

    /// Sends a line, or several with line feeds between them. A peer that doesn't take them is cut off, and its reader says so.
    pub fn send(&mut self, peer: PeerId, lines: &str) {
        if let Some(stream) = self.streams.get(&peer)
            && !write_in_time(stream, format!("{lines}\n").as_bytes())
        {
            self.close(peer);
        }
    }

    /// Ends a connection.
    pub fn close(&mut self, peer: PeerId) {
        if let Some(stream) = self.streams.remove(&peer) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// False where the peer is gone, or takes so little at a time that it would hold up the others.
fn write_in_time(mut stream: &TcpStream, mut bytes: &[u8]) -> bool {
    let deadline = Instant::now() + WRITE_TIME;
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(n) if n > 0 => bytes = &bytes[n..],
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            _ => return false,
        }
        if !bytes.is_empty() && Instant::now() >= deadline {
            return false;
        }
    }
    true
}
