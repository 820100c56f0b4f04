use super::*;

#[test]
fn reads_what_ec2_writes() {
    let root = parse(
        b"\xef\xbb\xbf<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!-- c -->\n\
          <R xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\" a='1>2'>\n  <set>\n    \
          <item><k>a&amp;b&#x20;&#233;</k><e/></item>\n <item><k><![CDATA[<&>]]></k></item>\n\
          </set >\n</R>\n",
    )
    .unwrap();
    assert_eq!(root.name, "R");
    assert_eq!(root.text, "");
    let items: Vec<&str> = root.items(&["set"]).map(|i| i.text_at(&["k"])).collect();
    assert_eq!(items, ["a&b \u{e9}", "<&>"]);
    assert_eq!(root.text_at(&["set", "item", "e"]), "");
    assert_eq!(root.text_at(&["nothing", "here"]), "");
    assert_eq!(root.items(&["nothing"]).count(), 0);
}

#[test]
fn prefixes_are_cut() {
    assert_eq!(parse(b"<n:a><n:b>1</n:b></n:a>").unwrap().text_at(&["b"]), "1");
}

#[test]
fn every_cut_of_a_document_is_an_error() {
    let text = "<?xml version='1.0'?><a x='1'><b>t&amp;é</b><!--c--><c/><![CDATA[d]]></a>";
    assert!(parse(text.as_bytes()).is_ok());
    for end in 0..text.len() {
        assert!(parse(&text.as_bytes()[..end]).is_err(), "{end}");
    }
}

#[test]
fn broken_documents_are_errors() {
    for text in [
        "",
        "   ",
        "text",
        "<a>",
        "</a>",
        "<a></b>",
        "<a/><b/>",
        "<a/>x",
        "<a",
        "<a b>",
        "<a b=1/>",
        "<a b='<'/>",
        "<a b='1'c='2'/>",
        "<a>&nope;</a>",
        "<a>&amp</a>",
        "<a>&#xZ;</a>",
        "<a>&#+65;</a>",
        "<a>&#0;</a>",
        "<a>&#xD800;</a>",
        "<a>&#x110000;</a>",
        "<a>\u{1}</a>",
        "<!DOCTYPE a><a/>",
        "<a><?pi?></a>",
        "<a><!-- </a>",
        "<1/>",
        "< a/>",
        "<![CDATA[x]]>",
        "<a b='&x;'/>",
        "<a><b></a></b>",
    ] {
        assert!(parse(text.as_bytes()).is_err(), "{text}");
    }
    assert!(parse(b"<a>\xff</a>").is_err());
}

#[test]
fn bounds_hold() {
    let nest = |n: usize| "<a>".repeat(n) + &"</a>".repeat(n);
    assert!(parse(nest(MAX_DEPTH).as_bytes()).is_ok());
    assert!(parse(nest(MAX_DEPTH + 1).as_bytes()).is_err());
    assert!(parse("<a>".repeat(1_000_000).as_bytes()).is_err());
    let wide = format!("<a>{}</a>", "<b/>".repeat(MAX_ELEMENTS));
    assert!(parse(wide.as_bytes()).is_err());
    assert!(parse(&vec![b' '; MAX_SIZE + 1]).is_err());
}

/// Changes single bytes of a document: whatever comes out, nothing panics.
#[test]
fn no_change_of_a_byte_panics() {
    let text = b"<?xml version='1.0'?><a x='1'><b>t&amp;&#233;</b><!--c--><c/><![CDATA[d]]></a>";
    for at in 0..text.len() {
        for byte in [
            0, b'<', b'>', b'&', b';', b'\'', b'/', b'!', b'?', b'x', 0x80, 0xff,
        ] {
            let mut changed = text.to_vec();
            changed[at] = byte;
            let _ = parse(&changed);
        }
    }
}
