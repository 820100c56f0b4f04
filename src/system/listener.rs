//! The master's sockets: a thread that accepts, and one per connection that reads its lines.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use super::lines::{End, Lines, SILENCE};
use crate::core::lease::PeerId;
use crate::error::Error;

/// What a reader needs on its stack is a line and little else.
const READER_STACK: usize = 64 * 1024;
/// A peer that does not take a line within this time does not read at all: its socket's buffer
/// holds thousands of them.
const WRITE_TIME: Duration = Duration::from_millis(20);

/// News from the sockets.
#[derive(Debug)]
pub enum News {
    Opened(PeerId, TcpStream),
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
    let prepared = stream
        .set_write_timeout(Some(WRITE_TIME))
        .and_then(|()| stream.try_clone());
    // One that can't even be prepared is dropped, and may come again.
    let Ok(reader) = prepared else { return true };
    if !tell(News::Opened(peer, stream)) {
        return false;
    }
    let mut lines = Lines::new(reader, SILENCE);
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
    streams: HashMap<PeerId, TcpStream>,
}

impl Writers {
    pub fn opened(&mut self, peer: PeerId, stream: TcpStream) {
        self.streams.insert(peer, stream);
    }

    pub fn has(&self, peer: PeerId) -> bool {
        self.streams.contains_key(&peer)
    }

    /// Sends a line. A peer that doesn't take it is cut off, and its reader says so.
    pub fn send(&mut self, peer: PeerId, line: &str) {
        if let Some(stream) = self.streams.get_mut(&peer)
            && stream.write_all(format!("{line}\n").as_bytes()).is_err()
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
