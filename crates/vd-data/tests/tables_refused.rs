//! Tables of captions that are refused, and the error messages.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;

use common::{clips, read};
use vd_data::{Captions, Folder};

/// Expects each text to be refused as a table of this name.
fn assert_refused(name: &str, cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let error = read(name, text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn what_is_wrong_with_a_csv_is_said_with_its_place() {
    let cases = [
        ("", "t.csv: expected a header with a column `file`, found nothing"),
        (
            "\nname,caption\n",
            "line 2: expected a header with a column `file`, found the columns name, caption",
        ),
        ("file,a,a\n", "line 1: expected every column once, found `a` twice"),
        ("file,,a\n", "line 1: expected a name for every column"),
        ("file,a\n0.gif,1\n\n1.gif\n", "line 4: expected 2 fields, as in the header, found 1"),
        ("file,a\n,1\n", "line 2, column `file`: expected the path of a clip"),
        (
            "file\n0.gif\n./0.gif\n",
            "line 3, column `file`: expected each file once, found \"./0.gif\" a second time, first in line 2",
        ),
        ("file,a\n0.gif,\"x\n1.gif,y\n", "line 2: expected a quote that is closed"),
        // the quote in another row would close it
        (
            "file,a\n0.gif,\"x\n1.gif,\"y\"\n\"sub/2,x.gif\",z\n",
            "line 2: expected a quote that is closed at the end of its field",
        ),
        (
            "file,a\n0.gif,\"x \"\"\n\"\n1.gif,\"y\n\"sub/2,x.gif\",\"z\"\n",
            "line 4: expected a quote that is closed at the end of its field",
        ),
        ("file,a\n\n", "t.csv: expected a row for each clip, found only a header"),
        (
            "file\nx.gif\n0.gif\ny.mp4\n",
            "column `file`: expected paths of clips below the folder of the data set, found 2 without a clip: \"x.gif\" (line 2), \"y.mp4\" (line 4)",
        ),
    ];
    assert_refused("t.csv", &cases);
}

#[test]
fn what_is_wrong_with_json_lines_is_said_with_its_place() {
    let cases = [
        ("\n", "t.jsonl: expected a JSON object with a key `file` on each line, found nothing"),
        (
            "{\"file\": \"0.gif\"}\n\n{\"file\": 0.gif}",
            "line 3: expected a JSON object on one line, found invalid number at character 12",
        ),
        ("[1]", "line 1: expected a JSON object on one line, found invalid type"),
        ("{\"caption\": \"a\"}", "line 1, column `file`: expected the path of a clip"),
        (
            "{\"file\": 0}",
            "line 1, column `file`: expected the path of a clip, a text, found another value",
        ),
        (
            "{\"file\": \"0.gif\", \"a\": {}}",
            "line 1, column `a`: expected a number, a text, or a list of numbers or of lists of them, found an object",
        ),
        (
            "{\"file\": \"0.gif\", \"a\": [[1, 2], [3]]}",
            "found 1 numbers at position 1 of a list that begins with 2",
        ),
        ("{\"file\": \"0.gif\", \"a\": [1, \"b\"]}", "found \"b\" instead of a number"),
        ("{\"file\": \"0.gif\", \"a\": []}", "found an empty list"),
    ];
    assert_refused("t.jsonl", &cases);
}

#[test]
fn what_is_no_table_or_too_large_for_one_is_refused() {
    assert_refused(
        "t.txt",
        &[("file\n", "expected a .csv or a .jsonl file, found one that ends in \"txt\"")],
    );
    let error = read("t.csv", b"file,caption\n0.gif,\xff\n").unwrap_err();
    assert!(error.contains("line 2: expected text in UTF-8"), "{error}");
    let long = format!("file,caption\n0.gif,{}\n", "x".repeat(65_537));
    let error = read("t.csv", long).unwrap_err();
    assert!(error.contains("column `caption`: expected at most 65536 bytes"), "{error}");
    let many = (0..8).map(|k| format!("none {k}.gif\n")).collect::<String>();
    let error = read("t.csv", format!("file\n{many}")).unwrap_err();
    assert!(error.contains("found 8 without") && error.contains("and 3 more"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    clips(dir.path());
    let none = Captions::Table("none.csv".into());
    let error = Folder::scan_with(dir.path(), &none, 0).unwrap_err().to_string();
    assert!(error.contains("none.csv: cannot be read"), "{error}");
    // too large to be read, whatever its content
    let file = fs::File::create(dir.path().join("large.csv")).unwrap();
    file.set_len((256 << 20) + 1).unwrap();
    let large = Captions::Table("large.csv".into());
    let error = Folder::scan_with(dir.path(), &large, 0).unwrap_err().to_string();
    assert!(error.contains("at most 268435456 bytes"), "{error}");
}
