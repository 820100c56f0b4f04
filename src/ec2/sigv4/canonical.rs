//! SigV4, step 1: the canonical request.

use super::{Request, sha256_hex};
use std::fmt::Write;

/// The canonical request: method, path, query, headers, names of the signed
/// headers and the body's hash, one a line.
pub fn canonical_request(request: &Request) -> String {
    format!(
        "{}\n{}\n{}\n{}\n{}\n{}",
        request.method,
        canonical_path(request.path),
        canonical_query(request.query),
        canonical_headers(request.headers),
        signed_headers(request.headers),
        sha256_hex(request.body)
    )
}

/// The names of `headers` in lower case, sorted, each once, joined by `;`.
pub fn signed_headers(headers: &[(&str, &str)]) -> String {
    let mut names: Vec<String> = headers.iter().map(|h| h.0.to_ascii_lowercase()).collect();
    names.sort();
    names.dedup();
    names.join(";")
}

/// Percent-encodes all but RFC 3986's unreserved characters and those of `keep`.
pub fn encode(text: &str, keep: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for &byte in text.as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || keep.contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Empty, `.` and `..` segments are resolved (as every service but S3 wants it), the rest is encoded once more than on the wire.
fn canonical_path(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            other => kept.push(other),
        }
    }
    let mut out = encode(&format!("/{}", kept.join("/")), b"/");
    if path.ends_with('/') && !kept.is_empty() {
        out.push('/');
    }
    out
}

fn canonical_query(query: &[(&str, &str)]) -> String {
    let mut pairs: Vec<(String, String)> = query
        .iter()
        .map(|(name, value)| (encode(name, b""), encode(value, b"")))
        .collect();
    pairs.sort();
    let pairs: Vec<String> = pairs.iter().map(|(n, v)| format!("{n}={v}")).collect();
    pairs.join("&")
}

/// One line per name, sorted; spaces squeezed; values of a repeated name joined
/// by commas in the order in which they are sent.
fn canonical_headers(headers: &[(&str, &str)]) -> String {
    let mut lines: Vec<(String, String)> = Vec::new();
    for (name, value) in headers {
        let name = name.to_ascii_lowercase();
        let value = value.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        match lines.iter_mut().find(|line| line.0 == name) {
            Some(line) => line.1 = format!("{},{value}", line.1),
            None => lines.push((name, value)),
        }
    }
    lines.sort();
    lines.iter().map(|(n, v)| format!("{n}:{v}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn get_vanilla_query_order() {
        let request = Request {
            method: "GET",
            path: "/",
            query: &[("Param2", "value2"), ("Param1", "value1")],
            headers: &[
                ("X-Amz-Date", "20150830T123600Z"),
                ("Host", "example.amazonaws.com"),
            ],
            body: b"",
        };
        let text = canonical_request(&request);
        assert_eq!(
            text,
            "GET\n/\nParam1=value1&Param2=value2\nhost:example.amazonaws.com\n\
             x-amz-date:20150830T123600Z\n\nhost;x-amz-date\n\
             e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(
            sha256_hex(text.as_bytes()),
            "816cd5b414d056048ba4f7c5386d6e0533120fb1fcfa93762cf0fc39e2cf19e0"
        );
    }

    #[test]
    fn paths() {
        for (path, canonical) in [
            ("", "/"),
            ("/", "/"),
            ("//a//", "/a/"),
            ("/./a", "/a"),
            ("/a/..", "/"),
            ("/../../a", "/a"),
            ("/a/b/../", "/a/"),
            ("/a%20b", "/a%2520b"),
            ("/ሴ", "/%E1%88%B4"),
        ] {
            assert_eq!(canonical_path(path), canonical, "{path}");
        }
    }

    #[test]
    fn queries_sort_by_encoded_name_then_value() {
        let query = [("a", "2"), ("a-b", ""), ("a", "1"), ("a=", "x y"), ("B", "/~")];
        assert_eq!(canonical_query(&query), "B=%2F~&a=1&a=2&a%3D=x%20y&a-b=");
    }

    #[test]
    fn headers_squeeze_and_join() {
        let headers = [("B", " x   y "), ("a", "2"), ("b", "1")];
        assert_eq!(canonical_headers(&headers), "a:2\nb:x y,1\n");
        assert_eq!(signed_headers(&headers), "a;b");
    }
}
