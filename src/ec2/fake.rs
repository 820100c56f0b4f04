//! Servers on loopback for the tests, well-behaved and not.

use super::Env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a fake does with a request.
pub enum Reply {
    /// These bytes, then the end of the connection.
    Raw(String),
    /// A reset, before a byte is sent.
    Reset,
    /// Nothing, for two seconds.
    Hang,
    /// A body without end.
    Endless,
}

pub struct Fake {
    pub url: String,
    /// Head and body of each request.
    pub requests: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    /// Answers request number `n` (from 0) by `reply(n, request)`.
    pub fn start(reply: impl Fn(usize, &str) -> Reply + Send + Sync + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        let reply = Arc::new(reply);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (seen, reply) = (seen.clone(), reply.clone());
                std::thread::spawn(move || {
                    let Some(request) = read(&stream) else { return };
                    let mut seen = seen.lock().unwrap();
                    let number = seen.len();
                    seen.push(request.clone());
                    drop(seen);
                    answer(stream, reply(number, &request));
                });
            }
        });
        Fake { url, requests }
    }

    pub fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    pub fn request(&self, number: usize) -> String {
        self.requests.lock().unwrap()[number].clone()
    }
}

fn read(stream: &TcpStream) -> Option<String> {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        head.push_str(&line);
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(head + &String::from_utf8(body).ok()?)
}

fn answer(mut stream: TcpStream, reply: Reply) {
    match reply {
        Reply::Raw(text) => drop(stream.write_all(text.as_bytes())),
        Reply::Reset => {}
        Reply::Hang => std::thread::sleep(Duration::from_secs(2)),
        Reply::Endless => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
            while stream.write_all(b"5\r\n<!-- \r\n").is_ok() {}
        }
    }
}

/// An answer in one piece, with `headers` (`name: value\r\n`...) added.
pub fn http(status: u16, headers: &str, body: &str) -> Reply {
    let length = body.len();
    Reply::Raw(format!(
        "HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
    ))
}

/// An answer in chunks, as EC2 sends them.
pub fn chunked(status: u16, body: &str) -> Reply {
    let (first, second) = body.split_at(body.len() / 2);
    Reply::Raw(format!(
        "HTTP/1.1 {status} x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n\
         {:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n",
        first.len(),
        second.len()
    ))
}

/// EC2's error answer.
pub fn error(status: u16, code: &str) -> Reply {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>{code}</Code>\
         <Message>A message.</Message></Error></Errors><RequestID>r</RequestID></Response>"
    );
    chunked(status, &body)
}

/// RunInstances' answer.
pub fn launched(id: &str) -> String {
    format!(
        "<RunInstancesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><instancesSet>{}\
         </instancesSet></RunInstancesResponse>",
        item(id, "web")
    )
}

/// DescribeInstances' answer.
pub fn described(items: &str, next: &str) -> String {
    format!(
        "<DescribeInstancesResponse><reservationSet><item><instancesSet>{items}</instancesSet></item>\
         </reservationSet><nextToken>{next}</nextToken></DescribeInstancesResponse>"
    )
}

pub fn item(id: &str, cluster: &str) -> String {
    format!(
        "<item><instanceId>{id}</instanceId><instanceState><name>pending</name></instanceState>\
         <tagSet><item><key>autoscaler:cluster</key><value>{cluster}</value></item></tagSet></item>"
    )
}

/// An environment of these variables alone.
pub fn env(pairs: &[(&str, &str)]) -> Env {
    let pairs: Vec<(String, String)> = pairs
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    Arc::new(move |name| {
        pairs
            .iter()
            .find(|pair| pair.0 == name)
            .map(|pair| pair.1.clone())
    })
}
