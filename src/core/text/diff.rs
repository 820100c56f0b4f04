//! A unified diff of two texts, as `diff -u` prints it.

/// Lines of context around a change.
const CONTEXT: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edit {
    Keep,
    Delete,
    Insert,
}

/// The unified diff from `old` to `new`; empty when they are equal.
pub fn unified(old_name: &str, old: &str, new_name: &str, new: &str) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) = (
        old.split_inclusive('\n').collect(),
        new.split_inclusive('\n').collect(),
    );
    let edits = edits(&a, &b);
    let mut out = String::new();
    let mut i = 0;
    // How many lines of each text lie before edit `i`.
    let (mut in_a, mut in_b) = (0, 0);
    while let Some(change) = edits[i..].iter().position(|e| *e != Edit::Keep).map(|p| p + i) {
        let start = change.saturating_sub(CONTEXT).max(i);
        in_a += start - i;
        in_b += start - i;
        let end = hunk_end(&edits, change);
        let hunk = &edits[start..end];
        let count = |drop: Edit| hunk.iter().filter(|e| **e != drop).count();
        let (from_a, from_b) = (count(Edit::Insert), count(Edit::Delete));
        if out.is_empty() {
            out += &format!("--- {old_name}\n+++ {new_name}\n");
        }
        out += &format!("@@ -{} +{} @@\n", range(in_a, from_a), range(in_b, from_b));
        for edit in hunk {
            match edit {
                Edit::Keep => push(&mut out, ' ', a[in_a]),
                Edit::Delete => push(&mut out, '-', a[in_a]),
                Edit::Insert => push(&mut out, '+', b[in_b]),
            }
            in_a += usize::from(*edit != Edit::Insert);
            in_b += usize::from(*edit != Edit::Delete);
        }
        i = end;
    }
    out
}

/// One line; what lacks its line feed is marked as `patch` expects it.
fn push(out: &mut String, mark: char, line: &str) {
    out.push(mark);
    out.push_str(line);
    if !line.ends_with('\n') {
        out.push_str("\n\\ No newline at end of file\n");
    }
}

/// Where the hunk with the change at `change` ends: changes that share context are one hunk.
fn hunk_end(edits: &[Edit], change: usize) -> usize {
    let mut last = change;
    for (at, edit) in edits.iter().enumerate().skip(change) {
        if *edit != Edit::Keep {
            last = at;
        } else if at - last > 2 * CONTEXT {
            break;
        }
    }
    (last + 1 + CONTEXT).min(edits.len())
}

fn range(before: usize, count: usize) -> String {
    match count {
        0 => format!("{before},0"),
        1 => format!("{}", before + 1),
        _ => format!("{},{count}", before + 1),
    }
}

/// The shortest way from `a` to `b`, found from its furthest points on each diagonal (Myers,
/// "An O(ND) difference algorithm", 1986).
fn edits(a: &[&str], b: &[&str]) -> Vec<Edit> {
    let offset = a.len() + b.len() + 1;
    let mut furthest = vec![0; 2 * offset + 1];
    let mut trail: Vec<Vec<usize>> = Vec::new();
    'search: for d in 0..offset {
        trail.push(furthest[offset - d..=offset + d].to_vec());
        for k in (offset - d..=offset + d).step_by(2) {
            let down = k == offset - d || (k != offset + d && furthest[k - 1] < furthest[k + 1]);
            let mut x = if down {
                furthest[k + 1]
            } else {
                furthest[k - 1] + 1
            };
            let mut y = x + offset - k;
            while x < a.len() && y < b.len() && a[x] == b[y] {
                x += 1;
                y += 1;
            }
            furthest[k] = x;
            if x >= a.len() && y >= b.len() {
                break 'search;
            }
        }
    }
    walk_back(a.len(), b.len(), offset, &trail)
}

/// Follows the trail from the end to the beginning.
fn walk_back(mut x: usize, mut y: usize, offset: usize, trail: &[Vec<usize>]) -> Vec<Edit> {
    let mut edits = Vec::new();
    for (d, row) in trail.iter().enumerate().rev() {
        // `row` holds the diagonals from `offset - d` on, as they were before round `d`.
        let furthest = |k: usize| row.get(k + d - offset).copied().unwrap_or(0);
        let k = x + offset - y;
        if d == 0 {
            edits.extend(std::iter::repeat_n(Edit::Keep, x));
            break;
        }
        let down = k == offset - d || (k != offset + d && furthest(k - 1) < furthest(k + 1));
        let from = if down { k + 1 } else { k - 1 };
        let (start_x, start_y) = (furthest(from), furthest(from) + offset - from);
        let (after_x, edit) = if down {
            (start_x, Edit::Insert)
        } else {
            (start_x + 1, Edit::Delete)
        };
        edits.extend(std::iter::repeat_n(Edit::Keep, x - after_x));
        edits.push(edit);
        (x, y) = (start_x, start_y);
    }
    edits.reverse();
    edits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_line_added_amid_many() {
        let old = "1\n2\n3\n4\n5\n6\n7\n8\n";
        let new = "1\n2\n3\n4\nx\n5\n6\n7\n8\n";
        assert_eq!(
            unified("a", old, "b", new),
            "--- a\n+++ b\n@@ -2,6 +2,7 @@\n 2\n 3\n 4\n+x\n 5\n 6\n 7\n"
        );
        assert_eq!(unified("a", old, "b", old), "");
        let cut = unified("a", "1\n2", "b", "1\n2\n");
        assert_eq!(
            cut,
            "--- a\n+++ b\n@@ -1,2 +1,2 @@\n 1\n-2\n\\ No newline at end of file\n+2\n"
        );
    }

    #[test]
    fn far_changes_are_two_hunks() {
        let old: String = (0..30).map(|n| format!("{n}\n")).collect();
        let new = old.replace("2\n3\n", "3\n").replace("27\n", "y\n");
        assert_eq!(unified("a", &old, "b", &new).matches("@@ -").count(), 2);
    }

    proptest! {
        #[test]
        fn it_says_exactly_what_patch_needs(old in "[abc\n]{0,40}", new in "[abc\n]{0,40}") {
            let (a, b): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
            let (mut x, mut y) = (0, 0);
            for edit in edits(&a, &b) {
                match edit {
                    Edit::Keep => {
                        prop_assert_eq!(a[x], b[y]);
                        x += 1;
                        y += 1;
                    }
                    Edit::Delete => x += 1,
                    Edit::Insert => y += 1,
                }
            }
            prop_assert_eq!((x, y), (a.len(), b.len()));
            prop_assert_eq!(unified("a", &old, "b", &new).is_empty(), old == new);
        }
    }
}
