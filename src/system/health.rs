//! The health gate: does a new machine serve?

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::config::HealthCheck;

/// For connecting, and again for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks once.
///
/// # Errors
/// What kept it from being healthy.
pub fn check(host: &str, port: u16, check: &HealthCheck) -> Result<(), String> {
    let addresses = (host, port).to_socket_addrs().map_err(|e| e.to_string())?;
    let mut why = "has no address".to_string();
    for address in addresses {
        match ask(address, check) {
            Ok(()) => return Ok(()),
            Err(e) => why = e.to_string(),
        }
    }
    Err(why)
}

fn ask(address: SocketAddr, check: &HealthCheck) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    let HealthCheck::Http { path } = check else {
        return Ok(());
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: autoscaler\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    // "HTTP/1.1 200": all that counts stands at the very beginning.
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    match (&head[..7], head[9]) {
        (b"HTTP/1.", b'2' | b'3') => Ok(()),
        (b"HTTP/1.", _) => Err(io::Error::other(format!(
            "HTTP status {}",
            String::from_utf8_lossy(&head[9..])
        ))),
        _ => Err(io::Error::other("no HTTP answer")),
    }
}
