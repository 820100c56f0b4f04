//! A trace as CloudWatch tells of it: the JSON that `aws cloudwatch get-metric-statistics` and
//! `get-metric-data` print (Amazon CloudWatch API Reference). Its rows are in no order.

use super::formats::Row;
use super::timestamps::Clock;
use crate::core::text::json;
use crate::core::text::value::Value;

/// The rows, by their times. The error is the line, from 1 or 0 for none, and what is wrong.
pub fn rows(text: &str, clock: &mut Clock) -> Result<Vec<Row>, (usize, String)> {
    let document = json::parse(text).map_err(|why| (0, why))?;
    let mut place = Place { text, at: 0, line: 1 };
    let mut rows = Vec::new();
    for (stamp, value) in points(&document).map_err(|why| (0, why))? {
        let line = place.of(stamp);
        let begin = clock
            .read(stamp)
            .ok_or_else(|| (line, format!("`{}` is not a time", stamp.escape_default())))?;
        let percent = value
            .parse()
            .ok()
            .filter(|n| (0.0..=100.5).contains(n))
            .ok_or_else(|| (line, format!("`{value}` is not a percentage from 0 to 100")))?;
        rows.push(Row {
            line,
            begin,
            end: None,
            percent: f64::min(percent, 100.0),
            machines: 1,
        });
    }
    rows.sort_by_key(|row| row.begin);
    Ok(rows)
}

/// Time and value of each point, in the order of the text.
fn points(document: &Value) -> Result<Vec<(&str, &str)>, String> {
    let none =
        || "is JSON, but none of `aws cloudwatch get-metric-statistics` or get-metric-data".to_string();
    let Value::Map(map) = document else {
        return Err(none());
    };
    match (map.get("Datapoints"), map.get("MetricDataResults")) {
        (Some(Value::List(points)), _) => points
            .iter()
            .map(|point| match (point.text("Timestamp"), field(point, "Average")) {
                ("", _) => Err("a point without Timestamp".to_string()),
                (stamp, Some(Value::Number(value))) => Ok((stamp, value.as_str())),
                _ => Err("a point without Average; ask for it: --statistics Average".to_string()),
            })
            .collect(),
        (_, Some(Value::List(metrics))) => match &metrics[..] {
            [metric] => match (field(metric, "Timestamps"), field(metric, "Values")) {
                (Some(Value::List(stamps)), Some(Value::List(values))) if stamps.len() == values.len() => {
                    let both = stamps.iter().zip(values);
                    both.map(|(stamp, value)| pair(stamp, value).ok_or_else(none))
                        .collect()
                }
                _ => Err(none()),
            },
            several => Err(format!("has {} metrics; ask for one", several.len())),
        },
        _ => Err(none()),
    }
}

fn pair<'a>(stamp: &'a Value, value: &'a Value) -> Option<(&'a str, &'a str)> {
    match (stamp, value) {
        (Value::Text(stamp), Value::Number(value)) => Some((stamp, value)),
        _ => None,
    }
}

fn field<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Map(map) => map.get(key),
        _ => None,
    }
}

/// Where in the text the next point stands.
struct Place<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

impl Place<'_> {
    /// The line of the next `stamp`.
    fn of(&mut self, stamp: &str) -> usize {
        let rest = &self.text[self.at..];
        if let Some(found) = rest.find(stamp) {
            self.line += rest[..found].matches('\n').count();
            self.at += found + stamp.len();
        }
        self.line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Points = Vec<(usize, i64, f64)>;

    fn read(text: &str) -> Result<Points, (usize, String)> {
        let rows = rows(text, &mut Clock::default())?;
        Ok(rows.iter().map(|r| (r.line, r.begin / 1000, r.percent)).collect())
    }

    #[test]
    fn rows_come_in_order() {
        let text = r#"{
    "Label": "CPUUtilization",
    "Datapoints": [
        {"Timestamp": "1970-01-01T00:10:00+00:00", "Average": 31.5, "Unit": "Percent"},
        {
            "Timestamp": "1970-01-01T00:00:00Z",
            "Average": 100.0000001,
            "Unit": "Percent"
        },
        {"Timestamp": "1970-01-01T00:05:00Z", "Average": 4.5e-1, "Maximum": 9, "Unit": "Percent"}
    ]
}"#;
        assert_eq!(
            read(text).unwrap(),
            [(6, 0, 100.0), (10, 300, 0.45), (4, 600, 31.5)]
        );
        let data = r#"{"MetricDataResults": [{"Id": "m1", "Label": "CPUUtilization",
            "Timestamps": ["1970-01-01T00:05:00Z", "1970-01-01T00:00:00Z"], "Values": [2, 1],
            "StatusCode": "Complete"}], "Messages": []}"#;
        assert_eq!(read(data).unwrap(), [(2, 0, 1.0), (2, 300, 2.0)]);
    }

    #[test]
    fn complaints_say_what_to_do() {
        for (text, line, words) in [
            ("{}", 0, "get-metric-statistics"),
            ("{\"Datapoints\": [", 0, "invalid JSON"),
            (
                "{\"Datapoints\": [{\"Timestamp\": \"x\", \"Maximum\": 1}]}",
                0,
                "--statistics Average",
            ),
            (
                "{\"Datapoints\": [\n{\"Timestamp\": \"x\", \"Average\": 1}]}",
                2,
                "`x` is not a time",
            ),
            (
                "{\"Datapoints\": [{\"Timestamp\": \"1970-01-01T00:10:00Z\", \"Average\": 101}]}",
                1,
                "`101` is not a percentage",
            ),
            ("{\"MetricDataResults\": [{}, {}]}", 0, "has 2 metrics"),
        ] {
            let (at, why) = read(text).unwrap_err();
            assert!(at == line && why.contains(words), "{text}: {at}: {why}");
        }
    }
}
