//! The EC2 Query protocol's request body.

use super::sigv4::encode;

pub const CONTENT_TYPE: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// `text` as it stands in a body: all but RFC 3986's unreserved characters
/// percent-encoded (a space is `%20`).
pub fn form_encode(text: &str) -> String {
    encode(text, b"")
}

/// `Action=..&Version=..&..` as `application/x-www-form-urlencoded`. EC2 takes
/// parameters in any order; they are kept as given.
pub fn body(action: &str, version: &str, params: &[(String, String)]) -> String {
    let mut out = format!("Action={}&Version={}", form_encode(action), form_encode(version));
    for (name, value) in params {
        out.push('&');
        out.push_str(&form_encode(name));
        out.push('=');
        out.push_str(&form_encode(value));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_all_but_unreserved() {
        let params = [
            ("Filter.1.Name".to_string(), "tag:autoscaler:cluster".to_string()),
            ("UserData".to_string(), "a+b/c==".to_string()),
            ("X".to_string(), "é &~-._".to_string()),
        ];
        assert_eq!(
            body("DescribeInstances", "2016-11-15", &params),
            "Action=DescribeInstances&Version=2016-11-15&Filter.1.Name=tag%3Aautoscaler%3Acluster\
             &UserData=a%2Bb%2Fc%3D%3D&X=%C3%A9%20%26~-._"
        );
    }
}
