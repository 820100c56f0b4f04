//! Where a service answers, and how a URL splits into what SigV4 signs.

/// The AWS services spoken here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    Ec2,
    Autoscaling,
    /// Only for credentials.
    Sts,
}

impl Service {
    /// The name in host names and in the signature's scope.
    pub fn name(self) -> &'static str {
        match self {
            Service::Ec2 => "ec2",
            Service::Autoscaling => "autoscaling",
            Service::Sts => "sts",
        }
    }

    /// The `Version` of its Query API.
    pub fn version(self) -> &'static str {
        match self {
            Service::Ec2 => "2016-11-15",
            Service::Autoscaling => "2011-01-01",
            Service::Sts => "2011-06-15",
        }
    }

    /// The key of a `services` section of ~/.aws/config; in upper case, the end
    /// of the service's AWS_ENDPOINT_URL_ variable.
    pub fn config_key(self) -> &'static str {
        match self {
            Service::Ec2 => "ec2",
            Service::Autoscaling => "auto_scaling",
            Service::Sts => "sts",
        }
    }
}

/// Partitions other than `aws`: the Region's prefix, DNS suffix, dual-stack suffix
/// (AWS endpoint rule sets).
const PARTITIONS: [(&str, &str, &str); 6] = [
    ("cn-", "amazonaws.com.cn", "api.amazonwebservices.com.cn"),
    ("eusc-", "amazonaws.eu", "api.amazonwebservices.eu"),
    ("us-iso-", "c2s.ic.gov", "api.aws.ic.gov"),
    ("us-isob-", "sc2s.sgov.gov", "api.aws.scloud"),
    ("eu-isoe-", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"),
    ("us-isof-", "csp.hci.ic.gov", "api.aws.hci.ic.gov"),
];

/// Refuses the name of an availability zone, which people take for that of its Region.
pub fn check_region(text: &str) -> Result<(), String> {
    let Some(name) = text.strip_suffix(|c: char| c.is_ascii_lowercase()) else {
        return Ok(());
    };
    // us-east-1a, us-west-2-lax-1a: letters and hyphens up to the first number are the Region's.
    let parts: Vec<&str> = name.split('-').collect();
    let number = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let word = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase());
    match parts.iter().position(number) {
        Some(at) if at >= 2 && parts[..at].iter().all(word) && parts.last().is_some_and(number) => {
            let region = parts[..=at].join("-");
            Err(format!("{text} is an availability zone; the Region is {region}"))
        }
        _ => Ok(()),
    }
}

/// The URL of `service` in `region`, which must be a name of lower-case letters,
/// digits and hyphens, since it becomes part of a host name.
pub fn url(service: Service, region: &str, dual_stack: bool, fips: bool) -> Result<String, String> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if region.is_empty() || region.len() > 40 || !region.bytes().all(fits) {
        return Err(format!("\"{}\" is no Region", region.escape_debug()));
    }
    let (suffix, dual_suffix) = PARTITIONS
        .iter()
        .find(|p| region.starts_with(p.0))
        .map_or(("amazonaws.com", "api.aws"), |p| (p.1, p.2));
    // GovCloud's ordinary endpoints are its FIPS endpoints.
    let fips = match fips && (dual_stack || !region.starts_with("us-gov-")) {
        true => "-fips",
        false => "",
    };
    let suffix = if dual_stack { dual_suffix } else { suffix };
    Ok(format!("https://{}{fips}.{region}.{suffix}", service.name()))
}

/// A URL's parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The whole of it, to send to.
    pub url: String,
    pub https: bool,
    /// The `Host` header: without the scheme's default port, which clients leave out.
    pub host: String,
    /// `/` when there is none.
    pub path: String,
}

/// Splits an http or https URL without user, query and fragment.
pub fn split(url: &str) -> Result<Endpoint, String> {
    let bad = || format!("\"{}\" is no http or https URL", url.escape_debug());
    let (https, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (_, Some(rest)) => (false, rest),
        _ => return Err(bad()),
    };
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let plain = rest
        .bytes()
        .all(|b| b.is_ascii_graphic() && !b"@?#\"\\<>^`{|}".contains(&b));
    let host = match https {
        true => authority.strip_suffix(":443"),
        false => authority.strip_suffix(":80"),
    };
    let host = host.unwrap_or(authority);
    if host.is_empty() || host.starts_with(':') || !plain {
        return Err(bad());
    }
    Ok(Endpoint {
        url: format!("{}://{host}{path}", if https { "https" } else { "http" }),
        https,
        host: host.to_string(),
        path: path.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_by_partition() {
        for (region, dual, fips, host) in [
            ("us-east-1", false, false, "ec2.us-east-1.amazonaws.com"),
            ("us-east-1", true, false, "ec2.us-east-1.api.aws"),
            ("us-east-1", false, true, "ec2-fips.us-east-1.amazonaws.com"),
            ("us-east-1", true, true, "ec2-fips.us-east-1.api.aws"),
            ("us-gov-west-1", false, true, "ec2.us-gov-west-1.amazonaws.com"),
            ("us-gov-west-1", true, true, "ec2-fips.us-gov-west-1.api.aws"),
            ("cn-north-1", false, false, "ec2.cn-north-1.amazonaws.com.cn"),
            (
                "cn-north-1",
                true,
                false,
                "ec2.cn-north-1.api.amazonwebservices.com.cn",
            ),
            ("eusc-de-east-1", false, false, "ec2.eusc-de-east-1.amazonaws.eu"),
            ("us-iso-east-1", false, false, "ec2.us-iso-east-1.c2s.ic.gov"),
            ("us-isob-east-1", false, false, "ec2.us-isob-east-1.sc2s.sgov.gov"),
            (
                "eu-isoe-west-1",
                true,
                false,
                "ec2.eu-isoe-west-1.api.cloud-aws.adc-e.uk",
            ),
            (
                "us-isof-south-1",
                false,
                false,
                "ec2.us-isof-south-1.csp.hci.ic.gov",
            ),
        ] {
            let url = url(Service::Ec2, region, dual, fips).unwrap();
            assert_eq!(url, format!("https://{host}"));
        }
        assert_eq!(
            url(Service::Autoscaling, "eu-west-1", false, false).unwrap(),
            "https://autoscaling.eu-west-1.amazonaws.com"
        );
    }

    #[test]
    fn a_region_that_is_no_host_name_is_refused() {
        for region in ["", "evil.example/", "US-EAST-1", "a b", &"a".repeat(41)] {
            assert!(url(Service::Ec2, region, false, false).is_err(), "{region}");
        }
    }

    #[test]
    fn a_zone_is_no_region() {
        for (zone, region) in [
            ("us-east-1a", "us-east-1"),
            ("us-gov-west-1b", "us-gov-west-1"),
            ("us-west-2-lax-1a", "us-west-2"),
        ] {
            let text = format!("{zone} is an availability zone; the Region is {region}");
            assert_eq!(check_region(zone), Err(text));
        }
        for region in [
            "us-east-1",
            "eu-isoe-west-1",
            "local",
            "zone-1a",
            "RegionOne",
            "a",
            "",
        ] {
            assert_eq!(check_region(region), Ok(()), "{region}");
        }
    }

    #[test]
    fn urls_split() {
        for (url, host, path) in [
            ("http://127.0.0.1:5000", "127.0.0.1:5000", "/"),
            ("http://127.0.0.1:80/x/", "127.0.0.1", "/x/"),
            ("https://ec2.local:443", "ec2.local", "/"),
            ("https://ec2.local:80/", "ec2.local:80", "/"),
            ("http://[::1]:5000/", "[::1]:5000", "/"),
        ] {
            let parts = split(url).unwrap();
            assert_eq!((parts.host.as_str(), parts.path.as_str()), (host, path));
        }
        for url in [
            "",
            "ftp://a",
            "http://",
            "https://:443",
            "http://u@h",
            "http://h?q",
            "http://a b",
        ] {
            assert!(split(url).is_err(), "{url}");
        }
    }
}
